"""Real processes that need not import anything: forked from one that has done so.

Most of what a short command costs is importing. A test that starts fifty processes pays for it once. What is proved
stays: each is a process of its own with its own arguments, environment, directory and streams; it can be killed and
waited for like any other, and what it knows it has read from disk or from the bus. `tests.integration.warm` forks
commands, `tests.chaos.warm` components that are to be killed.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
POSSIBLE = hasattr(os, "pidfd_open")
"""Only Linux tells a process that waits for several others which of them ended."""
FIXED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "MPLBACKEND": "Agg"}
"""As skills run."""
_SIZE = 1 << 20

Become = Callable[[Sequence[str]], None]
"""What a forked process is: it gets its words, and its exit code is that of a program."""


# The tests' side


class Warmed(subprocess.Popen[str]):
    """A process that was forked there, as `subprocess` knows its own. Its exit code is told by a socket."""

    def __init__(self, words: Sequence[str], told: socket.socket, out: IO[str] | None, err: IO[str] | None) -> None:
        self.args, self.returncode = list(words), None
        self.stdin, self.stdout, self.stderr = None, out, err
        self.encoding = self.errors = None
        self.text_mode = True
        self._input, self._communication_started = None, False
        self._child_created, self._closed_child_pipe_fds = True, True
        self._waitpid_lock, self._sigint_wait_secs = threading.Lock(), 0.25
        self._told = told
        self._handle: int | None = None
        self.pid = self._number()
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            self._handle = os.pidfd_open(self.pid)

    def _number(self) -> int:
        line = b""
        while not line.endswith(b"\n"):
            part = self._told.recv(1)
            if not part:
                raise AssertionError("the process that others are forked from has ended")
            line += part
        return int(line)

    def _wait(self, timeout: float | None) -> int:
        until = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            left = None if until is None else max(0.0, until - time.monotonic())
            if not _readable(self._told, left):
                assert timeout is not None
                raise subprocess.TimeoutExpired(self.args, timeout)
            self._internal_poll()
        return self.returncode

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        with self._waitpid_lock:
            if self.returncode is None and _readable(self._told, 0):
                self.returncode = self._number()
                self._told.close()
                if self._handle is not None:
                    os.close(self._handle)
            return self.returncode

    def send_signal(self, sig: int) -> None:
        """To the process itself, never to another one that got its number."""
        if self.poll() is None and self._handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, sig)


def _readable(end: socket.socket, seconds: float | None) -> bool:
    poll = select.poll()
    poll.register(end, select.POLLIN)
    return bool(poll.poll(None if seconds is None else 1000 * seconds))


class Warm:
    """A process to fork others from (`python -m MODULE DESCRIPTOR WORDS…`), and the way to ask it."""

    def __init__(self, module: str, words: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("VALUETRAIN_", "GIT_", "COV"))}
        kept |= {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1", **FIXED, **(environment or {})}
        self._asking = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SIZE)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno()), *words],
                cwd=ROOT, env=kept, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),),
            )  # fmt: skip
        atexit.register(self.close)

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.wait()

    def start(
        self, words: Sequence[str], cwd: Path, environment: Mapping[str, str], err: IO[Any] | None = None
    ) -> subprocess.Popen[str]:
        """A process that goes on; what it prints comes through pipes, its errors into the file `err` if there is one.

        It has a session of its own, so that it can be killed as a whole.
        """
        ends, given = os.pipe()
        errors, complaining = (None, None) if err is not None else os.pipe()
        try:
            told = self._ask(words, cwd, environment, given, err.fileno() if err is not None else complaining)
        finally:
            os.close(given)
            if complaining is not None:
                os.close(complaining)
        return Warmed(words, told, open(ends), None if errors is None else open(errors))

    def run(
        self, words: Sequence[str], cwd: Path, environment: Mapping[str, str], seconds: float
    ) -> tuple[int, str, str]:
        """Exit code, output and errors of a process. Raises subprocess.TimeoutExpired, having killed it."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = Warmed(words, self._ask(words, cwd, environment, out.fileno(), err.fileno()), None, None)
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        return code, texts[0], texts[1]

    def _ask(
        self, words: Sequence[str], cwd: Path, environment: Mapping[str, str], *files: int | None
    ) -> socket.socket:
        order = {"words": list(words), "cwd": os.fspath(cwd), "environment": dict(environment)}
        ours, theirs = socket.socketpair()
        with theirs, self._asking:
            descriptors = [*(file for file in files if file is not None), theirs.fileno()]
            socket.send_fds(self._socket, [json.dumps(order).encode()], descriptors)
        return ours


# The process that forks


def serve(control: socket.socket, become: Become) -> None:
    """Fork a process for each order, and tell its process id, then its exit code. Until the other side is gone."""
    gc.collect()
    gc.freeze()
    running: dict[int, tuple[int, socket.socket]] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is control:
                    data, descriptors, _, _ = socket.recv_fds(control, _SIZE, 3)
                    if not data:
                        return
                    out, err, told = descriptors
                    pid = os.fork()
                    if pid == 0:
                        selector.close()
                        control.close()
                        for handle, (_, answers) in running.items():
                            os.close(handle)
                            answers.close()
                        _become(json.loads(data), out, err, told, become)
                    for descriptor in (out, err):
                        os.close(descriptor)
                    answers = socket.socket(fileno=told)
                    answers.sendall(f"{pid}\n".encode())
                    handle = os.pidfd_open(pid)
                    running[handle] = pid, answers
                    selector.register(handle, selectors.EVENT_READ)
                else:
                    pid, answers = running.pop(key.fd)
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    with contextlib.suppress(BrokenPipeError), answers:  # nobody waits for one that was killed
                        answers.sendall(f"{code}\n".encode())


def _become(order: dict[str, Any], out: int, err: int, told: int, become: Become) -> NoReturn:
    """What a program is once everything is imported."""
    code = 1
    try:
        os.setsid()
        os.close(told)
        for source, target in ((out, 1), (err, 2)):
            os.dup2(source, target)
            os.close(source)
        os.environ.clear()
        os.environ.update(order["environment"])
        if "PYTHONUNBUFFERED" in order["environment"]:
            sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
        os.chdir(order["cwd"])
        tempfile.tempdir = None
        become(order["words"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


# A fork server for the skills of a forked process


def bring_a_fork_server() -> None:
    """Fork it while this process has one thread; `ForkServer` finds it when it starts its server the first time."""
    from workspace.children import ForkServer

    ours, theirs = socket.socketpair()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _wait_to_serve(theirs, parent)
    theirs.close()
    cold = ForkServer._start

    def start(server: ForkServer) -> None:
        ForkServer._start = cold  # type: ignore[method-assign]
        control, control_there = socket.socketpair()
        control.setblocking(False)
        order = {"home": os.path.abspath(server._home or ""), "preload": server.preload, "path": sys.path}
        with ours, control_there:
            descriptors = [control_there.fileno(), server._complaints.fileno()]
            socket.send_fds(ours, [json.dumps(order).encode()], descriptors)
        server._server = _forked(pid), control

    ForkServer._start = start  # type: ignore[method-assign]


def _forked(pid: int) -> subprocess.Popen[bytes]:
    """A child that was forked here, as `subprocess` knows its own."""

    class Forked(subprocess.Popen[bytes]):
        def __init__(self) -> None:
            self.pid, self.returncode, self.args = pid, None, ["vt-zygote"]
            self.stdin = self.stdout = self.stderr = None
            self._child_created, self._sigint_wait_secs = True, 0.25
            self._waitpid_lock = threading.Lock()

    return Forked()


def _wait_to_serve(orders: socket.socket, parent: int) -> NoReturn:
    """What `workspace.children` starts, from the point where it has imported what it preloads."""
    try:
        from workspace import zygote
        from workspace.child import DEATH_SIGNAL, prctl

        prctl(DEATH_SIGNAL, signal.SIGTERM)
        os.setsid()
        data, descriptors, _, _ = socket.recv_fds(orders, 1 << 16, 2)
        if not data:
            os._exit(0)
        order = json.loads(data)
        control, complaints = descriptors
        orders.close()
        for target in (1, 2):
            os.dup2(complaints, target)
        os.close(complaints)
        os.environ.clear()
        os.environ.update({"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **FIXED})
        os.environ["HOME"] = os.environ["TMPDIR"] = order["home"]
        os.chdir(order["home"])
        tempfile.tempdir = None
        sys.path[:] = order["path"]
        zygote.main(control, parent, order["preload"])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)
