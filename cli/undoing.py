"""Saying what a rollback will do before it is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli.operator import person
from cli.reading import reading
from conductor import rests
from conductor.replay import state_at
from conductor.undo import Plan, plan
from schemas.commands import RestoreSession, RollbackSession
from schemas.envelope import CommandEnvelope
from schemas.ids import uuid7
from schemas.values import Sender


def command_for(to: str, reason: str) -> RollbackSession | RestoreSession:
    """`--to`: a number is an event, anything else a phase."""
    if to.isdecimal():
        return RestoreSession(sequence=int(to), reason=reason)
    return RollbackSession(phase=to, reason=reason)


def foresee(home: Path, session: str, command: RollbackSession | RestoreSession, as_name: str | None) -> Plan:
    """What `command` would do to the session as it is recorded now; nothing is sent or written."""
    with reading(home) as record:
        stream = record.stream(session)
        state, _ = state_at(record.store, stream)
        foreseen = plan(
            state,
            CommandEnvelope(
                id=uuid7(),
                stream=stream,
                time=datetime.now(UTC),
                actor=person(as_name),
                sender=Sender.OPERATOR.value,
                correlation_id=session,
                causation_id="",
                command=command,
            ),
        )
        refusal = foreseen.refusal
        if refusal is not None and refusal.code == "not_at_rest" and isinstance(command, RestoreSession):
            why = rests.unrest(state_at(record.store, stream, command.sequence)[0]) or "the branch had yet to follow"
            foreseen = replace(foreseen, refusal=replace(refusal, reason=f"{refusal.reason} ({why})"))
        return foreseen


def tell(foreseen: Plan, say: Callable[[str], Any], dry_run: bool) -> None:
    """Print the plan: in a dry run with everything that would change."""
    if foreseen.refusal is not None:
        return
    if dry_run:
        say(f"The session would be {foreseen.status}. What would change:")
        for change in foreseen.changes:
            say(f"  {change.line()}")
    if foreseen.outside:
        say("What is done to the model registry, newest first:")
        for line in foreseen.outside:
            say(f"  {line}")
    say("What cannot be undone:")
    for line in foreseen.lasting:
        say(f"  {line}")
