"""A ticket of a forge: claimed before work begins, published before its gates, and everything taken back in reverse."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conductor.snapshots import decode, encode
from conductor.state import NOWHERE, Effect, Stage, Status
from conductor.undo import plan
from schemas import commands as cmd
from schemas import session as ev
from schemas.values import Actor, Posted
from tests.conductor.rig import DANA, ERIK, MACHINE, OLGA, ORIGIN, TICKET, Rig

FOREIGN = TICKET.model_copy(update={"origin": ORIGIN})


def rig() -> Rig:
    return Rig(ticket=FOREIGN)


def pending(r: Rig) -> list[str]:
    return [effect.kind for effect in r.state.effects]


def fail(r: Rig, reason: str = "unreachable") -> list[str]:
    effect = r.state.effects[0]
    command = cmd.RecordEffectFailure(effect=effect.id, kind=effect.kind, reason=reason)  # type: ignore[arg-type]
    return r.accepted(command, "autopilot")


def asked(r: Rig) -> list[str]:
    """Every effect that was asked for, in order."""
    return [e.event.kind for e in r.log if isinstance(e.event, ev.EffectRequested)]


def test_nothing_starts_before_the_ticket_is_claimed() -> None:
    r = rig()
    assert r.accepted(r.start_command(), "autopilot") == ["session_started", "effect_requested"]
    assert pending(r) == ["claim"]
    assert r.refused(cmd.ClaimAttempt(phase="plan-it", attempt=1, holder="x"), "lead").code == "stale_attempt"
    assert r.accepted(r.receipt_command(), "autopilot") == ["effect_recorded", "phase_started", "effect_requested"]
    assert (pending(r), r.state.at_origin.claim) == (["announce"], "c" * 40)
    assert decode(encode(r.state)) == r.state


def test_a_ticket_without_origin_asks_for_nothing_there() -> None:
    r = Rig().complete()
    assert set(asked(r)) == {"commit", "sign"}
    assert r.state.at_origin is NOWHERE


def test_the_order_of_a_whole_session() -> None:
    r = rig().complete()
    r.effects()
    assert asked(r) == [
        "claim", "announce", "commit", "publish",
        "sign", "commit", "publish", "announce", "announce",
        "commit", "publish", "ready", "finish", "announce",
    ]  # fmt: skip
    here = r.state.at_origin
    assert (here.pull, here.ready, here.finished, here.claim, here.taken) == (7, True, True, "", False)
    assert here.commit == r.state.commit


def test_a_gate_opens_for_what_was_pushed() -> None:
    r = rig().to("build-it")
    r.report()
    while "publish" not in pending(r):
        r.accepted(r.receipt_command(), "autopilot")
    publish = r.state.effects[-1]
    assert r.state.phases["build-it"].stage is Stage.EFFECT
    assert not r.state.open_gates
    r.effects()
    assert r.state.open_gates[0].commit == publish.target == r.state.at_origin.commit


def test_another_holder_of_the_ticket_ends_the_session() -> None:
    r = rig().start()
    lost = Posted(taken_by="session s12-other")
    assert r.accepted(r.receipt_command(posted=lost), "autopilot") == [
        "effect_recorded", "session_aborted", "effect_requested",
    ]  # fmt: skip
    assert r.state.status is Status.ABORTED
    assert r.state.reason == "somebody else has the ticket: session s12-other"
    assert pending(r) == ["announce"]
    assert "release" not in asked(r), "what was never ours is not given back"


def test_a_claim_that_fails_waits_for_a_person() -> None:
    r = rig().start()
    assert fail(r, "the token may not write") == ["effect_failed", "session_blocked", "effect_requested"]
    assert r.state.reason == "claim failed: the token may not write"
    assert pending(r) == ["announce"]
    r.effects()
    assert r.accepted(cmd.RetryPhase(), "operator", OLGA) == ["session_resumed", "effect_requested"]
    assert pending(r) == ["claim"]
    r.effects()
    assert r.state.stage is Stage.WORKING


def test_a_push_that_fails_blocks_the_phase() -> None:
    r = rig().to("plan-it")
    r.report()
    while "publish" not in pending(r):
        r.accepted(r.receipt_command(), "autopilot")
    assert "session_blocked" in fail(r, "somebody pushed to the branch")
    assert r.state.status is Status.BLOCKED


def test_a_comment_that_fails_stops_nothing_and_is_not_repeated() -> None:
    r = rig().start()
    r.accepted(r.receipt_command(), "autopilot")
    assert pending(r) == ["announce"]
    assert fail(r) == ["effect_failed", "effect_requested"]  # one more try: now it also tells of the failure
    assert fail(r) == ["effect_failed", "effect_requested"]
    for _ in range(3):
        if r.state.effects:
            fail(r)
    assert r.state.stage is Stage.WORKING


def test_a_rollback_closes_the_pull_request_before_the_branch_goes_back() -> None:
    r = rig().complete()
    r.effects()
    foreseen = plan(r.state, r.envelope(cmd.RollbackSession(phase="build-it"), "operator", OLGA))
    assert foreseen.outside == (
        "pull request 7 is closed and the branch deleted there, unless somebody merged it or committed to it",
    )
    assert foreseen.status == "rolled_back"
    r.accepted(cmd.RollbackSession(phase="build-it"), "operator", OLGA)
    assert pending(r) == ["withdraw", "restore"]
    assert r.refused(cmd.RetryPhase(), "operator", OLGA).code == "effect_pending"
    r.effects()
    here = r.state.at_origin
    assert (here.pull, here.pushed, here.round, here.claim) == (0, False, 1, "")
    r.accepted(cmd.RetryPhase(), "operator", OLGA)
    assert pending(r) == ["claim"], "it was given back when the session finished"
    r.effects()
    r.work()
    assert r.state.at_origin.pull == 8, "another pull request"


def test_a_rollback_of_a_rollback_publishes_again() -> None:
    r = rig().complete()
    r.effects()
    end = r.state.version
    r.accepted(cmd.RollbackSession(phase="judge-it"), "operator", OLGA)
    r.effects()
    r.accepted(cmd.RestoreSession(sequence=end), "operator", OLGA)
    before = len(asked(r))
    r.effects()
    assert r.state.status is Status.COMPLETED
    assert asked(r)[before:] == ["publish", "ready", "finish", "announce"]
    assert r.state.at_origin.commit == r.state.commit


def test_a_gate_that_is_brought_back_is_published_first() -> None:
    r = rig().to("build-it")
    r.work()
    gate = r.state.version
    r.decide("approve", DANA)
    r.decide("approve", ERIK)
    r.effects()
    r.accepted(cmd.RestoreSession(sequence=gate), "operator", OLGA)
    r.effects()
    (opened,) = r.state.open_gates
    assert opened.commit == r.state.at_origin.commit == r.state.commit


def test_an_abort_takes_everything_back() -> None:
    r = rig().to("build-it")
    r.work()
    r.accepted(cmd.AbortSession(reason="enough"), "operator", OLGA)
    before = len(asked(r)) - 1
    r.effects()
    assert asked(r)[before:] == ["withdraw", "release", "announce"]
    assert r.state.status is Status.ABORTED
    assert (r.state.at_origin.pushed, r.state.at_origin.taken) == (False, False)
    assert r.refused(cmd.RetryPhase(), "operator", OLGA).code == "session_over"


def test_an_abort_while_the_claim_is_under_way_gives_it_back() -> None:
    r = rig().start()
    r.accepted(cmd.AbortSession(reason="enough"), "operator", OLGA)
    assert pending(r) == ["release"]


def test_a_failed_step_of_an_abort_does_not_keep_the_ticket() -> None:
    r = rig().to("build-it")
    r.accepted(cmd.AbortSession(reason="enough"), "operator", OLGA)
    assert pending(r) == ["withdraw"]
    fail(r, "it is merged")
    assert pending(r) == ["release"]
    r.effects()
    assert r.state.at_origin.failed == ("withdraw",)


@pytest.mark.parametrize(
    ("at", "wrong"),
    [
        ("claim", {"posted": None}),
        ("claim", {"posted": Posted()}),
        ("claim", {"posted": Posted(claim="c" * 40, taken_by="another")}),
        ("claim", {"commit": "c" * 40}),
        ("announce", {"posted": Posted()}),
        ("publish", {"posted": Posted()}),
        ("commit", {"posted": Posted(pull=3)}),
    ],
)
def test_a_receipt_says_what_was_done(at: str, wrong: dict[str, Any]) -> None:
    r = rig().start()
    while at not in pending(r):
        if r.state.effects:
            r.accepted(r.receipt_command(), "autopilot")
        else:
            r.report()
    while r.state.effects[0].kind != at:
        r.accepted(r.receipt_command(), "autopilot")
    assert r.refused(r.receipt_command(**wrong), "autopilot").code == "bad_receipt"


class Forge:
    """The ticket's origin, and an executor of which nobody knows what it did of that for which no receipt came."""

    def __init__(self) -> None:
        self.claimed = False
        self.branch = ""
        self.pulls: list[Literal["draft", "ready", "closed"]] = []

    def carry_out(self, effect: Effect) -> Posted | None:
        match effect.kind:
            case "claim":
                self.claimed = True
                return Posted(claim="c" * 40)
            case "publish":
                # Without a claim only what is completed and brought back, perhaps for the second time.
                assert self.claimed or "ready" in self.pulls or self.branch in ("", effect.target)
                self.branch = effect.target
                if not self.pulls or self.pulls[-1] == "closed":
                    self.pulls.append("draft")
                return Posted(pull=len(self.pulls))
            case "announce":
                return Posted(comment=1)
            case "ready":
                self.pulls[-1] = "ready"
            case "finish" | "release":
                self.claimed = False
            case "withdraw":
                self.branch = ""
                if self.pulls:
                    self.pulls[-1] = "closed"
            case _:
                return None
        return Posted(pull=len(self.pulls))


STEPS = st.sampled_from(["go", "done", "lost", "fails", "back", "point"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(STEPS, st.integers(0, 40)), max_size=25), st.booleans())
@example([("go", 18), ("point", 7), ("go", 2), ("lost", 0)], False)
def test_whatever_happens_the_forge_ends_as_the_session_says(steps: list[tuple[str, int]], abort: bool) -> None:
    r, forge = rig().start(), Forge()

    def receipt(kind: str) -> None:
        effect = r.state.effects[0]
        if kind == "fails":
            fail(r)
            return
        done = forge.carry_out(effect)
        if kind == "done":
            r.accepted(r.receipt_command(**({"posted": done} if done else {})), "autopilot")

    def go() -> None:
        state = r.state
        if state.effects:
            receipt("done")
        elif state.open_gate:
            r.decide("approve", (DANA, ERIK)[len(state.gates[state.open_gate.id].approvals)])
        elif state.status in (Status.BLOCKED, Status.ROLLED_BACK):
            if not state.unrestored:
                r.accepted(cmd.RetryPhase(), "operator", OLGA)
            elif state.phase in state.marks:
                r.accepted(cmd.RollbackSession(phase=state.phase), "operator", OLGA)
            else:
                r.accepted(cmd.RestoreSession(sequence=min(state.rests)), "operator", OLGA)
        elif state.status is not Status.COMPLETED:
            r.report()

    for kind, number in steps:
        if kind == "go":
            for _ in range(number):
                go()
        elif kind in ("done", "lost", "fails") and r.state.effects:
            receipt(kind)
        elif kind == "back" and r.state.marks:
            phase = list(r.state.marks)[number % len(r.state.marks)]
            r.accepted(cmd.RollbackSession(phase=phase), "operator", OLGA)
        elif kind == "point" and (points := [n for n in r.state.rests if n != max(r.state.rests)]):
            r.send(cmd.RestoreSession(sequence=points[number % len(points)]), "operator", OLGA)
    if abort and r.state.status is not Status.COMPLETED:
        r.accepted(cmd.AbortSession(reason="enough"), "operator", OLGA)
        while r.state.effects:
            receipt("done")
        assert (forge.branch, forge.claimed) == ("", False)
        assert "draft" not in forge.pulls
        return
    for _ in range(90):
        go()
    assert r.state.status is Status.COMPLETED
    failed = r.state.at_origin.failed
    if not failed:
        assert (forge.claimed, forge.branch, forge.pulls[-1]) == (False, r.state.commit, "ready")
    assert [p for p in forge.pulls[:-1] if p != "closed"] == []


def test_only_the_machine_ends_a_session_for_a_lost_claim() -> None:
    r = rig().start()
    r.accepted(r.receipt_command(posted=Posted(taken_by="x")), "autopilot", Actor(**MACHINE.model_dump()))
    (event,) = [e.event for e in r.log if isinstance(e.event, ev.SessionAborted)]
    assert event.by == MACHINE
