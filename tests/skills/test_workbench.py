"""The workbench keeps skills to their agent, their mode, their inputs and their scopes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

from agents import discovery, workbench
from agents.port import Attempt, AttemptError
from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.workbench import Workbench
from schemas.session import PhaseStarted
from schemas.ticket import Ticket
from schemas.values import ArtifactRef, FailureClass, Measurement, Mode, Role
from workspace.blobs import Blobs
from workspace.children import ForkServer
from workspace.outcomes import ChildResult


class Plain(Skill[Parameters, SkillOutput]):
    """A skill of training that needs one artifact."""

    name = "training.plain"
    role = Role.TRAINING
    modes = frozenset({Mode.BUILD})
    needs: ClassVar[tuple[str, ...]] = ("table.parquet",)

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Never called here: the child is replaced."""
        raise AssertionError


class Answers(ForkServer):
    """A fork server whose child says what the test wants; the real one has tests of its own."""

    def __init__(self, *measured: Measurement, **paths: tuple[str, ...]) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []
        self._paths = paths
        self._output = SkillOutput(summary="done", measurements=measured, paths=paths).model_dump(mode="json")

    async def run(self, function: str, arguments: Any, **bounds: Any) -> ChildResult:
        self.asked.append(arguments["request"])
        for name in self._paths:
            (Path(arguments["request"]["out"]) / name).write_text("found")
        return ChildResult({"output": self._output}, None, 2.0, 1.0, 100, 0)


def _bench(tmp_path: Path, children: ForkServer, role: Role = Role.TRAINING, **changes: Any) -> Workbench:
    blobs = Blobs(tmp_path / "blobs")
    sealed = changes.pop("sealed", False)
    sha256, size = blobs.put(b"rows", sealed=sealed)
    table = ArtifactRef(name="table.parquet", sha256=sha256, size=size, sealed=sealed)
    fields: dict[str, Any] = {
        "phase": "training", "agent": role, "mode": Mode.BUILD, "attempt": 1, "skills": ("training.plain",),
        "ticket": Ticket(id=1, title="x"), "acceptance": (), "artifacts": (table,), "measured": {}, "roots": (),
        "max_data_bytes": 1000, "seed": 1, "timeout_seconds": 60.0, "remaining_seconds": 60.0,
        "started": datetime(2026, 11, 1, tzinfo=UTC), "pipeline": "p",
    }  # fmt: skip
    attempt = Attempt("s1-abcde", PhaseStarted(**(fields | changes)), 1, tmp_path / "attempt")
    places = anyio.CapacityLimiter(1)
    return Workbench(role, attempt, blobs, children, lambda skill, line: None, places, {"tracking_uri": "sqlite:///x"})


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbench, "skill", {**discovery.skills(), Plain.name: Plain}.__getitem__)


async def test_it_stages_declared_artifacts_as_copies(tmp_path: Path) -> None:
    children = Answers(Measurement(scope="training", name="trials", value=3.0))
    bench = _bench(tmp_path, children)
    result = await bench.run("training.plain", {})
    [request] = children.asked
    staged = Path(request["inputs"]["table.parquet"])
    assert staged.read_bytes() == b"rows"
    assert staged.stat().st_nlink == 1, "a link would let a skill write into the artifact store"
    assert request["facts"]["tracking_uri"] == "sqlite:///x"
    assert result.usage.wall_seconds == 2.0


@pytest.mark.parametrize(
    ("changes", "failure", "word"),
    [
        ({"role": Role.DATA}, FailureClass.POLICY, "belongs to training"),
        ({"mode": Mode.SCOPE}, FailureClass.POLICY, "mode build"),
        ({"sealed": True}, FailureClass.POLICY, "sealed"),
        ({"artifacts": ()}, FailureClass.AGENT, "table.parquet"),
        ({"remaining_seconds": 0.0}, FailureClass.LIMIT, "budget"),
    ],
)
async def test_it_refuses(tmp_path: Path, changes: dict[str, Any], failure: FailureClass, word: str) -> None:
    children = Answers()
    with pytest.raises(AttemptError, match=word) as refused:
        await _bench(tmp_path, children, **changes).run("training.plain", {})
    assert refused.value.failure is failure
    assert children.asked == []


@pytest.mark.parametrize("scope", ["metrics", "baseline"])
async def test_what_a_gate_reads_comes_from_the_harness(tmp_path: Path, scope: str) -> None:
    bench = _bench(tmp_path, Answers(Measurement(scope=scope, name="recall", value=1.0)))
    with pytest.raises(AttemptError, match=scope) as refused:
        await bench.run("training.plain", {})
    assert refused.value.failure is FailureClass.POLICY


async def test_only_the_harness_says_which_files_a_change_touches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = _bench(tmp_path, Answers(review=("src/b.py", "src/a.py")))
    with pytest.raises(AttemptError, match="may not say which files a change touches") as refused:
        await bench.run("training.plain", {})
    assert refused.value.failure is FailureClass.POLICY
    monkeypatch.setattr(Plain, "harness", True)
    (made,) = (await bench.run("training.plain", {})).artifacts
    assert (made.name, made.paths) == ("review", ("src/a.py", "src/b.py"))
