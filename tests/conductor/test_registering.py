"""A package becomes a version after its gate; going back takes it back before the branch, forward again after it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conductor.snapshots import decode, encode
from conductor.state import Effect, Stage, Status
from conductor.undo import plan
from schemas import commands as cmd
from schemas import session as ev
from schemas.pipeline import PhaseDefinition, PipelineDefinition
from schemas.values import Registered
from tests.conductor.rig import DANA, ERIK, OLGA, PIPELINE, Rig

SHIPPED = PipelineDefinition(
    name=PIPELINE.name,
    description=PIPELINE.description,
    phases=tuple(
        p.model_copy(update={"registers": "model.bin"}) if p.name == "build-it" else p for p in PIPELINE.phases
    ),
)
MODEL = "flag-malignant-tumours"


def rig() -> Rig:
    return Rig(pipeline=SHIPPED)


def kinds(rig: Rig) -> list[str]:
    return [effect.kind for effect in rig.state.effects]


def roll_back(rig: Rig, phase: str = "build-it") -> list[str]:
    return rig.accepted(cmd.RollbackSession(phase=phase), "operator", OLGA)


def restore(rig: Rig, sequence: int) -> list[str]:
    return rig.accepted(cmd.RestoreSession(sequence=sequence), "operator", OLGA)


def fail(rig: Rig) -> list[str]:
    effect = rig.state.effects[0]
    command = cmd.RecordEffectFailure(effect=effect.id, kind=effect.kind, reason="unreachable")  # type: ignore[arg-type]
    return rig.accepted(command, "autopilot")


def test_nothing_is_registered_before_a_person_approved() -> None:
    r = rig().to("build-it")
    r.work()
    assert r.state.status is Status.WAITING
    assert not any(isinstance(e.event, ev.EffectRequested) and e.event.kind == "register" for e in r.log)
    r.decide("approve", DANA)
    assert r.decide("approve", ERIK) == ["approval_given", "gate_passed", "effect_requested"]
    (effect,) = r.state.effects
    assert (effect.kind, effect.target, [a.name for a in effect.artifacts]) == ("register", MODEL, ["model.bin"])
    assert r.state.phases["build-it"].stage is Stage.EFFECT
    assert r.effects() == ["effect_recorded", "phase_completed", "phase_started"]
    assert [(v.effect, v.model) for v in r.state.registered] == [(effect.id, MODEL)]
    assert decode(encode(r.state)) == r.state


def registering() -> Rig:
    r = rig().to("build-it")
    r.work()
    r.decide("approve", DANA)
    r.decide("approve", ERIK)
    return r


@pytest.mark.parametrize(
    "wrong",
    [
        {"registered": None},
        {"registered": Registered(effect="other", model=MODEL, version="1", alias="candidate")},
        {"registered": Registered(effect="", model=MODEL, version="", alias="candidate")},
        {"registered": Registered(effect="", model="another", version="1", alias="candidate")},
        {"commit": "c"},
    ],
)
def test_a_receipt_names_the_version_and_nothing_else(wrong: dict[str, Any]) -> None:
    r = registering()
    if (done := wrong.get("registered")) is not None and not done.effect:
        wrong = {"registered": done.model_copy(update={"effect": r.state.effects[0].id})}
    assert r.refused(r.receipt_command(**wrong), "autopilot").code == "bad_receipt"


def test_a_commit_registers_nothing() -> None:
    r = rig().start()
    r.report()
    claimed = Registered(effect=r.state.effects[0].id, model=MODEL, version="1", alias="candidate")
    assert r.refused(r.receipt_command(registered=claimed), "autopilot").code == "bad_receipt"


def test_a_registry_that_fails_blocks_the_phase_and_a_retry_asks_again() -> None:
    r = registering()
    assert fail(r) == ["effect_failed", "session_blocked"]
    assert r.state.reason == "register failed: unreachable"
    r.accepted(cmd.RetryPhase(), "operator", OLGA)
    assert r.state.phases["build-it"].attempt == 2


def test_the_registry_goes_back_before_the_branch_and_forward_after_it() -> None:
    r = rig().complete()
    end = r.state.version
    (done,) = r.state.registered
    foreseen = plan(r.state, r.envelope(cmd.RollbackSession(phase="build-it"), "operator", OLGA))
    assert foreseen.status == "rolled_back"
    assert [line.split(" stays")[0] for line in foreseen.outside] == [f"version {done.version} of model {MODEL}"]
    roll_back(r)
    assert kinds(r) == ["unregister", "restore"]
    assert r.refused(cmd.RetryPhase(), "operator", OLGA).code == "effect_pending"
    r.effects()
    assert r.state.registered == ()
    restore(r, end)
    assert kinds(r) == ["restore", "register"]
    assert r.state.effects[1].registered == done
    r.effects()
    assert (r.state.status, r.state.registered) == (Status.COMPLETED, (done,))


def test_going_back_to_after_the_phase_leaves_the_registry_alone() -> None:
    r = rig().complete()
    roll_back(r, "judge-it")
    assert kinds(r) == ["restore"]
    r.effects()
    assert len(r.state.registered) == 1


def test_a_step_that_fails_withdraws_what_comes_after_it() -> None:
    r = rig().complete()
    roll_back(r)
    assert fail(r) == ["effect_failed", "session_blocked"]
    assert (kinds(r), r.state.unrestored, len(r.state.registered)) == ([], True, 1)
    assert r.refused(cmd.RetryPhase(), "operator", OLGA).code == "not_restored"
    roll_back(r)
    r.effects()
    assert (r.state.unrestored, r.state.registered) == (False, ())


def test_what_may_have_been_registered_is_taken_back() -> None:
    r = registering()
    asked = r.state.effects[0]
    roll_back(r)
    assert kinds(r) == ["unregister", "restore"]
    assert r.state.effects[0].registered == Registered(effect=asked.id, model=MODEL, version="", alias="")
    assert r.state.effects[0].target == MODEL


class World:
    """A registry, and an executor of which nobody knows what it did of that for which its receipt never came."""

    def __init__(self) -> None:
        self.versions: dict[str, str] = {}
        self.standing: set[str] = set()

    def carry_out(self, effect: Effect) -> Registered | None:
        if effect.kind not in ("register", "unregister"):
            return None
        made = effect.registered.effect if effect.registered else effect.id
        if effect.registered is None:
            self.versions[made] = str(len(self.versions) + 1)
        if effect.kind == "register":
            assert made in self.versions, "only what is there can be brought back"
            self.standing.add(made)
        else:
            self.standing.discard(made)
        return Registered(effect=made, model=effect.target, version=self.versions.get(made, ""), alias="candidate")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["go", "done", "lost", "fails", "back", "point"]), st.integers(0, 40))))
def test_whatever_happens_the_registry_ends_as_the_session_says(steps: list[tuple[str, int]]) -> None:
    r, world = rig().start(), World()

    def receipt(kind: str) -> None:
        effect = r.state.effects[0]
        if kind == "fails":
            # Not of what was done without anybody hearing of it: a registry that is away for good right then keeps a
            # version of which the session does not know (docs/operations.md says how to find it).
            if not (effect.registers and effect.id in world.versions):
                fail(r)
            return
        done = world.carry_out(effect)
        if kind == "done":
            changes = {} if done is None else {"registered": done}
            r.accepted(r.receipt_command(**changes), "autopilot")

    def go() -> None:
        state = r.state
        if state.effects:
            receipt("done")
        elif state.open_gate:
            given = len(state.gates[state.open_gate.id].approvals)
            r.decide("approve", (DANA, ERIK)[given])
        elif state.status in (Status.BLOCKED, Status.ROLLED_BACK):
            if not state.unrestored:
                r.accepted(cmd.RetryPhase(), "operator", OLGA)
            elif state.phase in state.marks:
                roll_back(r, state.phase)
            else:
                restore(r, min(state.rests))
        elif state.status is not Status.COMPLETED:
            r.report()

    for kind, number in steps:
        if kind == "go":
            for _ in range(number):
                go()
        elif kind in ("done", "lost", "fails") and r.state.effects:
            receipt(kind)
        elif kind == "back" and r.state.marks:
            roll_back(r, list(r.state.marks)[number % len(r.state.marks)])
        elif kind == "point" and (points := [n for n in r.state.rests if n != max(r.state.rests)]):
            r.send(cmd.RestoreSession(sequence=points[number % len(points)]), "operator", OLGA)
    for _ in range(80):
        go()
    assert r.state.status is Status.COMPLETED
    assert {v.effect for v in r.state.registered} == world.standing
    assert len(r.state.registered) == 1


def test_only_an_artifact_of_the_phase_can_be_registered() -> None:
    fields = SHIPPED.phase("build-it").model_dump() | {"registers": "nowhere.zip"}
    with pytest.raises(ValueError, match=r"`registers` names what is not among the phase's artifacts: nowhere.zip"):
        PhaseDefinition.model_validate(fields)
