"""The fork server's side: one warm process that forks a child for each run.

Started by `workspace.children` with an empty environment, so that no child can find a secret in its own memory or in
`/proc/<pid>/environ`. It imports the heavy libraries once and then only forks, watches and reaps; work never runs here.

Per run it receives two sockets. `report` goes to the child: the request comes in, progress and result go out, all as
JSON lines. `verdict` stays here, so that the child cannot forge it: the order comes in, the child's id and its end go
out; when the other side shuts it (cancelled, or the parent died), the run is killed.

Standard library only: importing this must cost nothing, and it must not start a thread.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any, NoReturn

from workspace.child import DEATH_SIGNAL, NAME, SUBREAPER, become, prctl, say
from workspace.child import progress as progress


@dataclass
class Run:
    """One child from fork to reaping. `reason` says why we killed it, if we did."""

    verdict: socket.socket
    output: int
    log: int
    room: int
    deadline: float
    started: float = field(default_factory=time.monotonic)
    reason: str = ""


class Zygote:
    """The loop: accepts runs, copies their output to their logs, ends them at their deadline, reports their end."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.runs: dict[int, Run] = {}
        self.selector = selectors.DefaultSelector()
        self.wake, wakes = socket.socketpair()
        for end in (self.wake, wakes):
            end.setblocking(False)
        self.wakes = wakes
        signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.selector.register(control, selectors.EVENT_READ, self.accept)
        self.selector.register(self.wake, selectors.EVENT_READ, lambda: self.wake.recv(4096))

    def serve(self) -> NoReturn:
        """Until the parent closes the control socket."""
        while True:
            due = min((run.deadline for run in self.runs.values() if not run.reason), default=None)
            self.turn(None if due is None else max(0.0, due - time.monotonic()))

    def turn(self, pause: float | None) -> None:
        """Do what is due, after waiting at most `pause` seconds (None: for ever) for something to happen."""
        for key, _ in self.selector.select(pause):
            key.data()
        for pid, run in list(self.runs.items()):
            if not run.reason and time.monotonic() >= run.deadline:
                self.kill(pid, "timeout")
        self.reap()

    def accept(self) -> None:
        """One byte and two sockets announce a run; the order already waits in the verdict socket."""
        try:
            data, ancillary, _, _ = self.control.recvmsg(1, socket.CMSG_SPACE(2 * array.array("i").itemsize))
        except ConnectionError:
            data, ancillary = b"", []
        if not data:
            self.shut_down()
        descriptors = array.array("i")
        for _, _, content in ancillary:
            descriptors.frombytes(content)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        report, verdict = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        try:
            self.start(report, verdict, json.loads(verdict.recv(1 << 16)))
        except OSError as problem:  # no room for the log, no process left: this run's trouble, not the others'
            say(verdict, {"refused": str(problem)})
            report.close()
            verdict.close()

    def start(self, report: socket.socket, verdict: socket.socket, order: dict[str, Any]) -> None:
        """Fork the child and watch it. Raises OSError if that cannot be done."""
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        read_end, write_end = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            for descriptor in (log, read_end, write_end):
                os.close(descriptor)
            raise
        if pid == 0:
            for run in self.runs.values():
                run.verdict.close()
                os.close(run.output)
                os.close(run.log)
            for ours in (self.control, self.selector, self.wake, self.wakes, verdict):
                ours.close()
            os.close(read_end)
            os.close(log)
            become(report, write_end, order)
        report.close()
        os.close(write_end)
        os.set_blocking(read_end, False)
        self.runs[pid] = Run(verdict, read_end, log, order["log_bytes"], time.monotonic() + order["seconds"])
        self.selector.register(verdict, selectors.EVENT_READ, lambda: self.kill(pid, "cancelled"))
        self.selector.register(read_end, selectors.EVENT_READ, lambda: self.copy(pid))
        say(verdict, {"pid": pid})

    def copy(self, pid: int) -> bool:
        """Move what the child printed to its log, and drop what exceeds the log's room. Whether there may be more."""
        run = self.runs[pid]
        try:
            chunk = os.read(run.output, 1 << 16)
        except BlockingIOError:
            return False
        if not chunk:
            with contextlib.suppress(KeyError):
                self.selector.unregister(run.output)
            return False
        if run.room > 0:
            kept = chunk[: run.room]
            run.room -= len(kept)
            if run.room == 0:
                kept += b"\n[output capped here]\n"
            with contextlib.suppress(OSError):  # a full disk must not end the other runs
                os.write(run.log, kept)
        return True

    def kill(self, pid: int, reason: str) -> None:
        """End the run's whole process group; SIGKILL, because a result that comes too late is of no use."""
        run = self.runs[pid]
        if not run.reason:
            run.reason = reason
            with contextlib.suppress(KeyError):
                self.selector.unregister(run.verdict)
        _kill_group(pid)

    def reap(self) -> None:
        """Report the children that ended, and end whatever they left running."""
        for pid, run in list(self.runs.items()):
            if hasattr(os, "waitid"):  # kill the group while the zombie still holds its number
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    continue
                _kill_group(pid)
            ended, status, usage = os.wait4(pid, os.WNOHANG)
            if not ended:
                continue
            wall = time.monotonic() - run.started
            self.sweep()
            for _ in range(64):  # bounded: more than a pipe holds
                if not self.copy(pid):
                    break
            del self.runs[pid]
            for source in (run.verdict, run.output):
                with contextlib.suppress(KeyError, ValueError):
                    self.selector.unregister(source)
            end = {
                "status": os.waitstatus_to_exitcode(status),
                "reason": run.reason,
                "wall": wall,
                "cpu": usage.ru_utime + usage.ru_stime,
                "rss": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            }
            say(run.verdict, {"ended": end})
            run.verdict.close()
            os.close(run.output)
            os.close(run.log)

    def sweep(self) -> None:
        """Kill what escaped its group: as the subreaper we are the new parent of every orphan of a dead child."""
        while strays := _children() - self.runs.keys():
            for pid in strays:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)

    def shut_down(self, *_: object) -> NoReturn:
        """Nothing outlives this process."""
        for pid in self.runs:
            _kill_group(pid)
        for pid in self.runs:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self.runs.clear()
        self.sweep()
        os._exit(0)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)  # it may not have made its group yet
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _children() -> set[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return {int(pid) for pid in file.read().split()}
    except OSError:
        return set()  # not Linux: groups only


def main(control: int, parent: int, preload: list[str]) -> NoReturn:
    """Warm up, serving between two imports, then serve. A module that fails is reported; its runs will say why."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    zygote = Zygote(socket.socket(fileno=control))
    signal.signal(signal.SIGTERM, zygote.shut_down)
    prctl(DEATH_SIGNAL, signal.SIGTERM)
    prctl(SUBREAPER, 1)
    prctl(NAME, b"vt-zygote")
    if os.getppid() != parent:
        zygote.shut_down()
    began, failed = time.monotonic(), {}
    for module in preload:
        try:
            importlib.import_module(module)
        except BaseException as problem:
            failed[module] = f"{type(problem).__name__}: {problem}"
        zygote.turn(0.0)  # a first run need not wait for libraries that later ones want
    gc.collect()
    gc.freeze()  # keeps the collector from touching, and so copying, the pages children share
    say(zygote.control, {"seconds": time.monotonic() - began, "failed": failed})
    zygote.serve()
