"""The playbook runs skills beside each other where they allow it, and its outcome does not depend on who is faster."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import discovery
from agents.playbook import Playbook, stages
from agents.port import AttemptError, SkillRun
from agents.skill import Parameters, Skill, SkillOutput
from schemas.values import FailureClass, Usage
from tests.skills.test_workbench import Answers, Plain, _bench

NAMES = ("evaluation.predict", "evaluation.measure", "evaluation.audit", "evaluation.stress", "evaluation.fairness")


def _class(beside: bool, needs: tuple[str, ...], produces: tuple[str, ...]) -> type[Skill[Parameters, SkillOutput]]:
    return type("Made", (Plain,), {"beside": beside, "needs": needs, "optional": (), "produces": produces})


def test_the_validation_of_a_model() -> None:
    """Measuring, auditing and fairness need the predictions; what takes times has the machine for itself."""
    assert stages([discovery.skill(name) for name in NAMES]) == [[0], [1, 2, 4], [3]]


letters = st.sets(st.sampled_from("abc")).map(lambda found: tuple(sorted(found)))
classes = st.builds(_class, st.booleans(), letters, letters)


@given(st.lists(st.one_of(st.none(), classes), max_size=6))
def test_every_skill_once_and_never_before_what_it_needs(found: list[Any]) -> None:
    """In any order of any skills; a name nobody has stands alone."""
    made = stages(found)
    assert sorted(index for stage in made for index in stage) == list(range(len(found)))
    place = {index: number for number, stage in enumerate(made) for index in stage}
    for index, cls in enumerate(found):
        alone = cls is None or not cls.beside
        if alone:
            assert made[place[index]] == [index]
            assert all(place[other] < place[index] for other in range(index))
        for other in range(index):
            if not alone and (found[other] is None or set(cls.needs) & set(found[other].produces)):
                assert place[other] < place[index]


def _run(name: str) -> SkillRun:
    return SkillRun(name, name, (), (), (), (), (), Usage())


def _attempt(tmp_path: Any) -> Any:
    return _bench(tmp_path, Answers(), skills=NAMES)._attempt


async def test_they_run_at_the_same_time_and_are_told_in_order(tmp_path: Any) -> None:
    """Each of the three waits until the others have begun."""
    begun: set[str] = set()
    all_there = anyio.Event()

    async def run_skill(name: str, parameters: dict[str, Any]) -> SkillRun:
        begun.add(name)
        if {NAMES[1], NAMES[2], NAMES[4]} <= begun:
            all_there.set()
        if name in (NAMES[1], NAMES[2], NAMES[4]):
            await all_there.wait()
        return _run(name)

    with anyio.fail_after(60):
        runs = await Playbook().work(_attempt(tmp_path), run_skill)
    assert tuple(run.skill for run in runs) == NAMES


@pytest.mark.parametrize("faster", ["earlier", "later"])
async def test_the_failure_told_does_not_depend_on_who_is_faster(tmp_path: Any, faster: str) -> None:
    """Two fail: the one the pipeline names first is told. One behind it is stopped, one before it is let end."""
    failed = {NAMES[1]: anyio.Event(), NAMES[4]: anyio.Event()}
    stopped = []

    async def run_skill(name: str, parameters: dict[str, Any]) -> SkillRun:
        if name in failed:
            first = NAMES[1] if faster == "earlier" else NAMES[4]
            try:
                if name != first:
                    await failed[first].wait()
            except anyio.get_cancelled_exc_class():
                stopped.append(name)
                raise
            failed[name].set()
            raise AttemptError(FailureClass.INPUT, name)
        return _run(name)

    with anyio.fail_after(60), pytest.raises(AttemptError, match=NAMES[1]):
        await Playbook().work(_attempt(tmp_path), run_skill)
    assert stopped == ([NAMES[4]] if faster == "earlier" else [])


async def test_one_that_runs_beside_others_is_told_what_it_needs_only(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the others are done or not makes no difference to it."""
    from agents import workbench
    from schemas.values import Measurement

    maker = _class(False, (), ("made.json",))
    other = _class(False, (), ("other.json",))
    reader = _class(True, ("made.json",), ())
    known = {"training.maker": maker, "training.other": other, "training.reader": reader}
    for name, cls in known.items():
        monkeypatch.setattr(cls, "name", name)
        monkeypatch.setattr(cls, "harness", True)
    monkeypatch.setattr(workbench, "skill", known.__getitem__)
    children = Answers(Measurement(scope="training", name="trials", value=3.0), **{"made.json": ()})
    bench = _bench(tmp_path, children, measured={"data": {"rows": 5.0}})
    await bench.run("training.maker", {})
    children._output = SkillOutput(
        summary="done", measurements=(Measurement(scope="training", name="other", value=1.0),), paths={"other.json": ()}
    ).model_dump(mode="json")
    children._paths = {"other.json": ()}
    await bench.run("training.other", {})
    await bench.run("training.reader", {})
    told = children.asked[-1]
    assert told["measured"] == {"data": {"rows": 5.0}, "training": {"trials": 3.0}}
    assert set(told["facts"]["artifacts"]) == {"table.parquet", "made.json"}
    assert {"table.parquet", "made.json", "other.json"} <= set(children.asked[1]["facts"]["artifacts"]) | {"other.json"}


def test_what_takes_times_never_runs_beside_others() -> None:
    """Figures about speed would be those of a busy machine."""
    timed = ("evaluation.stress", "training.train", "devsecops.monitor", "devsecops.canary", "devsecops.deploy_staging")
    assert not any(discovery.skill(name).beside for name in timed)
