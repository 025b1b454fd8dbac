"""The search on a Ray cluster: the same model to the byte, also when a worker is killed; closed without a cluster."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import anyio
import numpy as np
import pytest

from agents.port import Attempt, AttemptError, SkillRun
from agents.skill import SkillError
from agents.skills.training import cluster_worker
from agents.skills.training.candidates import LINEAR, Problem
from agents.skills.training.train import TrainingTrain
from agents.workbench import Workbench
from cli.settings import Settings
from schemas.session import PhaseStarted
from schemas.values import ArtifactRef, FailureClass, Mode, Role, Task
from tests.skills.harness import run_skill
from tests.skills.ml_inputs import binary_wine, make_inputs, quick_plan, ticket
from tests.skills.ray_cluster import RayCluster, _free
from tests.skills.test_checkpoint import without_seconds
from workspace.blobs import Blobs
from workspace.children import ForkServer

LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="finds the cluster's processes in /proc")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with RayCluster() as running:
        yield running


class Machine:
    """An agent's machine: runs the training phase in a child of the fork server, as a session does."""

    def __init__(self, place: Path, children: ForkServer, files: dict[str, Path]) -> None:
        self.place, self.children = place, children
        self.blobs = Blobs(place / "blobs")
        self.lines: list[str] = []
        self.refs = tuple(
            ArtifactRef(name=name, sha256=sha256, size=size)
            for name, path in files.items()
            if name in TrainingTrain.needs
            for sha256, size in [self.blobs.put(path)]
        )

    async def train(self, facts: dict[str, str]) -> SkillRun:
        phase = PhaseStarted(
            phase="training", agent=Role.TRAINING, mode=Mode.BUILD, attempt=1, skills=(TrainingTrain.name,),
            ticket=ticket(), acceptance=(), artifacts=self.refs, measured={}, roots=(), max_data_bytes=10**9, seed=7,
            timeout_seconds=600.0, remaining_seconds=600.0, started=datetime(2026, 11, 1, tzinfo=UTC), pipeline="p",
        )  # fmt: skip
        attempt = Attempt("s1-abcde", phase, 1, self.place / "session" / "training-1-1")
        bench = Workbench(
            Role.TRAINING, attempt, self.blobs, self.children, lambda _, line: self.lines.append(line),
            anyio.CapacityLimiter(1), facts,
        )  # fmt: skip
        return await bench.run(TrainingTrain.name, {})

    def read(self, run: SkillRun, name: str) -> bytes:
        [ref] = [ref for ref in run.artifacts if ref.name == name]
        return self.blobs.read(ref.sha256)


@pytest.mark.slow
@pytest.mark.chaos
@on_linux
async def test_the_same_model_comes_out_also_when_a_worker_is_killed(cluster: RayCluster, tmp_path: Path) -> None:
    assert cluster.listening() <= LOOPBACK
    files = make_inputs(tmp_path / "in", *binary_wine(), metric="f1")
    files["experiment-plan.json"] = quick_plan(tmp_path, "f1", ("linear", "random_forest"), 5)
    async with ForkServer() as children:
        here, there = (Machine(tmp_path / name, children, files) for name in ("here", "there"))
        expected = await here.train({})
        killed: list[int] = []

        async def kill_one() -> None:
            while not killed:
                for pid in cluster.busy()[:1]:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                await anyio.sleep(0.005)

        async with anyio.create_task_group() as group:
            group.start_soon(kill_one)
            run = await there.train({"ray_address": cluster.address})
            group.cancel_scope.cancel()
    assert killed, "no worker was ever busy"
    assert f"computed on the Ray cluster at {cluster.address}" in run.summary
    for name in ("model.skops", "baseline.skops"):
        assert there.read(run, name) == here.read(expected, name)
    logs = [without_seconds(each.read(done, "experiment-log.json")) for each, done in ((here, expected), (there, run))]
    assert logs[0] == logs[1]


async def test_without_the_cluster_nothing_is_trained(tmp_path: Path) -> None:
    files = make_inputs(tmp_path / "in", *binary_wine(), metric="f1")
    files["experiment-plan.json"] = quick_plan(tmp_path, "f1", ("linear",), 1)
    [port] = _free(1)
    facts = {"ray_address": f"127.0.0.1:{port}"}
    with pytest.raises(SkillError, match=f"the Ray cluster at 127.0.0.1:{port} cannot be reached.*ray_address"):
        run_skill(TrainingTrain, ticket(), tmp_path, files, facts=facts)
    async with ForkServer() as children:
        with pytest.raises(AttemptError, match="cannot be reached") as problem:
            await Machine(tmp_path / "machine", children, files).train(facts)
    assert problem.value.failure is FailureClass.AGENT


def test_a_node_with_other_code_says_so_and_computes_nothing() -> None:
    problem = Problem(Task.CLASSIFICATION, "f1", 2, 4, 1)
    work = cluster_worker.Work(None, np.zeros(4), ("a", "b"), problem, "{}", "another identity")  # type: ignore[arg-type]
    answer = cluster_worker.predict(work, LINEAR, {"C": 1.0}, np.arange(3), np.arange(3, 4))
    assert isinstance(answer, str)
    assert answer != work.identity


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "127.0.0.1", ":6379", "127.0.0.1:80", "auto"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(ValueError, match="must be HOST:PORT"):
        Settings(ray_address=address)
    assert Settings(ray_address="127.0.0.1:6379").facts["ray_address"] == "127.0.0.1:6379"
    assert "ray_address" not in Settings().facts
