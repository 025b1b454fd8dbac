"""The risk registry: what the sessions' risk profiles say, and where the event stream shows a risk since.

A risk is active from the session that found it so, or the first sign of it, until a later session finds it mitigated or
a ticket labelled `risk:ID` is completed; a sign after that makes it active again. Work is linked by that label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from agents.skills.risk.register import TIERS
from schemas.envelope import EventEnvelope
from schemas.history import PastSession
from schemas.messages import Event
from schemas.session import WorkReported
from workspace.blobs import BlobError, Blobs

PROFILES = ("risk-profile.json", "risk-register.json")
OLD_DAYS = 30.0
"""An active risk this old without work on it is named."""
LABEL = "risk:"
SYSTEM = {
    "scope-drift": ("Scope drift", "lead"),
    "context-poisoning": ("Context poisoning", "lead"),
    "artifact-chaos": ("Artifact chaos", "devsecops"),
    "checklist-regression": ("Checklist regression", "lead"),
    "disconnected-team": ("Disconnected team", "lead"),
    "orchestration-breakdown": ("Orchestration breakdown", "devsecops"),
    "stale-or-invalid-inputs": ("Stale or invalid inputs", "data"),
    "mode-misfire": ("Mode misfire", "lead"),
    "no-evaluation-baseline": ("No evaluation baseline", "evaluation"),
    "resource-blow-out": ("Resource blow-out", "training"),
    "silent-failure": ("Silent failure", "evaluation"),
    "security-breach": ("Security breach", "devsecops"),
}
"""The train's own twelve, with title and owner: in the registry from the start."""


@dataclass
class Entry:
    """A risk over all sessions, as it stood after the last thing that was known of it."""

    id: str
    title: str
    owner: str
    kind: str = "system"
    mitigation: str = ""
    score: int = 0
    worst: int = 0
    active_since: datetime | None = None
    was_mitigated: bool = False
    again: bool = False
    signals: list[tuple[datetime, str, str]] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)
    work: set[int] = field(default_factory=set)

    def fired(self, time: datetime) -> None:
        """It showed itself."""
        if self.active_since is None:
            self.active_since, self.again = time, self.was_mitigated

    def mitigated(self) -> None:
        """A session, or completed work, found it in hand."""
        self.active_since, self.was_mitigated, self.again = None, True, False

    def row(self, now: datetime) -> dict[str, Any]:
        """For people and programs."""
        status = "active" if self.active_since else "mitigated" if self.was_mitigated else "watched"
        age = None if self.active_since is None else (now - self.active_since).total_seconds() / 86400.0
        newest = max(self.signals, default=None)
        return {
            "risk": self.id, "title": self.title, "kind": self.kind, "owner": self.owner, "status": status,
            "again": self.again, "score": self.score, "worst": self.worst,
            "tier": TIERS[0 if self.score <= 5 else 1 if self.score <= 12 else 2],
            "age_days": None if age is None else round(age, 2), "mitigation": self.mitigation,
            "signals": len(self.signals), "sessions": sorted(self.sessions), "work": sorted(self.work),
            "last_signal": None if newest is None else
            {"time": newest[0].isoformat(), "session": newest[1], "what": newest[2]},
        }  # fmt: skip


class Named(BaseModel):
    """A risk as a profile names it."""

    id: str
    title: str
    kind: str
    owner: str
    mitigation: str
    score: int
    status: str


class _Profile(BaseModel):
    risks: list[Named]


def profiles(envelopes: Sequence[EventEnvelope[Event]], blobs: Blobs) -> Iterator[tuple[datetime, list[Named]]]:
    """The risks that the profiles of one session name, each profile with its time. One that is gone or damaged is left
    to `audit verify`, which names it."""
    for envelope in envelopes:
        if not isinstance(envelope.event, WorkReported):
            continue
        for ref in envelope.event.artifacts:
            if ref.name in PROFILES and not ref.sealed:
                try:
                    found = _Profile.model_validate_json(blobs.read(ref.sha256))
                except (BlobError, ValidationError):
                    continue
                yield envelope.time, found.risks


def registry(
    sessions: Sequence[PastSession], named: Mapping[str, Sequence[tuple[datetime, list[Named]]]], now: datetime
) -> dict[str, Any]:
    """The registry: `risks` (active first, the highest score first) and `coverage`. `named` are the profiles of each
    session."""
    entries = {id: Entry(id, title, owner) for id, (title, owner) in SYSTEM.items()}
    for time, session, happening in _happenings(sessions, named):
        _apply(entries, time, session, happening)
    rows = sorted(
        (entry.row(now) for entry in entries.values()),
        key=lambda row: (row["status"] != "active", -row["score"], -row["signals"], row["risk"]),
    )
    active = [row for row in rows if row["status"] == "active"]
    return {"risks": rows, "coverage": _coverage(rows, active)}


def _coverage(rows: Sequence[dict[str, Any]], active: Sequence[dict[str, Any]]) -> dict[str, Any]:
    ages = [row["age_days"] for row in active]
    return {
        "risks": len(rows),
        "active": len(active),
        "active_again": [row["risk"] for row in active if row["again"]],
        "without_mitigation": [row["risk"] for row in active if not row["mitigation"]],
        "without_work": [row["risk"] for row in active if not row["work"]],
        "old_without_work": [row["risk"] for row in active if row["age_days"] > OLD_DAYS and not row["work"]],
        "oldest_days": max(ages, default=None),
    }


def _happenings(
    sessions: Sequence[PastSession], named: Mapping[str, Sequence[tuple[datetime, list[Named]]]]
) -> list[tuple[datetime, PastSession, dict[str, Any]]]:
    """Everything that says something of a risk, in the order in which it happened."""
    found: list[tuple[datetime, PastSession, dict[str, Any]]] = []
    for past in sessions:
        found += [(each.time, past, {"signal": each.risk, "what": each.what}) for each in past.signals]
        found += [(time, past, {"profile": risk}) for time, risks in named.get(past.session, ()) for risk in risks]
        for label in past.labels:
            if label.lower().startswith(LABEL):
                found.append((past.updated, past, {"work": label[len(LABEL) :].strip().lower(), "past": past}))
    return sorted(found, key=lambda each: (each[0], each[1].session))


def _apply(entries: dict[str, Entry], time: datetime, past: PastSession, happening: dict[str, Any]) -> None:
    if "signal" in happening:
        entry = entries.setdefault(happening["signal"], Entry(happening["signal"], happening["signal"], "risk"))
        entry.signals.append((time, past.session, happening["what"]))
        entry.sessions.add(past.session)
        entry.fired(time)
    elif "work" in happening:
        entry = entries.setdefault(happening["work"], Entry(happening["work"], happening["work"], "risk", "named"))
        entry.work.add(past.ticket)
        if past.ending == "completed":
            entry.mitigated()
    else:
        told: Named = happening["profile"]
        entry = entries.setdefault(told.id, Entry(told.id, told.title, told.owner))
        entry.title, entry.owner, entry.kind, entry.mitigation = told.title, told.owner, told.kind, told.mitigation
        entry.score, entry.worst = told.score, max(entry.worst, told.score)
        if told.status == "mitigated":
            entry.mitigated()
        else:
            entry.sessions.add(past.session)
            entry.fired(time)
