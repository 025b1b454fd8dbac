"""How many model servers a load needs, and what they cost: pure arithmetic over measured and stated figures."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Any

HOURS = 730.0
"""Hours of a month: 8,760 / 12."""
ROOM = 0.7
"""The share of what one server was measured to carry that it is planned to carry: a load may grow by two fifths
while another server starts."""
LEAST = 2
"""Servers at rest: one can be replaced while the other answers."""


@dataclass(frozen=True)
class Demand:
    """What is asked of the service.

    `per_replica` are the requests a second that one server carried within the latency limit (measured), `peak` the most
    requests a second that are expected, `mean` those of an ordinary second (None: not said). `usd_per_hour` is the
    price of one server, `usd_per_month` what serving may cost (None: not said). All above zero; `mean` may be zero.
    """

    per_replica: float
    peak: float
    mean: float | None = None
    usd_per_hour: float | None = None
    usd_per_month: float | None = None

    @property
    def target(self) -> float:
        """Requests a second that each server is planned to carry."""
        return self.per_replica * ROOM

    def replicas(self, load: float) -> int:
        """Servers for `load` requests a second, at least LEAST."""
        return max(LEAST, ceil(round(load / self.target, 9)))

    def usd(self, replicas: int) -> float | None:
        """US dollars that `replicas` cost in a month in which all of them run all the time; None without a price."""
        return None if self.usd_per_hour is None else replicas * self.usd_per_hour * HOURS

    @property
    def affordable(self) -> int | None:
        """Servers that the budget pays for all month; None where budget or price was not said."""
        if self.usd_per_hour is None or self.usd_per_month is None:
            return None
        return floor(round(self.usd_per_month / (self.usd_per_hour * HOURS), 9))


@dataclass(frozen=True)
class Plan:
    """Servers at rest and at most, and whether the budget pays for what the greatest load needs.

    `carried` are the requests a second that the most servers carry as planned, with the room that ROOM leaves.
    """

    least: int
    most: int
    needed: int
    affordable: int | None
    carried: float

    @property
    def fits(self) -> bool:
        """Whether the budget pays for all servers that the greatest load needs; yes where there is none."""
        return self.affordable is None or self.needed <= self.affordable


def plan(demand: Demand) -> Plan:
    """As many servers as the loads need, and never more than the budget pays for if all of them ran all month.

    Raises ValueError when the budget pays for no server at all.
    """
    needed, affordable = demand.replicas(demand.peak), demand.affordable
    most = needed if affordable is None else min(needed, affordable)
    if most < 1:
        raise ValueError("the budget pays for no server")
    least = min(most, demand.replicas(demand.mean or 0.0))
    return Plan(least, most, needed, affordable, most * demand.target)


@dataclass(frozen=True)
class Row:
    """One load of the table: the servers it needs and those the plan gives it, how much of them it uses (share of
    what they were measured to carry), and US dollars a month for them and for the part that idles."""

    load: float
    needed: int
    given: int
    used: float
    usd: float | None
    idle_usd: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "requests_per_second": round(self.load, 6), "needed": self.needed, "given": self.given,
            "used": round(self.used, 4), "usd_per_month": _cents(self.usd),
            "idle_usd_per_month": _cents(self.idle_usd),
        }  # fmt: skip


def rows(demand: Demand, chosen: Plan) -> list[Row]:
    """The table: no load, an ordinary second, tenths of the greatest load, and half more than expected."""
    loads = {0.0, demand.peak * 1.5, *(demand.peak * tenth / 10 for tenth in range(1, 11))}
    if demand.mean is not None:
        loads.add(demand.mean)
    return [row(demand, chosen, load) for load in sorted(loads)]


def row(demand: Demand, chosen: Plan, load: float) -> Row:
    """What the plan does at `load` requests a second, if that load lasted all month."""
    needed = demand.replicas(load)
    given = min(max(needed, chosen.least), chosen.most)
    used = load / (given * demand.per_replica)
    usd = demand.usd(given)
    return Row(load, needed, given, used, usd, None if usd is None else usd * max(0.0, 1.0 - used))


def _cents(usd: float | None) -> float | None:
    return None if usd is None else round(usd, 2)
