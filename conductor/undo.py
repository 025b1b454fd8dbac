"""What a rollback would change, and what no rollback can take back: said before it starts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from conductor import rests
from conductor.compare import Difference, differences
from conductor.compensate import consequence
from conductor.fold import handle
from conductor.origin import has_origin
from conductor.refusal import Refusal
from conductor.state import SessionState, Status
from schemas.commands import RecordEffect, RestoreSession, RollbackSession
from schemas.envelope import CommandEnvelope
from schemas.session import EffectRequested
from schemas.values import SIGNATURE, Sender


@dataclass(frozen=True, slots=True)
class Plan:
    """What would come of a rollback: `refusal` says why nothing would."""

    refusal: Refusal | None
    status: str
    changes: tuple[Difference, ...]
    lasting: tuple[str, ...]
    outside: tuple[str, ...] = ()
    """What is done to the model registry and at the ticket's origin."""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        changes = [change.as_dict() for change in self.changes]
        return {
            "status": self.status,
            "changes": changes,
            "registry": list(self.outside),
            "cannot_be_undone": list(self.lasting),
        }


def plan(state: SessionState, envelope: CommandEnvelope) -> Plan:
    """Decide the rollback in `envelope` as the conductor would, and its branch as if it had followed at once."""
    outcome = handle(state, envelope)
    then = _target(state, envelope)
    if outcome.refusal or then is None:
        return Plan(outcome.refusal, state.status.value, (), ())
    effects = [event for event in outcome.events if isinstance(event, EffectRequested)]
    followed = outcome.state
    for effect in effects:
        commit = effect.target if effect.kind == "restore" else ""
        receipt = RecordEffect(
            effect=effect.effect, kind=effect.kind, commit=commit, registered=effect.registered, posted=effect.posted
        )
        followed = handle(followed, replace(envelope, sender=Sender.AUTOPILOT.value, command=receipt)).state
    outside = tuple(filter(None, map(consequence, effects)))
    return Plan(None, followed.status.value, differences(state, followed), tuple(_lasting(state, then)), outside)


def _target(state: SessionState, envelope: CommandEnvelope) -> SessionState | None:
    command = envelope.command
    if isinstance(command, RestoreSession):
        return rests.find(state, command.sequence)
    return state.marks.get(command.phase) if isinstance(command, RollbackSession) else None


def _lasting(now: SessionState, then: SessionState) -> Iterator[str]:
    usd, seconds = now.usage.usd - then.usage.usd, now.usage.wall_seconds - then.usage.wall_seconds
    if usd > 0 or seconds > 0:
        yield f"${usd:.4f} and {seconds:.1f} s of skill time stay spent and count against the ticket's budget"
    for name, phase in now.phases.items():
        made = phase.attempt - then.phases[name].attempt
        if made > 0:
            yield f"{made} more attempts of {name} were made and stay counted; the next is number {phase.attempt + 1}"
    for gate in now.gates.values():
        before = then.gates.get(gate.id)
        given = len(gate.approvals) - (len(before.approvals) if before else 0)
        if gate.kind == "human" and (given or (gate.decided_by and not (before and before.decided_by))):
            people = ", ".join(a.by.name for a in gate.approvals) or gate.decided_by
            yield f"what {people} decided at gate {gate.id} ({gate.status}) stays on record"
    if then.status is Status.WAITING:
        yield "the gate is opened anew for the new commit: approvals given before do not count for it"
    if now.commit != then.commit:
        yield f"the commits after {then.commit[:12]} stay in the history of {now.branch}; one more puts the files back"
    for name in now.artifacts:
        if name.endswith(SIGNATURE) and name not in then.artifacts:
            yield f"the signature {name} was made: whoever has a copy can go on showing it"
    pulls = "" if has_origin(now) else "pull requests, "
    yield f"what lies outside is not touched: runs in a tracking store (MLflow), {pulls}copies, deployments"
