"""What a command comes to: events, or a typed refusal. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.messages import Event


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that is not carried out: the rule's code, and the reason with what to do."""

    code: str
    reason: str


Decision = tuple[Event, ...] | Refusal
