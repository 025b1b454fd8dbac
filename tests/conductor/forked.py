"""A rig whose session is a fork of another rig's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from conductor.fold import fold, handle
from conductor.forking import Past
from conductor.refusal import Refusal
from conductor.state import SessionState, initial
from schemas import commands as cmd
from schemas.envelope import EventEnvelope, StreamId
from schemas.forking import ForkSession, SessionForked
from schemas.model_policy import ModelPolicy, ModelPrice
from schemas.values import Actor
from tests.conductor.rig import OLGA, PIPELINE, POLICY, SESSION, TENANT, Rig

FORK = "s12-fghij"
HASH = "cd" * 32
PRICED = POLICY.model_copy(
    update={
        "models": ModelPolicy(prices={"small": ModelPrice(input=1, output=2), "large": ModelPrice(input=9, output=9)})
    }
)
PLANNED = PIPELINE.model_copy(
    update={"phases": tuple(p.model_copy(update={"planned": p.name == "build-it"}) for p in PIPELINE.phases)}
)


def at(rig: Rig, sequence: int) -> SessionState:
    return fold(initial(SESSION), rig.log[:sequence])


class Fork(Rig):
    """A rig whose session is a fork of another rig's."""

    def __init__(
        self,
        source: Rig,
        sequence: int,
        *,
        name: str = FORK,
        actor: Actor = OLGA,
        then: SessionState | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(source.ticket, source.policy, source.pipeline)
        self.source, self.sequence = source, sequence
        self.stream = StreamId(TENANT, "session", name)
        self.state = initial(name)
        self.now = source.now + timedelta(seconds=1)
        command = ForkSession(source=SESSION, sequence=sequence, reason="another way", **fields)
        envelope = self.envelope(command, "operator", actor)
        self.commands.append(envelope)
        self.outcome = handle(self.state, envelope, Past(then or at(source, sequence), HASH))
        self.state = self.outcome.state
        self.log = [
            EventEnvelope(f"f-{n}", self.stream, n, envelope.time, actor, name, envelope.id, event)
            for n, event in enumerate(self.outcome.events, 1)
        ]

    @property
    def names(self) -> list[str]:
        return [event.message_type.name for event in self.outcome.events]

    @property
    def event(self) -> SessionForked:
        return next(event for event in self.outcome.events if isinstance(event, SessionForked))

    @property
    def refusal(self) -> Refusal:
        assert self.outcome.refusal is not None, self.names
        assert not self.outcome.events
        return self.outcome.refusal

    def receipt_command(self, **changes: Any) -> cmd.RecordEffect:
        if self.state.effects[0].kind == "branch":
            changes = {"commit": "fork-commit", "artifacts": ()} | changes
        return super().receipt_command(**changes)


def before(rig: Rig, phase: str) -> int:
    """The event before a phase first started."""
    return rig.state.marks[phase].version
