"""Any phase a pipeline leaves to a planner: the mode's skills of its agent are the tools."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agents.planner import LlmPlanner
from agents.planning.conversation import Ended
from agents.planning.session import Means
from agents.port import Attempt, AttemptError, SkillRun
from agents.skill import InputError
from agents.skills.data.source import DataSource
from schemas.session import PhaseStarted
from schemas.ticket import Ticket
from schemas.values import ArtifactRef, FailureClass, Mode, Role, Usage
from tests.llm.scripted import ScriptedModel, says
from tests.planner.rig import call, replies, told
from tests.skills.harness import run_skill
from workspace.blobs import Blobs

DATA = Path(__file__).resolve().parents[1] / "data"


class Phase:
    """A phase of mode `design` of the Data agent, with the real skill for its work."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.problem: AttemptError | None = None

    async def run(self, name: str, parameters: dict[str, Any]) -> SkillRun:
        self.asked.append((name, parameters))
        if self.problem is not None:
            problem, self.problem = self.problem, None
            raise problem
        assert name == "data.source"
        ticket = Ticket(id=1, title="Tell cultivars apart", data="wine.csv", target="cultivar")
        try:
            output, files = run_skill(DataSource, ticket, self.place / "skills", {}, roots=(DATA,))
        except InputError as problem:
            raise AttemptError(FailureClass.INPUT, str(problem)) from problem
        refs = tuple(ArtifactRef(name=path, sha256="0" * 64, size=1) for path in files)
        return SkillRun(name, output.summary, refs, output.ticked, output.measurements, (), (), Usage())

    async def work(self, script: ScriptedModel, lease: int = 1) -> list[SkillRun]:
        phase = PhaseStarted(
            phase="data-sources", agent=Role.DATA, mode=Mode.DESIGN, attempt=1, skills=("data.source",),
            ticket=Ticket(id=1, title="Tell cultivars apart"), acceptance=(), artifacts=(), measured={}, roots=(),
            max_data_bytes=1000, seed=1, timeout_seconds=60.0, remaining_seconds=60.0,
            started=datetime(2026, 11, 1, tzinfo=UTC), pipeline="p", planned=True,
        )  # fmt: skip
        attempt = Attempt("s1-abcde", phase, lease, self.place / "attempts" / f"data-sources-1-{lease}")
        blobs = Blobs(self.place / "blobs")
        return await LlmPlanner(Means(lambda attempt, task: script, blobs, {})).work(attempt, self.run)


@pytest.fixture
def phase(tmp_path: Path) -> Phase:
    return Phase(tmp_path)


SUBMIT = call("submit", summary="the source is known")
SOURCE = call("data_source")


async def test_its_skills_are_tools_and_submit_waits_for_what_they_produce(phase: Phase) -> None:
    script = ScriptedModel(replies(SUBMIT, call("data_source", speed=3), call("data_source"), SUBMIT))
    runs = await phase.work(script)
    script.assert_used_up()
    names = {tool.name for tool in script.asked[0].tools}
    assert {"data_source", "submit"} <= names
    assert not names & {"training_train", "data_extract", "run_command"}, "of other agents, modes and tasks"
    assert "not there yet: data-source.json, data-sources.md" in told(script, 1)
    assert "speed: Extra inputs are not permitted" in told(script, 2)
    assert "178 rows" in told(script, 3)
    assert phase.asked == [("data.source", {})]
    assert [run.skill for run in runs] == ["data.source", "planner.skills"]
    assert runs[0].ticked
    assert not runs[1].ticked, "a model ticks nothing"


async def test_what_a_skill_cannot_use_is_told_and_what_policy_forbids_is_refused(phase: Phase) -> None:
    phase.problem = AttemptError(FailureClass.INPUT, "there is no such file")
    script = ScriptedModel(replies(call("data_source"), call("data_source"), SUBMIT))
    await phase.work(script)
    assert "there is no such file" in told(script, 1)
    phase.problem = AttemptError(FailureClass.POLICY, "sealed")
    script = ScriptedModel(replies(call("data_source"), call("data_source"), SUBMIT))
    runs = await phase.work(script, lease=2)
    assert "data_source: sealed" in runs[-1].warnings[0]
    phase.problem = AttemptError(FailureClass.LIMIT, "the budget is used up")
    with pytest.raises(AttemptError, match="used up") as ended:
        await phase.work(ScriptedModel(replies(call("data_source"))), lease=3)
    assert ended.value.failure is FailureClass.LIMIT


async def test_a_resumed_attempt_runs_its_skills_again_since_later_ones_need_them(phase: Phase) -> None:
    with pytest.raises(AssertionError, match="asked for one more"):
        await phase.work(ScriptedModel(replies(SOURCE)))
    script = ScriptedModel(replies(SOURCE, SUBMIT))
    runs = await phase.work(script, lease=2)
    script.assert_used_up()
    assert [name for name, _ in phase.asked] == ["data.source"] * 2
    assert runs[0].artifacts
    with pytest.raises(Ended, match="called no tool"):
        await phase.work(ScriptedModel([says("done")] * 3), lease=3)
