"""A package becomes a version after its gate; going back takes it back before the branch, forward again after it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopilot.at_registry import RegistryEffects, doubtful
from autopilot.board import Board, SessionRow
from autopilot.registry.port import Package, Registry
from conductor.snapshots import decode, encode
from conductor.state import Stage, Status, replace
from conductor.undo import plan
from schemas import commands as cmd
from schemas import session as ev
from schemas.pipeline import PhaseDefinition, PipelineDefinition
from schemas.values import Registered
from tests.conductor.rig import DANA, ERIK, OLGA, PIPELINE, SESSION, Rig, artifact

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


@pytest.mark.parametrize("version", ["", "1"])
def test_only_what_was_never_made_is_brought_back_without_a_version(version: str) -> None:
    """A phase beside another was sent back while its registration was under way; a rollback, and back again."""
    r = registering()
    asked = r.state.effects[0]
    done = Registered(effect=f"{asked.id}.before", model=MODEL, version=version, alias="candidate")
    r.state = replace(r.state, effects=(dataclasses.replace(asked, registered=done),))
    receipt = r.receipt_command(registered=done.model_copy(update={"version": ""}))
    if version:
        assert "names no version" in r.refused(receipt, "autopilot").reason
    else:
        assert "effect_recorded" in r.accepted(receipt, "autopilot")
        assert [v.version for v in r.state.registered] == [""]


class World:
    """A registry, as short as its port allows, and files that are whole: the versions in the order they were made."""

    def __init__(self) -> None:
        self.made_by: list[str] = []
        self.files: list[str] = []
        self.back: set[int] = set()

    @property
    def standing(self) -> set[str]:
        return {effect for number, effect in enumerate(self.made_by) if number not in self.back}

    def register(
        self, effect: str, model: str, alias: str, package: Package, doubtful: Sequence[str] = ()
    ) -> Registered:
        if effect not in self.made_by:
            unheard = [n for n, by in enumerate(self.made_by) if by in doubtful and n not in self.back]
            kept = [n for n in unheard if self.files[n] == package.artifact.sha256][-1:]
            self.back.update(set(unheard) - set(kept))
            if kept:
                self.made_by[kept[0]] = effect
            else:
                self.made_by.append(effect)
                self.files.append(package.artifact.sha256)
        return self._told(effect, model, alias)

    def take_back(self, effect: str, done: Registered) -> Registered:
        if done.effect in self.made_by:
            self.back.add(self.made_by.index(done.effect))
        return self._told(done.effect, done.model, done.alias)

    def bring_back(self, effect: str, done: Registered) -> Registered:
        assert done.effect in self.made_by, "only what is there can be brought back"
        self.back.discard(self.made_by.index(done.effect))
        return self._told(done.effect, done.model, done.alias)

    def verify(self, sha256: str) -> None:
        """Every file is there."""

    def _told(self, effect: str, model: str, alias: str) -> Registered:
        number = str(self.made_by.index(effect) + 1) if effect in self.made_by else ""
        return Registered(effect=effect, model=model, version=number, alias=alias)


class Line:
    """A session, and an executor of which nobody knows what it did of that for which its receipt never came."""

    def __init__(self, registry: Registry | None = None) -> None:
        self.rig, self.world, self.board = rig().start(), World(), Board()
        self.executor = RegistryEffects(registry or self.world, self.world)  # type: ignore[arg-type]
        self.content = "0"

    @property
    def row(self) -> SessionRow:
        """What the executor knows of the session."""
        for envelope in self.rig.log:
            self.board.apply(envelope)
        return self.board.sessions[SESSION]

    def carry_out(self) -> dict[str, Registered]:
        """The oldest effect; what of it belongs into the receipt."""
        effect = self.rig.state.effects[0]
        asked = next(e.event for e in self.rig.log if getattr(e.event, "effect", "") == effect.id)
        assert isinstance(asked, ev.EffectRequested)
        if effect.kind == "restore":
            self.executor.settle(asked, self.row, doubtful(asked, self.row))
        if effect.kind not in ("register", "unregister"):
            return {}
        return {"registered": self.executor.carry_out(asked, self.row, doubtful(asked, self.row))}

    def receipt(self, kind: str) -> None:
        if kind == "fails":
            fail(self.rig)
            return
        done = self.carry_out()
        if kind == "done":
            self.rig.accepted(self.rig.receipt_command(**done), "autopilot")

    def go(self) -> None:
        r, state = self.rig, self.rig.state
        if state.effects:
            self.receipt("done")
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
            r.report(artifacts=tuple(artifact(name, self.content) for name in state.definition.artifacts))

    @property
    def at_the_registry(self) -> bool:
        return any(effect.kind in ("register", "unregister") for effect in self.rig.state.effects[:1])

    def step(self, kind: str, number: int) -> None:
        r = self.rig
        if kind == "go":
            for _ in range(number):
                self.go()
        elif kind == "other":
            self.content = str(number % 3)
        elif kind in ("done", "lost", "fails", "lost fails"):
            while number % 2 and r.state.status is not Status.COMPLETED and not self.at_the_registry:
                self.go()
            for each in kind.split() if r.state.effects else ():
                self.receipt(each)
        elif kind == "back" and r.state.marks:
            roll_back(r, list(r.state.marks)[number % len(r.state.marks)])
        elif kind == "point" and (points := [n for n in r.state.rests if n != max(r.state.rests)]):
            r.send(cmd.RestoreSession(sequence=points[number % len(points)]), "operator", OLGA)
        if not (r.state.effects or r.state.unrestored or self.row.registrations.asked):
            assert {v.effect for v in r.state.registered} == self.world.standing, "nothing is in doubt"


STEPS = ["go", "done", "lost", "fails", "lost fails", "back", "point", "other"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 40))))
def test_whatever_happens_the_registry_ends_as_the_session_says(steps: list[tuple[str, int]]) -> None:
    line = Line()
    for kind, number in steps:
        line.step(kind, number)
    for _ in range(80):
        line.go()
    assert line.rig.state.status is Status.COMPLETED
    assert {v.effect for v in line.rig.state.registered} == line.world.standing
    assert len(line.rig.state.registered) == 1


def lost_and_given_up(content: str = "0") -> Line:
    """A version was made, nobody heard of it, and then the registry was away."""
    line = Line()
    while not (line.rig.state.effects and line.rig.state.effects[0].registers):
        line.go()
    line.receipt("lost")
    line.receipt("fails")
    assert len(line.world.standing) == 1
    assert line.rig.state.registered == ()
    line.content = content
    return line


def to_the_end(line: Line) -> None:
    while line.rig.state.status is not Status.COMPLETED:
        line.go()


@pytest.mark.parametrize(("content", "versions"), [("0", 1), ("1", 2)])
def test_a_version_nobody_heard_of_is_found_by_the_next_try(content: str, versions: int) -> None:
    line = lost_and_given_up(content)
    to_the_end(line)
    (done,) = line.rig.state.registered
    assert (len(line.world.made_by), line.world.standing, done.version) == (versions, {done.effect}, str(versions))
    roll_back(line.rig)
    while line.rig.state.effects:
        line.go()
    assert line.world.standing == set()


def test_a_version_nobody_heard_of_is_taken_back_by_a_rollback() -> None:
    line = lost_and_given_up()
    roll_back(line.rig, "plan-it")
    assert kinds(line.rig) == ["restore"], "the session does not know of it"
    line.go()
    assert (line.world.standing, line.row.registrations.asked) == (set(), {})
    to_the_end(line)
    assert line.world.back == {0}


def test_what_may_have_been_brought_back_is_taken_back() -> None:
    line = Line()
    to_the_end(line)
    end = line.rig.state.version
    roll_back(line.rig)
    while line.rig.state.effects:
        line.go()
    restore(line.rig, end)
    line.go()
    line.receipt("lost")
    roll_back(line.rig)
    assert kinds(line.rig) == ["restore"], "the session does not know of it"
    line.go()
    assert line.world.standing == set()


def test_only_an_artifact_of_the_phase_can_be_registered() -> None:
    fields = SHIPPED.phase("build-it").model_dump() | {"registers": "nowhere.zip"}
    with pytest.raises(ValueError, match=r"`registers` names what is not among the phase's artifacts: nowhere.zip"):
        PhaseDefinition.model_validate(fields)
