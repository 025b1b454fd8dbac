"""The fork server: nothing leaks in, nothing survives, every end has a name. Real processes; waits on conditions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import pytest_asyncio

from workspace.children import ForkServer
from workspace.outcomes import (
    ChildCrashed,
    ChildKilled,
    ChildOutOfMemory,
    ChildRaised,
    ChildResult,
    ChildTimeout,
    ServerLost,
)

SECRET = "hunter2-" + uuid.uuid4().hex
HERE = "tests.workspace.functions"
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def processes(marker: str) -> list[int]:
    """Living processes with `marker` among their arguments or in their name (zombies have no arguments)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until(condition: Callable[[], Any], seconds: float = 15) -> None:
    """Wait for a condition; the deadline only bounds a failing test."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - other processes set no event of ours
            await anyio.sleep(0.01)


@pytest_asyncio.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ForkServer]:
    monkeypatch.setenv("API_TOKEN", SECRET)
    async with ForkServer(preload=("json.tool", "no_such_module")) as server:
        yield server


class Runner:
    """Runs a function of `functions.py` in a directory of its own."""

    def __init__(self, server: ForkServer, directory: Path) -> None:
        self.server = server
        self.log = directory / "log"
        self.directory = directory

    async def __call__(self, name: str, seconds: float = 20, **more: Any) -> ChildResult:
        options = {
            key: more.pop(key)
            for key in tuple(more)
            if key in ("memory_bytes", "file_bytes", "log_bytes", "on_progress")
        }
        return await self.server.run(
            f"{HERE}:{name}", more, cwd=self.directory, log=self.log, seconds=seconds, **options
        )


@pytest_asyncio.fixture
async def run(server: ForkServer, tmp_path: Path) -> Runner:
    return Runner(server, tmp_path)


async def test_a_value_comes_back_with_what_it_cost(run: Runner) -> None:
    result = await run("add", a=2, b=3)
    assert result.unwrap() == 5
    assert result.exit_status == 0
    assert 0 < result.wall_seconds < 10
    assert 0 < result.cpu_seconds < 10
    assert 1 << 20 < result.peak_rss_bytes < 1 << 30


@linux
async def test_no_secret_of_ours_is_in_the_childs_or_the_servers_environment(run: Runner) -> None:
    seen = (await run("surroundings")).unwrap()
    assert SECRET not in repr(seen)
    assert SECRET not in Path(f"/proc/{run.server.pid}/cmdline").read_text()
    allowed = {
        "PATH",
        "LANG",
        "HOME",
        "TMPDIR",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "PYTHONHASHSEED",
        "MPLBACKEND",
    }
    assert set(seen["environ"]) <= allowed | {"LC_CTYPE"}
    assert seen["initial"] == seen["server"]


@linux
async def test_the_child_stands_alone(run: Runner) -> None:
    first, second = (await run("surroundings")).unwrap(), (await run("surroundings")).unwrap()
    assert first["cwd"] == os.fspath(run.directory)
    assert first["own_session"]
    assert not first["ignores_interrupt"]
    assert first["main"] is None
    assert first["core"] == 0
    assert first["descriptors"] <= 5  # 0, 1, 2, its line to us, and the listing itself
    assert first["hash"] == second["hash"]
    assert first["environ"]["HOME"] != second["environ"]["HOME"]
    assert not Path(first["environ"]["HOME"]).exists()


async def test_a_failing_preload_is_told_and_does_not_matter(server: ForkServer, tmp_path: Path) -> None:
    seconds, failed = await server.warm()
    assert seconds >= 0
    assert list(failed) == ["no_such_module"]
    assert (await server.run("math:prod", {}, cwd=tmp_path, log=tmp_path / "log", seconds=5)).failure is not None


async def test_progress_arrives_in_order(run: Runner) -> None:
    lines: list[str] = []
    result = await run("count", lines=500, on_progress=lines.append)
    assert result.unwrap() == 500
    assert lines == [f"line {n}" for n in range(500)]


async def test_a_failing_progress_callback_is_our_error_and_ends_the_child(run: Runner) -> None:
    def complain(line: str) -> None:
        raise ZeroDivisionError(line)

    with pytest.raises(ZeroDivisionError, match="line 0"):
        await run("count", lines=3, on_progress=complain)


@linux
async def test_the_time_limit_kills_the_whole_family(run: Runner) -> None:
    marker = f"vt-test-{uuid.uuid4().hex}"
    ready = run.directory / "ready"
    result = await run("family", seconds=2, marker=marker, ready=str(ready))
    assert isinstance(result.failure, ChildTimeout)
    assert "time limit of 2 s" in str(result.failure)
    assert ready.exists()
    assert result.exit_status == -signal.SIGKILL
    assert processes(marker) == []


@linux
async def test_what_a_child_leaves_behind_ends_with_it(run: Runner) -> None:
    marker = f"vt-test-{uuid.uuid4().hex}"
    assert (await run("orphan", marker=marker)).failure is None
    assert processes(marker) == []


@linux
async def test_cancelling_kills_and_waits(run: Runner) -> None:
    marker = f"vt-test-{uuid.uuid4().hex}"
    ready = run.directory / "ready"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: run("family", seconds=600, marker=marker, ready=str(ready)))
        await until(lambda: len(processes(marker)) >= 2 and ready.exists())
        tasks.cancel_scope.cancel()
    assert processes(marker) == []
    assert not alive(int(ready.read_text()))
    assert (await run("add", a=1, b=1)).unwrap() == 2


@linux
async def test_a_cancelled_run_does_not_return_before_the_child_is_dead(run: Runner) -> None:
    marker = f"vt-test-{uuid.uuid4().hex}"
    ready = run.directory / "ready"
    returned = anyio.Event()

    async def one(scope: anyio.CancelScope) -> None:
        with scope:
            await run("family", seconds=600, marker=marker, ready=str(ready))
        returned.set()

    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()
        tasks.start_soon(one, scope)
        await until(lambda: ready.exists() and ready.read_text())
        os.kill(run.server.pid, signal.SIGSTOP)  # so that nobody can end the child yet
        try:
            scope.cancel()
            for _ in range(200):  # long enough for all that a return takes
                await anyio.to_thread.run_sync(lambda: None)
            assert not returned.is_set()
        finally:
            os.kill(run.server.pid, signal.SIGCONT)
        await returned.wait()
        assert processes(marker) == []


@linux
async def test_several_at_once(run: Runner) -> None:
    results: list[ChildResult] = []

    async def one(number: int) -> None:
        results.append(await run("add", a=number, b=0))

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(one, number)
    assert sorted(result.unwrap() for result in results) == list(range(8))


async def test_the_event_loop_goes_on_meanwhile(run: Runner) -> None:
    turns = 0

    async def spin() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(spin)
        await run("shout", megabytes=20)
        tasks.cancel_scope.cancel()
    assert turns > 10


@linux
async def test_a_memory_hog_is_named(run: Runner) -> None:
    result = await run("hog", memory_bytes=400 << 20)
    assert isinstance(result.failure, ChildOutOfMemory)
    assert result.failure.limit_bytes == 400 << 20
    assert "its limit of 419 MB" in str(result.failure)
    assert result.peak_rss_bytes < 600 << 20


async def test_a_native_crash_is_named_with_its_last_words(run: Runner) -> None:
    result = await run("crash")
    assert isinstance(result.failure, ChildKilled)
    assert result.failure.number == signal.SIGSEGV
    assert "about to crash" in result.failure.log
    assert "functions.py" in result.failure.log  # faulthandler says where


async def test_an_exit_without_a_result_is_a_crash(run: Runner) -> None:
    result = await run("leave", code=3)
    assert isinstance(result.failure, ChildCrashed)
    assert result.failure.exit_code == 3
    assert result.failure.log == "last words"
    result = await run("leave", code=0)
    assert isinstance(result.failure, ChildCrashed)


async def test_exceptions_cross_as_text(run: Runner) -> None:
    result = await run("refuse")
    failure = result.failure
    assert isinstance(failure, ChildRaised)
    assert failure.type == f"{HERE}.Refused"
    assert failure.is_a("builtins.ValueError")
    assert failure.is_a(f"{HERE}.Refused")
    assert not failure.is_a("builtins.KeyError")
    assert failure.message == "no good"
    assert failure.details == {"remedy": "try another"}
    assert "in refuse" in failure.traceback
    with pytest.raises(ChildRaised, match="Refused: no good"):
        result.unwrap()


async def test_a_value_that_is_no_json_is_refused(run: Runner) -> None:
    failure = (await run("unspeakable")).failure
    assert isinstance(failure, ChildRaised)
    assert "not JSON serializable" in failure.message


async def test_a_missing_function_is_named(run: Runner) -> None:
    failure = (await run("no_such_function")).failure
    assert isinstance(failure, ChildRaised)
    assert "no_such_function" in failure.message


async def test_a_child_cannot_forge_its_verdict(run: Runner) -> None:
    failure = (await run("forge")).failure
    assert isinstance(failure, ChildCrashed)
    assert "no JSON line" in str(failure)


async def test_output_is_capped_and_the_child_goes_on(run: Runner) -> None:
    result = await run("shout", megabytes=30, log_bytes=10_000)
    assert result.failure is None
    text = run.log.read_text()
    assert len(text) < 10_100
    assert text.endswith("[output capped here]\n")


async def test_files_are_bounded(run: Runner) -> None:
    result = await run("large_file", path="big", size=3 << 20, file_bytes=1 << 20)
    assert isinstance(result.failure, ChildRaised)
    assert "File too large" in result.failure.message
    assert (run.directory / "big").stat().st_size <= 1 << 20


async def test_a_log_that_cannot_be_opened_fails_that_run_only(run: Runner) -> None:
    result = await run.server.run(
        f"{HERE}:add", {"a": 1, "b": 2}, cwd=run.directory, log=run.directory / "no" / "log", seconds=5
    )
    assert isinstance(result.failure, ServerLost)
    assert "No such file" in str(result.failure)
    assert (await run("add", a=1, b=2)).unwrap() == 3


@linux
async def test_a_killed_server_is_replaced_and_takes_its_children_with_it(run: Runner) -> None:
    marker = f"vt-test-{uuid.uuid4().hex}"
    ready = run.directory / "ready"
    results: list[ChildResult] = []

    async def one() -> None:
        results.append(await run("family", seconds=600, marker=marker, ready=str(ready)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        await until(lambda: ready.exists() and ready.read_text())
        first = run.server.pid
        os.kill(first, signal.SIGKILL)
    assert isinstance(results[0].failure, ServerLost)
    await until(lambda: not alive(int(ready.read_text())))
    assert (await run("add", a=1, b=2)).unwrap() == 3
    assert run.server.pid != first
    for stray in processes(marker):  # what left the group of a server killed by force is beyond reach
        os.kill(stray, signal.SIGKILL)


PARENT = """
import sys, anyio
from pathlib import Path
from workspace.children import ForkServer

async def main(marker, place):
    async with ForkServer(home=place / marker) as server:
        (place / "server").write_text(str(server.pid))
        arguments = dict(marker=marker, ready=str(place / "ready"))
        await server.run("tests.workspace.functions:family", arguments, cwd=place, log=place / "log", seconds=600)

anyio.run(main, sys.argv[1], Path(sys.argv[2]))
"""


@linux
@pytest.mark.parametrize("with_server", [False, True], ids=["parent", "parent and server"])
async def test_our_own_kill_9_leaves_no_process(tmp_path: Path, with_server: bool) -> None:
    marker = f"vt-test-{uuid.uuid4().hex}"
    ready, place, root = tmp_path / "ready", tmp_path / "server", Path(__file__).parents[2]
    parent = subprocess.Popen(  # noqa: ASYNC220 - takes milliseconds
        [sys.executable, "-c", PARENT, marker, tmp_path], cwd=root, env={**os.environ, "PYTHONPATH": os.fspath(root)}
    )
    try:
        await until(lambda: ready.exists() and ready.read_text() and len(processes(marker)) >= 3)
        server, child = int(place.read_text()), int(ready.read_text())
    finally:
        parent.send_signal(signal.SIGSTOP)  # so that it cannot do anything about it
        if with_server:
            os.kill(int(place.read_text()), signal.SIGKILL)
        parent.kill()
        parent.wait()
    await until(lambda: not alive(server) and not alive(child))
    if with_server:  # nobody is left who could find those that the child had started
        for stray in processes(marker):
            os.kill(stray, signal.SIGKILL)
    await until(lambda: processes(marker) == [])


@linux
async def test_leaving_ends_the_server_even_while_it_warms_up(tmp_path: Path) -> None:
    began = time.monotonic()
    async with ForkServer(preload=("sklearn.ensemble",)) as server:
        pid = server.pid
    assert not alive(pid)
    assert time.monotonic() - began < 5


async def test_using_it_unstarted_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="async with ForkServer"):
        await ForkServer().run("math:prod", {}, cwd=tmp_path, log=tmp_path / "log", seconds=1)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
async def test_a_limit_must_be_one(run: Runner, seconds: float) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        await run("add", seconds=seconds, a=1, b=1)
