"""The verdict itself: an honest record passes, and each kind of damage is named."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest

from tests.chaos.runs import Outcome
from tests.chaos.verdict import Evidence, judge

pytestmark = [pytest.mark.chaos, pytest.mark.slow]
Doctor = Callable[[Evidence], object]


def _forget_command(evidence: Evidence) -> None:
    del evidence.inbox[evidence.acknowledged[5][0]]


def _other_verdict(evidence: Evidence) -> None:
    id_, verdict = evidence.acknowledged[5]
    evidence.acknowledged.append((id_, verdict | {"version": 99}))


def _swap(evidence: Evidence) -> None:
    evidence.held[3], evidence.held[4] = evidence.held[4], evidence.held[3]


def _block(evidence: Evidence) -> None:
    evidence.results["s1"] = replace(evidence.results["s1"], status="blocked")


def _commit_again(evidence: Evidence) -> None:
    result = evidence.results["s2"]
    evidence.results["s2"] = replace(result, commits=(*result.commits, result.commits[-1]))


def _other_bytes(evidence: Evidence) -> None:
    evidence.held[7] = replace(evidence.held[7], digest="0" * 64)


def _event_twice(evidence: Evidence) -> None:
    evidence.events.append(replace(evidence.events[-1], position=len(evidence.events) + 1))


DAMAGE: dict[str, tuple[Doctor, str]] = {
    "a command that was acknowledged is gone": (_forget_command, "acknowledged and lost"),
    "a sender was told something else": (_other_verdict, "was answered"),
    "an event is gone from the record": (lambda e: e.events.pop(9), "position 10"),
    "the newest event is gone from the record": (lambda e: e.events.pop(), "was to have caused"),
    "an event is twice in the record": (_event_twice, "is there 2 times"),
    "an event has no command": (lambda e: e.inbox.pop(e.events[0].cause), "no command"),
    "the bus lost an event": (lambda e: e.held.pop(4), "the bus lacks 1"),
    "the bus has an event twice": (lambda e: e.held.insert(5, e.held[5]), "the bus has 1 events too many"),
    "the bus has another order": (_swap, "another order from position 4"),
    "the bus has other bytes": (_other_bytes, "the bus lacks 1"),
    "the observer missed an event": (lambda e: e.seen.pop(4), "the observer lacks 1"),
    "the observer saw an event again": (lambda e: e.seen.append(e.seen[0]), "again, and no stream was made anew"),
    "a chain is broken": (lambda e: e.findings.append("changed"), "record: changed"),
    "nothing was signed": (lambda e: setattr(e, "signed", 0), "no checkpoint"),
    "a session is decided otherwise": (lambda e: e.differences.append("s1"), "replay: s1"),
    "a message was given up": (lambda e: e.letters.append("poison"), "dead letter: poison"),
    "a timer is left": (lambda e: e.timers.append("s1: attempt"), "timer still armed"),
    "a process is left": (lambda e: e.left_over.append("1: python"), "process left"),
    "a session ended otherwise": (_block, "status is blocked"),
    "an effect was carried out twice": (_commit_again, "s2: commits"),
    "a session is gone": (lambda e: e.results.pop("s3"), "s3 is missing"),
}


def test_an_undamaged_record_passes(without: Outcome) -> None:
    assert judge(without.evidence, without.evidence.results) == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_verdict_notices(without: Outcome, damage: str) -> None:
    doctor, words = DAMAGE[damage]
    evidence = deepcopy(without.evidence)
    doctor(evidence)
    assert any(words in problem for problem in judge(evidence, without.evidence.results))
