"""Commands of `valuetrain` as real processes that need not import anything: forked from one that has done so.

Most of what a short command costs is importing, and most of what a drive waits for is its fork server importing the
skills' libraries. A test that drives the system by fifty commands pays for both once. What is proved stays: each
command is a process of its own with its own arguments, environment, directory and streams, runs `cli.main.run`, and
its skills run in children of a fork server of its own. Started cold, from nothing, are those that tests leave running
(`Train.start`): whoever kills, starts or stops processes means those.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "bus", "store", "workspace", "conductor", "agents", "autopilot", "cli")
POSSIBLE = hasattr(os, "pidfd_open")
"""Only Linux tells a process that waits for several others which of them ended."""
FIXED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "MPLBACKEND": "Agg"}
"""As skills run."""
_SIZE = 1 << 20


# The tests' side


class Warm:
    """A process to fork commands from, and the way to ask it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._asking = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SIZE)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.warm", str(theirs.fileno())],
                cwd=ROOT, env={**environment, **FIXED}, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),),
            )  # fmt: skip
        atexit.register(self.close)

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.wait()

    def run(
        self, words: Sequence[str], cwd: Path, environment: Mapping[str, str], seconds: float
    ) -> tuple[int, str, str]:
        """Exit code, output and errors of a command. Raises subprocess.TimeoutExpired, having killed it."""
        order = {"words": list(words), "cwd": os.fspath(cwd), "environment": dict(environment)}
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            ours, theirs = socket.socketpair()
            with ours, theirs, self._asking:
                files = [out.fileno(), err.fileno(), theirs.fileno()]
                socket.send_fds(self._socket, [json.dumps(order).encode()], files)
                theirs.close()
                code = self._wait(ours, words, seconds)
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        return code, texts[0], texts[1]

    def _wait(self, answers: socket.socket, words: Sequence[str], seconds: float) -> int:
        lines = answers.makefile()
        pid = int(lines.readline() or self._lost())
        answers.settimeout(seconds)
        try:
            return int(lines.readline() or self._lost())
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(words), seconds) from None

    def _lost(self) -> NoReturn:
        raise AssertionError(f"the process that commands are forked from ended with {self._process.wait(10)}")


@functools.cache
def warm() -> Warm:
    """The one of this test process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VALUETRAIN_", "GIT_", "COV"))}
    return Warm({**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1"})


# The process that forks


def _import_everything() -> None:
    from agents.worker import PRELOAD

    for name in PRELOAD:
        importlib.import_module(name)
    for package in PACKAGES:
        for found in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            if ".migrations" not in found.name:  # scripts that Alembic runs
                importlib.import_module(found.name)
    gc.collect()
    gc.freeze()


def serve(control: socket.socket) -> None:
    """Fork a command for each order, and tell its process id, then its exit code. Until the other side is gone."""
    _import_everything()
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
                        _become(json.loads(data), out, err, told)
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


def _become(order: dict[str, Any], out: int, err: int, told: int) -> NoReturn:
    """The command: what `python -m cli.main WORDS` is once everything is imported."""
    code = 1
    try:
        os.setsid()
        os.close(told)
        for source, target in ((out, 1), (err, 2)):
            os.dup2(source, target)
            os.close(source)
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(order["cwd"])
        tempfile.tempdir = None
        if order["words"][0] == "drive":
            _bring_a_fork_server()
        import cli.main

        sys.modules["__main__"] = cli.main
        sys.argv = [str(ROOT / "cli" / "main.py"), *order["words"]]
        cli.main.run()
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


# A fork server for the skills of a drive


def _bring_a_fork_server() -> None:
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


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
