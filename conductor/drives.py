"""A drive as a small aggregate: started, selections recorded, ended. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from conductor import gates
from conductor.refusal import Decision, Refusal
from schemas import commands as cmd
from schemas import drive as ev
from schemas.envelope import CommandEnvelope
from schemas.messages import Event
from schemas.policy import Policy


@dataclass(frozen=True, slots=True)
class DriveState:
    """Where a drive stands. `version` is the sequence of the last event folded."""

    id: str
    version: int = 0
    status: Literal["new", "running", "ended"] = "new"
    backlog: str = ""
    selected: tuple[int, ...] = ()
    reason: str = ""
    draining: bool = False
    policy: Policy | None = None
    """The policy it began under: its operators and approvers may drain it."""


def evolve_drive(state: DriveState, event: Event, sequence: int) -> DriveState:
    """The state after `event`."""
    state = replace(state, version=sequence)
    if isinstance(event, ev.DriveStarted):
        return replace(state, status="running", backlog=event.backlog, policy=event.policy)
    if isinstance(event, ev.SelectionRecorded):
        return replace(state, selected=event.order)
    if isinstance(event, ev.DriveDraining | ev.BreakerOpened):
        return replace(state, draining=True)
    if isinstance(event, ev.DriveEnded):
        return replace(state, status="ended", reason=event.reason)
    return state


def decide_drive(state: DriveState, envelope: CommandEnvelope) -> Decision:
    """The event a drive command causes, or why it is refused."""
    command = envelope.command
    if envelope.sender not in command.message_type.senders:
        return Refusal("not_allowed", f"{envelope.sender} may not send {envelope.type}")
    if isinstance(command, cmd.StartDrive):
        if state.status != "new":
            return Refusal("drive_exists", f"drive {state.id} exists already")
        return (ev.DriveStarted(**dict(command)),)
    if state.status != "running":
        return Refusal("drive_not_running", f"drive {state.id} is {state.status}")
    if isinstance(command, cmd.RecordSelection):
        return (ev.SelectionRecorded(**dict(command)),)
    if isinstance(command, cmd.DrainDrive | cmd.OpenBreaker):
        if state.draining:
            return Refusal("already_draining", f"drive {state.id} takes no more tickets already")
        if isinstance(command, cmd.OpenBreaker):
            return (ev.BreakerOpened(**dict(command)),)
        if reason := gates.may_operate(state.policy, envelope.actor):
            unknown = "" if state.policy else f"; drive {state.id} began without recording its policy: stop it instead"
            return Refusal("not_an_operator", reason + unknown)
        return (ev.DriveDraining(by=envelope.actor, reason=command.reason),)
    if isinstance(command, cmd.EndDrive):
        return (ev.DriveEnded(**dict(command)),)
    return Refusal("not_allowed", f"{envelope.type} is not for drives")
