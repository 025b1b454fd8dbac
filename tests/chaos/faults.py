"""Faults at random moments: what is done when follows from a seed and from how far the record has come."""

from __future__ import annotations

import contextlib
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.chaos.rig import PATIENCE, Rig
from tests.chaos.workload import ROLES

WEIGHTS = {"conductor": 5, "leader": 4, "nats-server": 5, "agent": 6, "effects": 5, "senders": 2}
"""How often each is killed, in proportion."""

LATEST = 0.9
"""The last fault comes before this part of the events a run without faults has."""


@dataclass(frozen=True, slots=True)
class Fault:
    """At `position` of the record, and `delay` seconds more, `name` is done to `target` ("": to the whole)."""

    position: int
    delay: float
    name: str
    target: str = ""


def schedule(seed: int, kills: int, events: int, extra: tuple[str, ...] = ()) -> list[Fault]:
    """`kills` kills and the faults named in `extra`, over a run of about `events` events."""
    source = random.Random(seed)
    last = max(2, int(events * LATEST))
    faults = [
        Fault(source.randint(1, last), source.uniform(0.0, 0.3), "kill", target)
        for target in source.choices(list(WEIGHTS), list(WEIGHTS.values()), k=kills)
    ]
    faults += [
        Fault(last * (n + 1) // (len(extra) + 1), source.uniform(0.0, 0.3), name) for n, name in enumerate(extra)
    ]
    return sorted(faults, key=lambda fault: (fault.position, fault.delay))


class Storm:
    """Carries a schedule out on a rig."""

    def __init__(self, rig: Rig, seed: int, cut: float, pause: float, actions: dict[str, Callable[[], None]]) -> None:
        """`cut` is for how many seconds the bus is cut off, `pause` for how many a conductor is suspended; `actions`
        are further faults by name."""
        self._rig = rig
        self._source = random.Random(seed)
        self._cut = cut
        self._pause = pause
        self._actions = actions | {
            "cut": self.cut_off,
            "suspend": self.suspend,
            "lose": rig.take_streams_away,
            "replace": lambda: rig.take_streams_away(empty=True),
            "fill": self.fill,
        }

    def run(self, faults: list[Fault]) -> None:
        """One after the other, each once the record has come to its position. Raises AssertionError."""
        for fault in faults:
            self._rig.reach(fault.position)
            time.sleep(fault.delay)
            if fault.name == "kill":
                self._kill(fault.target)
            else:
                self._actions[fault.name]()
                self._rig.counts[f"fault {fault.name}"] += 1

    def _kill(self, target: str) -> None:
        """Whoever is meant is killed as soon as it is up."""
        until = time.monotonic() + PATIENCE
        name = target
        while True:
            if target == "conductor":
                name = self._source.choice([n for n in self._rig.components if n.startswith("conductor")])
            elif target == "leader":
                name = self._rig.leader()
            elif target == "agent":
                name = f"agent-{self._source.choice(ROLES)}"
            if target == "senders" and not self._rig.components["senders"].alive:
                return
            if self._rig.kill(name):
                self._rig.counts[f"killed {target}"] += 1
                return
            assert time.monotonic() < until, f"{name} did not come up to be killed"
            time.sleep(0.05)

    def cut_off(self) -> None:
        """The server says nothing for a while."""
        with self._rig.suspended("nats-server"):
            time.sleep(self._cut)

    def suspend(self) -> None:
        """The conductor that relays is stopped past its lease, then goes on as if nothing had been. Of several, another
        must take over meanwhile: raises AssertionError when none does."""
        name = self._rig.leader()
        self._rig.components[name].ready()
        until = time.monotonic() + PATIENCE
        with self._rig.suspended(name):
            time.sleep(self._pause)
            while self._rig.conductors > 1 and self._rig.leader() == name:
                assert time.monotonic() < until, f"nobody took over from {name}"
                time.sleep(0.05)
            self._rig.counts["another took over"] += self._rig.conductors > 1

    def fill(self) -> None:
        """No file of the conductor may grow any more, for a while."""
        component = self._rig.components["conductor-1"]
        component.ready()
        with full(component):
            time.sleep(self._cut)


@contextlib.contextmanager
def full(component: object) -> Iterator[None]:
    """No file that the process writes may be longer than a page; what is written where there was something goes on."""
    component.limit(resource.RLIMIT_FSIZE, 4096)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        component.limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)  # type: ignore[attr-defined]


def killed(counts: Mapping[str, int]) -> int:
    """How many kills there were."""
    return sum(count for name, count in counts.items() if name.startswith("killed "))


FAST, IMMEDIATE = signal.SIGINT, signal.SIGQUIT
"""How PostgreSQL is told to shut down; the second is a crash."""
