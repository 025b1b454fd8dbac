"""Which versions of models a session may have without anybody having heard of it. Pure.

A registration whose receipt never came was perhaps carried out: the answer was lost, or the executor died before it
said so, and then the registry was away. The session itself does not count on such a version. What carries out the next
effect in the registry must look for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas import session as ev
from schemas.messages import Event


class Asked(NamedTuple):
    """A version that is to be there: the effect that makes or made it, and the phase that asked."""

    made_by: str
    phase: str


@dataclass(slots=True)
class Registrations:
    """What one session asked to be registered and has no receipt for, by effect; fed with its events in order."""

    asked: dict[str, Asked] = field(default_factory=dict)

    def apply(self, event: Event, pending: Collection[str]) -> None:
        """Fold one event; `pending` are the effects that were waited for until it came."""
        match event:
            case ev.EffectRequested(kind="register"):
                made_by = event.effect if event.registered is None else event.registered.effect
                self.asked = {**self.asked, event.effect: Asked(made_by, event.phase)}
            case ev.EffectRecorded(registered=done) if done is not None:
                # A new version comes after all that its phase may have had before it: see `doubtful`.
                new = done.effect == event.effect
                self._drop(lambda effect, of: of.made_by == done.effect or (
                    new and of.phase == event.phase and effect not in pending
                ))  # fmt: skip
            case ev.EffectRecorded(kind="restore"):
                self._drop(lambda effect, of: effect not in pending)
            case ev.PhaseRepeated():  # the session counts what it withdraws by that among its versions
                self._drop(lambda effect, of: effect in pending and of.phase in event.phases)
            case _:
                pass

    def doubtful(self, pending: Collection[str], phase: str = "") -> tuple[str, ...]:
        """The effects that perhaps made a version that nobody waits for or knows of: all of the session, or of one
        phase. They were given up or withdrawn, so none of them will ever have a receipt."""
        awaited = {of.made_by for effect, of in self.asked.items() if effect in pending}
        found = [of.made_by for of in self.asked.values() if of.made_by not in awaited and phase in ("", of.phase)]
        return tuple(dict.fromkeys(found))

    def _drop(self, over: Callable[[str, Asked], bool]) -> None:
        self.asked = {effect: of for effect, of in self.asked.items() if not over(effect, of)}
