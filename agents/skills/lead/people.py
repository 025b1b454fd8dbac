"""What past sessions say about people: how many decisions a ticket needs, and how long it waits for them.

Waiting is not working. How long a gate was open is in the record; how long somebody worked on a decision is not, and is
counted only where people say how many minutes one takes them. Nothing is fitted: forecasts draw whole sessions from the
past, so that easy and hard ones weigh as they did.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from agents.skills.lead.history import FEW, quantile
from agents.skills.words import counted
from schemas.history import PastSession

_DRAWS = 1000


def people(
    sessions: Sequence[PastSession], tickets: int, minutes_per_decision: float | None = None, seed: int = 7
) -> dict[str, Any]:
    """Decisions and hours of waiting, by ticket, gate and person, and for `tickets` more.

    Sessions that ended count, however they did. `half` and `most` of what was are the marks that half and eight in ten
    stayed below; of a forecast `least`, `half` and `most` are those that one, five and nine in ten draws stayed below,
    and there is none from fewer than FEW sessions. Hours are wall clock; `working_hours` are decisions by
    `minutes_per_decision`, None where nobody said it.
    """
    ended = [each for each in sessions if each.ending != "open"]
    gates = [wait.seconds / 3600 for each in ended for wait in each.waits]
    stated = [each.stated_hours for each in ended if each.stated_hours is not None]
    enough = len(ended) >= FEW
    return {
        "sessions": len(ended),
        "enough": enough,
        "decisions": sum(each.decisions for each in ended),
        "decisions_a_ticket": _marks([float(each.decisions) for each in ended]),
        "waiting_hours_a_gate": _marks(gates),
        "waiting_hours_a_ticket": _marks([_waited(each) for each in ended]),
        "stated_hours_a_ticket": _marks(stated),
        "stated_by": len(stated),
        "by_person": _by_person(ended),
        "open_gates": sum(each.open_gates for each in sessions),
        "minutes_per_decision": minutes_per_decision,
        "tickets": tickets,
        "forecast": _forecast(ended, tickets, minutes_per_decision, seed) if enough and tickets else None,
    }


def _waited(session: PastSession) -> float:
    return session.waited_seconds / 3600


def _marks(values: Sequence[float]) -> dict[str, float] | None:
    return {"half": quantile(values, 0.5), "most": quantile(values, 0.8)} if values else None


def _by_person(sessions: Sequence[PastSession]) -> list[dict[str, Any]]:
    """Decisions by whoever made them, most first, with the hours from asked to decided."""
    found: dict[str, list[float]] = defaultdict(list)
    for session in sessions:
        for each in session.decided:
            found[each.by].append((each.decided - each.asked).total_seconds() / 3600)
    rows = [{"person": name, "decisions": len(hours), "hours": _marks(hours)} for name, hours in found.items()]
    return sorted(rows, key=lambda row: (-int(str(row["decisions"])), str(row["person"])))


def _forecast(
    sessions: Sequence[PastSession], tickets: int, minutes: float | None, seed: int
) -> dict[str, Any]:  # fmt: skip
    """Sums over `tickets` sessions drawn from those that were; decisions and waiting of one draw belong together."""
    draw = random.Random(seed)
    sums = []
    for _ in range(_DRAWS):
        drawn = draw.choices(sessions, k=tickets)
        sums.append((float(sum(each.decisions for each in drawn)), sum(map(_waited, drawn))))
    decisions = _range([each[0] for each in sums])
    return {
        "decisions": decisions,
        "waiting_hours": _range([each[1] for each in sums]),
        "working_hours": None if minutes is None else _of(decisions, lambda count: count * minutes / 60),
        "stated_hours": _stated(sessions, tickets, seed),
    }


def _stated(sessions: Sequence[PastSession], tickets: int, seed: int) -> dict[str, float] | None:
    """The same for the hours that tickets state, if enough of them do."""
    stated = [each.stated_hours for each in sessions if each.stated_hours is not None]
    if len(stated) < FEW:
        return None
    draw = random.Random(seed)
    return _range([sum(draw.choices(stated, k=tickets)) for _ in range(_DRAWS)])


def _range(values: Sequence[float]) -> dict[str, float]:
    return {"least": quantile(values, 0.1), "half": quantile(values, 0.5), "most": quantile(values, 0.9)}


def _of(marks: dict[str, float], change: Callable[[float], float]) -> dict[str, float]:
    return {name: change(value) for name, value in marks.items()}


def told(found: dict[str, Any]) -> list[str]:
    """The lines for people: what was, then what is to be expected, waiting and working apart."""
    lines = [f"people: {counted(found['decisions'], 'decision')} in {counted(found['sessions'], 'session')} that ended"]
    if found["decisions_a_ticket"]:
        lines.append(
            f"  decisions a ticket: {_short(found['decisions_a_ticket'])}; time it waited for people: "
            f"{_short(found['waiting_hours_a_ticket'], _hours)}"
        )
    if found["waiting_hours_a_gate"]:
        lines.append(f"  time a gate was open: {_short(found['waiting_hours_a_gate'], _hours)}; open now: "
                     f"{found['open_gates']}")  # fmt: skip
    lines += [
        f"  {row['person']}: {counted(row['decisions'], 'decision')}, from asked to decided: "
        f"{_short(row['hours'], _hours)}"
        for row in found["by_person"]
    ]
    if found["stated_hours_a_ticket"]:
        lines.append(
            f"  hours of work that {found['stated_by']} tickets state (not verified): "
            f"{_short(found['stated_hours_a_ticket'])}"
        )
    if found["tickets"]:
        lines += _expected(found)
    return lines


def _expected(found: dict[str, Any]) -> list[str]:
    tickets, forecast = found["tickets"], found["forecast"]
    one = tickets == 1
    if forecast is None:
        return [f"  {counted(tickets, 'ticket')}: no forecast for people from fewer than {FEW} sessions that ended"]
    lines = [
        f"  {counted(tickets, 'ticket')} {'needs' if one else 'need'} {_span(forecast['decisions'])} decisions of "
        f"people and {'waits' if one else 'wait'} "
        f"{_span(forecast['waiting_hours'], _hours)} for them, summed over gates (eight in ten cases)"
    ]
    if forecast["working_hours"] is None:
        lines.append("  hours of work: not known, waiting is not working; say --minutes-per-decision")
    else:
        lines.append(
            f"  hours of work at {found['minutes_per_decision']:g} minutes a decision, as you say: "
            f"{_span(forecast['working_hours'])}"
        )
    if forecast["stated_hours"] is not None:
        lines.append(f"  hours of work as such tickets state it: {_span(forecast['stated_hours'])}")
    return lines


def _short(marks: dict[str, float], shown: Callable[[float], str] = "{:.3g}".format) -> str:
    return f"half below {shown(marks['half'])}, eight in ten below {shown(marks['most'])}"


def _hours(value: float) -> str:
    """Hours; what is shorter than one in minutes."""
    return f"{value:.3g} h" if value >= 1.0 else f"{60.0 * value:.2g} min"


def _span(marks: dict[str, float], shown: Callable[[float], str] = "{:.4g}".format) -> str:
    return f"{shown(marks['least'])} to {shown(marks['most'])} (half below {shown(marks['half'])})"
