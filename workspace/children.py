"""Isolated execution: a function in a child process of its own, with limits, and certain to end.

    async with ForkServer(preload=("pandas", "sklearn.ensemble")) as server:
        result = await server.run("agents.worker:run", {"request": {...}}, cwd=work, log=work / "log", seconds=60)
        value = result.unwrap()

Why an own fork server (`workspace.zygote`) and not `multiprocessing`'s: that one inherits the parent's environment and
imports the parent's `__main__`, and what its children started survives the parent's `kill -9`.
What this isolates from: accidents, runaway skills, and secrets in the environment. The children are the same
operating-system user: this is no wall against malicious native code.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.abc
import anyio.to_thread
from anyio.streams.buffered import BufferedByteReceiveStream

from workspace.outcomes import (
    ChildCrashed,
    ChildFailure,
    ChildKilled,
    ChildOutOfMemory,
    ChildRaised,
    ChildResult,
    ChildTimeout,
    ServerLost,
)
from workspace.scratch import scratch_folder

_BOOT = (
    "import json, sys; order = json.loads(sys.argv[1]); sys.path[:] = order['path']; "
    "from workspace.zygote import main; main(order['control'], order['parent'], order['preload'])"
)
_LONGEST_LINE = 32 << 20
_CLOSED = (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError)


@dataclass
class _Run:
    """A run as we see it: our ends of its sockets, and what came out of them."""

    verdict: anyio.abc.SocketStream
    report: anyio.abc.SocketStream
    verdicts: BufferedByteReceiveStream
    pid: int = 0
    end: dict[str, Any] | None = None
    refusal: str = ""
    said: dict[str, Any] | None = None
    trouble: str = ""
    error: Exception | None = None


class ForkServer:
    """Runs functions in forked children. `preload` is imported once, in the server's process, in the background.

    Entering costs a few milliseconds; a run waits for the import under way only. `home` is the server's directory,
    for caches that should last (fonts); by default a temporary one. Any number of runs may be under way at once.
    Enter it from the thread that runs the event loop, and keep that thread: the server dies with it.
    """

    def __init__(self, preload: Sequence[str] = (), *, home: Path | None = None) -> None:
        self.preload = tuple(preload)
        self._home = home
        self._server: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        self._handover = anyio.Lock()
        self._closing = contextlib.ExitStack()

    async def __aenter__(self) -> Self:
        if self._home is None:
            self._home = self._closing.enter_context(scratch_folder())
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._complaints = self._closing.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._stop)

    @property
    def pid(self) -> int:
        """The server's process id. Raises RuntimeError if it is not started."""
        return self._running()[0].pid

    async def warm(self) -> tuple[float, dict[str, str]]:
        """Wait until the preload is done: seconds it took, and the modules that could not be imported, with the reason.

        For `doctor` and tests, once; `run` waits by itself. Raises ServerLost.
        """
        _, control = self._running()
        line = b""
        while not line.endswith(b"\n"):
            await anyio.wait_readable(control)
            chunk = control.recv(1 << 16)
            if not chunk:
                raise ServerLost(f"the fork server ended while warming up: {self._complaint()}")
            line += chunk
        told = json.loads(line)
        return float(told["seconds"]), dict(told["failed"])

    async def run(
        self,
        function: str,
        arguments: Mapping[str, Any],
        *,
        cwd: Path,
        log: Path,
        seconds: float,
        memory_bytes: int | None = None,
        file_bytes: int = 4 << 30,
        log_bytes: int = 1 << 20,
        on_progress: Callable[[str], None] = lambda message: None,
    ) -> ChildResult:
        """Call `function` ("module:name") with keyword `arguments` in a child; those and its value must be JSON.

        The child works in `cwd`, prints into `log` (appended, at most `log_bytes`), may use `memory_bytes` of private
        memory per process, the preloaded libraries included, may write files of `file_bytes`, and is killed with
        everything it started after `seconds`. `on_progress` gets each line it tells by `workspace.zygote.progress`.

        What the child does is never raised but told in `ChildResult.failure`. Cancelling kills the child and returns
        once it is dead; so does an exception of `on_progress`, which is raised here.
        """
        if not 0 < seconds < math.inf:
            raise ValueError(f"seconds must be positive and finite, not {seconds!r}")
        request = json.dumps([function, dict(arguments)]).encode() + b"\n"
        self._running()
        scratch = tempfile.mkdtemp(prefix="run-", dir=self._home)
        order = {"cwd": os.path.abspath(cwd), "log": os.path.abspath(log), "log_bytes": log_bytes, "seconds": seconds}
        order |= {"memory_bytes": memory_bytes, "file_bytes": file_bytes, "scratch": scratch}
        order["log_start"] = os.path.getsize(log) if os.path.exists(log) else 0
        try:
            run = await self._announce(order)
            async with run.verdict, run.report:
                await _converse(run, request, on_progress)
        except OSError as problem:
            return ChildResult(None, ServerLost(f"the fork server cannot be reached: {problem}"))
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lambda: shutil.rmtree(scratch, ignore_errors=True))
        if run.error is not None:
            raise run.error
        return self._conclude(run, order)

    def _running(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        if self._server is None:
            raise RuntimeError("the fork server is not started: use it as `async with ForkServer(...) as server`")
        return self._server

    def _start(self) -> None:
        """Start the server's process, in the calling thread: its death signal is tied to the thread that forks it."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        home = os.path.abspath(self._home or "")
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": home, "TMPDIR": home}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "MPLBACKEND": "Agg"}
        order: dict[str, Any] = {"path": [os.path.abspath(entry) for entry in sys.path], "preload": self.preload}
        order |= {"control": theirs.fileno(), "parent": os.getpid()}
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-s", "-P", "-c", _BOOT, json.dumps(order)],
                env=environment,
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=self._complaints,
                stderr=self._complaints,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._server = process, ours

    def _stop(self) -> None:
        process, control = self._running()
        control.close()
        process.terminate()  # one that is still importing does not see its socket close
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._closing.close()

    def _complaint(self) -> str:
        self._complaints.seek(0)
        return self._complaints.read().decode(errors="replace").strip()[-500:] or "it said nothing"

    async def _announce(self, order: dict[str, Any]) -> _Run:
        """Give the server its ends of the run's two sockets. Raises OSError."""
        (verdict, verdict_there), (report, report_there) = socket.socketpair(), socket.socketpair()
        with report_there, verdict_there:
            try:
                verdict.sendall(json.dumps(order).encode())  # fits the buffer, so it is there when they look
                async with self._handover:
                    await self._hand_over([report_there.fileno(), verdict_there.fileno()])
            except BaseException:
                verdict.close()
                report.close()
                raise
        wrap = anyio.abc.UNIXSocketStream.from_socket
        stream = await wrap(verdict)
        return _Run(stream, await wrap(report), BufferedByteReceiveStream(stream))

    async def _hand_over(self, descriptors: list[int]) -> None:
        """Pass descriptors to the server; one that died is replaced first."""
        process, control = self._running()
        if process.poll() is not None:
            control.close()
            self._start()
            _, control = self._running()
        while True:
            try:
                socket.send_fds(control, [b"R"], descriptors)
                return
            except BlockingIOError:  # a long queue in front of a server that is still warming up
                await anyio.wait_writable(control)

    def _conclude(self, run: _Run, order: dict[str, Any]) -> ChildResult:
        """What the run's end means."""
        if run.end is None:
            if run.pid:  # a dying server takes its children with it by death signal, but not what those started
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(run.pid, signal.SIGKILL)
            return ChildResult(
                None, ServerLost(f"the run did not start or was lost: {run.refusal or self._complaint()}")
            )
        end = run.end
        failure = _failure(run, end, order)
        value = run.said.get("value") if run.said is not None and failure is None else None
        return ChildResult(value, failure, end["wall"], end["cpu"], end["rss"], end["status"])


def _failure(run: _Run, end: dict[str, Any], order: dict[str, Any]) -> ChildFailure | None:
    said = run.said or {}
    if run.trouble:
        return ChildCrashed(end["status"], _tail(order), run.trouble)
    if "value" in said:
        return None
    if "raised" in said:
        return ChildRaised(said["raised"])
    if "memory" in said:
        return ChildOutOfMemory(order["memory_bytes"], said["memory"])
    if end["reason"] == "timeout":
        return ChildTimeout(order["seconds"])
    if end["status"] < 0:
        return ChildKilled(-end["status"], _tail(order))
    return ChildCrashed(end["status"], _tail(order))


async def _converse(run: _Run, request: bytes, on_progress: Callable[[str], None]) -> None:
    """Send the request, take progress and result, until the verdict is in. Cancelled, it first sees the child dead."""
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_send, run, request)
            tasks.start_soon(_listen, run, on_progress)
            await _judge(run)
            tasks.cancel_scope.deadline = anyio.current_time() + 5  # all was said; only a stray could hold the line
    except BaseException:
        with anyio.move_on_after(10, shield=True):
            await _kill(run)
            await _judge(run)
        raise


async def _send(run: _Run, request: bytes) -> None:
    with contextlib.suppress(*_CLOSED):  # it ended before it had read everything: the verdict says why
        await run.report.send(request)


async def _listen(run: _Run, on_progress: Callable[[str], None]) -> None:
    """Read the child's lines. What breaks the rules, or our own callback, ends the child."""
    stream = BufferedByteReceiveStream(run.report)
    with contextlib.suppress(*_CLOSED):
        while True:
            try:
                said = json.loads(await stream.receive_until(b"\n", _LONGEST_LINE))
                if "progress" not in said:
                    run.said = said
                    continue
            except (anyio.DelimiterNotFound, ValueError, TypeError):
                run.trouble = f"a result that is no JSON line of at most {_LONGEST_LINE >> 20} MiB"
                return await _kill(run)
            try:
                on_progress(str(said["progress"]))
            except Exception as problem:
                run.error = problem
                return await _kill(run)


async def _judge(run: _Run) -> None:
    """Wait for the server's word that the child ended; returns without it if the server is gone."""
    if run.end is not None:
        return
    with contextlib.suppress(*_CLOSED):
        while run.end is None and not run.refusal:
            told = json.loads(await run.verdicts.receive_until(b"\n", 1 << 16))
            run.pid = told.get("pid", run.pid)
            run.end = told.get("ended")
            run.refusal = told.get("refused", "")


async def _kill(run: _Run) -> None:
    with contextlib.suppress(*_CLOSED):
        await run.verdict.send_eof()


def _tail(order: dict[str, Any], size: int = 2000) -> str:
    """The last lines this run logged, at most `size` characters, without faulthandler's list of loaded libraries."""
    try:
        with open(order["log"], "rb") as file:
            file.seek(max(order["log_start"], os.path.getsize(order["log"]) - 32_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    kept = (line for line in text.splitlines() if not line.startswith("Extension modules: "))
    return "\n".join(kept).strip()[-size:]
