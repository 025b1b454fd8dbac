"""What a solution would be worth: a range from what the simple way surely avoids to what a perfect answer would."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from agents.skill import InputError
from agents.skills.data.markdown import figure
from agents.skills.lead.simple_way import SimpleWay
from agents.skills.lead.statement import FROM_TICKET, Statement

FORMULA = "value per year = cases per year x errors avoided per case x cost of an error"


@dataclass(frozen=True)
class Estimate:
    """Errors avoided per case (a share of cases, or units of absolute error) and, where the ticket gives the numbers,
    US dollars a year. None is what nobody said or measured."""

    classes: bool
    errors_today: float | None
    errors_today_stated: bool
    avoided_low: float | None
    avoided_high: float | None
    cases_per_year: float | None
    cost_of_an_error: float | None
    assumptions: tuple[str, ...]

    @property
    def usd_low(self) -> float | None:
        """Dollars a year if only the errors the simple way avoids are avoided."""
        return self._usd(self.avoided_low)

    @property
    def usd_high(self) -> float | None:
        """Dollars a year if every error is avoided."""
        return self._usd(self.avoided_high)

    def _usd(self, avoided: float | None) -> float | None:
        if avoided is None or self.cases_per_year is None or self.cost_of_an_error is None:
            return None
        return self.cases_per_year * avoided * self.cost_of_an_error

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self),
            "assumptions": list(self.assumptions),
            "formula": FORMULA,
            "usd_low": self.usd_low,
            "usd_high": self.usd_high,
        }

    @property
    def text(self) -> str:
        """One line for people."""
        if self.usd_low is not None and self.usd_high is not None:
            return f"{figure(round(self.usd_low))} to {figure(round(self.usd_high))} USD a year"
        if self.avoided_high is None:
            return "not estimated: no data and no figure of errors today"
        unit = "errors in 1,000 cases" if self.classes else "units of error in 1,000 cases"
        low = 1000 * (self.avoided_low or 0.0)
        return (
            f"{figure(round(low, 1))} to {figure(round(1000 * self.avoided_high, 1))} {unit} avoided; no money stated"
        )


def estimate(statement: Statement, simple: SimpleWay | None, classes: bool) -> Estimate:
    """The estimate from the ticket's numbers and the measured simple way. Raises InputError for what is no number."""
    said = statement.number("errors today")
    if classes and said is not None and said > 1:
        raise InputError(f"the ticket says errors today are {said:g} per case, more than all", "write `12 %` or `0.12`")
    cases, cost = statement.number("cases per year"), statement.number("cost of an error")
    assumptions = []
    today = said
    if said is not None:
        assumptions.append(f"errors today: {figure(said)} per case, {FROM_TICKET}")
    elif simple is not None:
        today = simple.constant_loss
        assumptions.append(
            f"errors today: nobody said; taken as those of one constant answer, {figure(today)} per case"
        )
    if simple is not None and today is not None:
        assumptions.append(f"low end: the errors the simple rule avoids (it makes {figure(simple.rule_loss)} per case)")
    if today is not None:
        assumptions.append("high end: every error is avoided, which no model does")
    for name, value, unit in (("cases per year", cases, ""), ("cost of an error", cost, " USD")):
        assumptions.append(
            f"{name}: {figure(value)}{unit}, {FROM_TICKET}" if value is not None else f"{name}: nobody said"
        )
    assumptions.append("every error costs the same")
    return Estimate(
        classes=classes,
        errors_today=today,
        errors_today_stated=said is not None,
        avoided_low=None if simple is None or today is None else max(0.0, today - simple.rule_loss),
        avoided_high=today,
        cases_per_year=cases,
        cost_of_an_error=cost,
        assumptions=tuple(assumptions),
    )
