"""Whole runs: start, do harm, wait for the end, judge, count."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.faults import Storm, killed, schedule
from tests.chaos.rig import PATIENCE, Rig
from tests.chaos.verdict import Evidence, Result, collect, judge, repeats

Disturb = Callable[[Rig], None]


SOON = 15.0
"""Seconds that a product broken on purpose has to show on the bus what is in the record."""


@dataclass
class Outcome:
    """What a run came to."""

    name: str
    evidence: Evidence
    counts: Counter[str]
    seconds: float
    problems: list[str]

    def figures(self) -> dict[str, object]:
        """The counts by name."""
        evidence = self.evidence
        return {
            "sessions": len(evidence.results),
            "events": len(evidence.events),
            "commands in the record": len(evidence.inbox),
            "receipts seen by senders": len(evidence.acknowledged),
            "of different commands": len({id_ for id_, _ in evidence.acknowledged}),
            "repeats seen by the observer": repeats(evidence),
            "dead letters": len(evidence.letters),
            "checkpoints": evidence.signed,
            "kills": killed(self.counts),
            **{name: self.counts[name] for name in sorted(self.counts)},
            "seconds": round(self.seconds),
            "problems": len(self.problems),
        }

    def line(self) -> str:
        """The counts in one line."""
        said = ", ".join(f"{name} {value}" for name, value in self.figures().items() if value or name == "problems")
        return f"{self.name}: {said}"

    def print(self) -> None:
        """Counts, then what is wrong."""
        print("\n".join([self.line(), *self.problems]), flush=True)


def run(
    rig: Rig,
    name: str,
    expected: dict[str, Result] | None,
    disturb: Disturb = lambda _: None,
    seconds: float = PATIENCE,
    *,
    to_the_end: bool = True,
) -> Outcome:
    """Run the rig's sessions to their end while `disturb` does what it does, and judge. Nothing is left running.

    Not `to_the_end`: after `seconds` whatever there is is judged. Raises AssertionError when it takes longer.
    """
    began = time.monotonic()
    try:
        rig.start()
        disturb(rig)
        try:
            rig.finish(seconds)
        except AssertionError:
            if to_the_end:
                raise
        evidence = collect(rig) if to_the_end else collect(rig, SOON)
    except BaseException:
        for component in rig.components.values():
            print(f"--- {component.name}, ended {component.ends}\n{component.tail()}", flush=True)
        raise
    finally:
        rig.stop()
    problems = judge(evidence, evidence.results if expected is None else expected)
    for point, times in rig.blown().items():
        rig.counts[f"crash point {point}"] += times
    outcome = Outcome(name, evidence, rig.counts, time.monotonic() - began, problems)
    outcome.print()
    return outcome


def calm(folder: Path, sessions: int, seconds: float = PATIENCE, *, forked: bool = False) -> Outcome:
    """Without faults: how the sessions are to end."""
    return run(Rig(folder, sessions, forked=forked), "calm", None, seconds=seconds)


def storm(
    rig: Rig,
    name: str,
    without: Outcome,
    *,
    seed: int,
    kills: int,
    extra: tuple[str, ...] = (),
    cut: float = 3.0,
    pause: float = 5.0,
    actions: dict[str, Callable[[], None]] | None = None,
    seconds: float = PATIENCE,
) -> Outcome:
    """With `kills` kills at random moments, and the faults `extra`; `without` is the same run without faults."""
    faults = schedule(seed, kills, len(without.evidence.events), extra)
    print(f"{name}: seed {seed}, {kills} kills, {', '.join(extra) or 'no other fault'}", flush=True)
    weather = Storm(rig, seed, cut, pause, actions or {})
    outcome = run(rig, name, without.evidence.results, lambda _: weather.run(faults), seconds)
    if killed(rig.counts) < kills:
        outcome.problems.append(f"only {killed(rig.counts)} of {kills} kills took place")
    return outcome


POINTS_ON_THE_WAY = {
    "conductor-1": (
        "before-commit:5", "mid-batch-store:2", "after-commit:4", "after-receipt:4", "after-publish:3",
        "mid-batch-relay:1", "before-rollback-commit:1", "after-rollback-commit:1",
    ),
    "effects": (
        "effect-before:1", "effect-mid:1", "effect-done:1", "effect-recorded:1", "restore-before:1", "restore-done:1",
    ),
    "agent-lead": ("agent-claimed:1",),
    "agent-data": ("agent-worked:1",),
    "agent-evaluation": ("agent-reported:1",),
}  # fmt: skip
"""Every named crash point once, in one run: each start of a component goes on until the next of its points."""


def plans(names: Iterable[str] = POINTS_ON_THE_WAY) -> dict[str, list[str]]:
    """The options for the points of the components called `names`."""
    return {name: [f"--crash {point}" for point in POINTS_ON_THE_WAY[name]] for name in names}


@dataclass(frozen=True, slots=True)
class Broken:
    """Where a process of the broken product dies, what the verdict must say, and whether the sessions still end."""

    component: str
    point: str
    words: str
    ends: bool


BROKEN = {
    "ack-before-commit": Broken("conductor-1", "before-commit:12", "acknowledged and lost", ends=False),
    "cursor-before-publish": Broken("conductor-1", "mid-batch-relay:6", "the bus lacks", ends=False),
    "no-inbox": Broken("conductor-1", "after-commit:12", "was answered", ends=False),
    "no-message-id": Broken("conductor-1", "after-publish:6", "the bus has", ends=True),
    "no-trailer": Broken("effects", "effect-done:2", "commits is", ends=True),
}
"""The product broken on purpose."""


def mutants(folder: Path, without: Outcome) -> list[str]:
    """Run each mutation; the names of those nobody noticed."""
    missed = []
    for name, how in BROKEN.items():
        plan = {how.component: [f"--crash {how.point}"]}
        rig = Rig(folder / name, len(without.evidence.results), plans=plan, broken=name)
        seconds = PATIENCE if how.ends else 3 * SOON
        outcome = run(rig, name, without.evidence.results, seconds=seconds, to_the_end=how.ends)
        if not any(how.words in problem for problem in outcome.problems):
            missed.append(name)
    return missed
