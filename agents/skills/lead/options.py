"""What could be done next, each option by a rule over measured figures, and the order of them.

`gain` is the loss per case that would go (share of wrong answers, or units of absolute error), and it is the most an
option can bring: that of a group doing as well as the others, of every doubtful label being wrong, of the next doubling
of the rows cutting the same share of the errors as the last. Options whose gain nothing measures come last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.ticket import Ticket

PEOPLE_DAYS = {"data": 5.0, "labels": 2.0, "look": 1.0, "model": 2.0, "rule": 1.0, "question": 0.5}
"""Days of people's work taken for each kind of option: an assumption, for whoever decides to correct."""

_BY_CAUSE = {
    "values are missing": ("Fill in what is missing", "data", "low: the column exists already", "retrain"),
    "few rows to learn from": (
        "Collect rows", "data", "medium: rows collected on purpose may differ from others", "retrain",
    ),
    "the columns do not tell these rows apart": (
        "Find a column that tells rows apart", "data", "medium: there may be none, or it comes too late to decide by",
        "ml-delivery",
    ),
    "one answer is given too often": ("Look at the labels", "labels", "low", "retrain"),
    "predictions lie to one side": (
        "Model the shift", "model", "medium: a correction that follows the past misleads when the world turns",
        "ml-delivery",
    ),
    "the target varies more here": ("Find out what moves the target", "look", "low", ""),
}  # fmt: skip
"""What to do, what kind of work it is, its risk, and the pipeline that carries it on."""
_LOOK = ("Look at the errors with somebody who knows the field", "look", "low", "")


@dataclass(frozen=True)
class Option:
    """Something to do. `gain` None: nothing measures it. `pipeline` is what would do the work, empty for people."""

    id: str
    title: str
    rule: str
    evidence: str
    gain: float | None
    certain: bool
    days: float
    risk: str
    pipeline: str = ""

    def as_dict(self, usd_per_error: float | None, retrain_usd: float) -> dict[str, Any]:
        """For JSON. `usd_per_error` is dollars a year for one unit of loss per case, None if nobody gave them."""
        known = self.gain is not None and usd_per_error is not None
        return {
            "id": self.id,
            "title": self.title,
            "rule": self.rule,
            "evidence": self.evidence,
            "gain": self.gain,
            "certain": self.certain,
            "usd_per_year": self.gain * usd_per_error if known else None,  # type: ignore[operator]
            "cost": {"people_days": self.days, "compute_usd": retrain_usd if self.pipeline else 0.0},
            "risk": self.risk,
            "pipeline": self.pipeline,
        }


def options(
    analysis: Mapping[str, Any], costs: Mapping[str, Any], impact: Mapping[str, Any], brief: Mapping[str, Any] | None
) -> tuple[Option, ...]:
    """Every option whose rule holds, best first: certain gains before possible ones, larger before smaller."""
    found = [
        *_groups(analysis), *_rows(analysis), *_labels(analysis), *_simple(impact, brief), *_slices(analysis),
        *_probabilities(analysis), *_idle(analysis), *_drift(analysis), *_costly(costs, impact),
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda o: (o.gain is None, not o.certain, -(o.gain or 0.0), o.id)))


def _groups(analysis: Mapping[str, Any]) -> Iterator[Option]:
    for index, group in enumerate(analysis["error_groups"], 1):
        if group["weight"] <= 0.0:
            continue
        what, kind, risk, pipeline = _BY_CAUSE.get(group["cause"], _LOOK)
        yield Option(
            id=f"group-{index}",
            title=f"{what} where {group['condition']}",
            rule="a group that errs more than the others; its gain is what would go if it did as well as they do",
            evidence=f"{group['loss']:.4g} errors there, {group['elsewhere']:.4g} elsewhere, {group['rows']} rows "
            f"measured; {group['cause']}: {group['evidence']}",
            gain=group["weight"],
            certain=group["clear"],
            days=PEOPLE_DAYS[kind],
            risk=risk,
            pipeline=pipeline,
        )


def _rows(analysis: Mapping[str, Any]) -> Iterator[Option]:
    more = analysis["more_rows"]
    if more["loss_gain"] > 0.0:
        yield Option(
            id="more-rows",
            title=f"Double the rows, from {analysis['rows']:,} on",
            rule="all rows did better than half of them; taken that the next doubling cuts an equal share",
            evidence=f"{more['loss_gain']:.4g} fewer errors per case with all rows than with half of them",
            gain=analysis["loss"] * more["loss_gain"] / (analysis["loss"] + more["loss_gain"]),
            certain=more["loss_gain_lower"] > 0.0,
            days=PEOPLE_DAYS["data"],
            risk="low, if they come from the same source",
            pipeline="retrain",
        )


def _labels(analysis: Mapping[str, Any]) -> Iterator[Option]:
    made = analysis["mistakes"]
    if made["count"] and analysis["unit"].startswith("share"):
        yield Option(
            id="labels",
            title=f"Check the labels of {made['count']} rows the model contradicts with confidence",
            rule="confident mistakes; at most all of them are wrong labels",
            evidence=f"{made['count']} of {analysis['rows']:,} rows {made['what']}",
            gain=made["share"],
            certain=False,
            days=PEOPLE_DAYS["labels"],
            risk="low: a label is changed only by somebody who knows the case",
            pipeline="retrain",
        )


def _simple(impact: Mapping[str, Any], brief: Mapping[str, Any] | None) -> Iterator[Option]:
    simple = (brief or {}).get("simple_way")
    if simple and simple["rule_loss"] <= impact["kpi"]["now"]:
        yield Option(
            id="simple-rule",
            title="Use the simple rule instead of the model",
            rule="the rule of few thresholds makes no more errors than the model",
            evidence=f"{simple['rule_loss']:.4g} errors per case by the rule, {impact['kpi']['now']:.4g} by the model: "
            + "; ".join(simple["rule"]),
            gain=impact["kpi"]["now"] - simple["rule_loss"],
            certain=False,
            days=PEOPLE_DAYS["rule"],
            risk="low: a person can carry the rule out and check it",
        )


def _slices(analysis: Mapping[str, Any]) -> Iterator[Option]:
    for index, part in enumerate((each for each in analysis["slices"] if each["clearly_worse"]), 1):
        own = part["gain"]["value"] <= 0.0
        yield Option(
            id=f"slice-{index}",
            title=f"Look at the rows with {part['column']} {part['values']}",
            rule="a slice clearly worse than all rows (Bonferroni)",
            evidence=f"{analysis['metric']} {part['value']:.4g} [{part['lower']:.4g}, {part['upper']:.4g}] on "
            f"{part['rows']} rows; "
            + ("a constant answer does no worse there" if own else "any model has it harder there"),
            gain=None,
            certain=True,
            days=PEOPLE_DAYS["look"],
            risk="low",
        )


def _probabilities(analysis: Mapping[str, Any]) -> Iterator[Option]:
    if analysis["ece"] is not None and analysis["ece"] > 0.05:
        yield Option(
            id="calibration",
            title="Calibrate the probabilities",
            rule="expected calibration error above 0.05",
            evidence=f"expected calibration error {analysis['ece']:.3f}",
            gain=None,
            certain=True,
            days=PEOPLE_DAYS["model"],
            risk="low: the order of the cases stays",
            pipeline="ml-delivery",
        )


def _idle(analysis: Mapping[str, Any]) -> Iterator[Option]:
    idle = [each["column"] for each in analysis["importance"] if each["loss"] <= 0.0]
    if idle and len(idle) < len(analysis["importance"]):
        yield Option(
            id="idle-columns",
            title=f"Leave {len(idle)} columns out: {', '.join(idle[:6])}",
            rule="shuffling the column loses nothing",
            evidence=f"{len(idle)} of {len(analysis['importance'])} columns; fewer inputs break and cost less",
            gain=0.0,
            certain=False,
            days=PEOPLE_DAYS["model"],
            risk="low: measured again before it is released",
            pipeline="ml-delivery",
        )


def _drift(analysis: Mapping[str, Any]) -> Iterator[Option]:
    important = {each["column"] for each in analysis["importance"] if each["clear"]}
    moved = [each for each in analysis["drift"] if each["column"] in important or not each["explanation"]]
    if moved:
        yield Option(
            id="drift",
            title=f"Find out how {', '.join(each['column'] for each in moved[:4])} will go on",
            rule="columns that matter or that nobody explained differ from the training rows",
            evidence="; ".join(
                f"{each['column']} by {each['distance']:.2f} ({each['explanation'] or 'unexplained'})"
                for each in moved[:4]
            ),
            gain=None,
            certain=True,
            days=PEOPLE_DAYS["question"],
            risk="medium: a model beyond its training rows guesses",
        )


def _costly(costs: Mapping[str, Any], impact: Mapping[str, Any]) -> Iterator[Option]:
    yearly, value = costs["prediction"]["usd_per_year"], impact["kpi"]["usd_per_year"]
    if yearly is not None and value is not None and yearly > 0.1 * value > 0.0:
        yield Option(
            id="cheaper-predictions",
            title="Make predictions cheaper",
            rule="a year's predictions cost more than a tenth of the value",
            evidence=f"{yearly:,.2f} USD a year against {value:,.2f} USD",
            gain=None,
            certain=True,
            days=PEOPLE_DAYS["model"],
            risk="low",
        )


def end_verdict(impact: Mapping[str, Any], brief: Mapping[str, Any] | None) -> tuple[bool, list[str]]:
    """Whether to stop using the model, and why: it does no better than before, or the simple rule does as well."""
    kpi = impact["kpi"]
    reasons = [f"{kpi['unit']}: {kpi['now']:.4g} now, {kpi['before']:.4g} before ({kpi['before_from']})"]
    stop = kpi["now"] >= kpi["before"]
    simple = (brief or {}).get("simple_way")
    if simple:
        reasons.append(f"the simple rule makes {simple['rule_loss']:.4g} errors per case")
        stop = stop or simple["rule_loss"] <= kpi["now"]
    if not impact["kept"]:
        reasons.append("the promise was not kept in use")
        stop = True
    return stop, reasons


def draft(ticket: Ticket, option: Option, unit: str) -> dict[str, Any]:
    """The front matter of a ticket that would do it. A person fills in the rest and takes it into the backlog."""
    gain = "not measured" if option.gain is None else f"at most {option.gain:.4g} ({unit}) per case"
    named = {
        "title": option.title[:200],
        "labels": ["Task"],
        "pipeline": option.pipeline,
        "data": ticket.data,
        "target": ticket.target,
        "metric": ticket.metric,
        "groups": ticket.groups,
        "time": ticket.time,
        "risk": ticket.risk.value,
    }
    head = {name: value for name, value in named.items() if value}
    return {"head": head, "body": f"From ticket {ticket.id}. {option.evidence}. Gain: {gain}. Risk: {option.risk}."}
