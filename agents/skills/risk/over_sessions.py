"""What other sessions of the record show of the train's own risks: told to the gate, and deciding nothing."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from agents.skills.data.markdown import table
from schemas.history import History

DAYS = 90.0


def over_sessions(history: History | None, session: str, now: str) -> dict[str, Any]:
    """The signs of each risk in sessions other than `session` that were at work in the last DAYS: how many, in how many
    sessions, and the newest. `sessions` is None where no history is at hand."""
    if history is None:
        return {"sessions": None, "days": DAYS, "signs": []}
    since = datetime.fromisoformat(now) - timedelta(days=DAYS)
    others = [each for each in history.sessions if each.session != session and each.updated >= since]
    found: dict[str, list[tuple[datetime, str, str]]] = defaultdict(list)
    for past in others:
        for sign in past.signals:
            if sign.time >= since:
                found[sign.risk].append((sign.time, past.session, sign.what))
    signs: list[dict[str, Any]] = [
        {
            "risk": risk, "signs": len(seen), "sessions": len({session for _, session, _ in seen}),
            "newest": max(seen)[0].isoformat(), "what": max(seen)[2],
        }
        for risk, seen in found.items()
    ]  # fmt: skip
    signs.sort(key=lambda each: (-each["sessions"], -each["signs"], each["risk"]))
    return {"sessions": len(others), "days": DAYS, "signs": signs}


def past_document(past: dict[str, Any]) -> str:
    """The end of `risk-profile.md`."""
    lines = ["", "", "## In other sessions", ""]
    if past["sessions"] is None:
        lines.append("Not known here: this agent runs where the record's history is not.")
    elif not past["signs"]:
        lines.append(f"No sign of a risk in {past['sessions']} other sessions of the last {past['days']:g} days.")
    else:
        lines += [f"Of {past['sessions']} other sessions of the last {past['days']:g} days; decides nothing here.", ""]
        rows = [(e["risk"], e["signs"], e["sessions"], e["newest"][:10], e["what"]) for e in past["signs"]]
        lines += table(("risk", "signs", "sessions", "newest", "what happened then"), rows, 200)
    return "\n".join(lines)
