"""The sandbox by a container engine: podman, which needs no daemon, as an ordinary user or as root.

A container of its own for each command, from no image: the root is an empty directory with the system's programs bound
into it read-only, so a command sees what it sees in bubblewrap. The first process of the container is ours. It holds a
line to us, by a Unix socket that nobody can connect to afterwards; when the command ends, or that line is cut since we
did, it ends, and with it all in the container.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from workspace.sandbox.guarding import Guard
from workspace.sandbox.inside import Inside, as_signal
from workspace.sandbox.port import NO_NETWORK, Limits, Network, Result, SandboxUnavailable
from workspace.sandbox.proxy import Proxy
from workspace.sandbox.seccomp import narrowed
from workspace.sandbox.supervising import Output, supervise
from workspace.sandbox.surroundings import SYSTEM_ETC, beginning, environment_of, program_of, python_places
from workspace.sandbox.watching import DiskWatch
from workspace.scratch import scratch_folder

_INSTALL = "install the package `podman`, version 4 or newer, or set `sandbox: bubblewrap`"
_LOOK = "see whether `podman info` works for this user, and `podman run --rootfs`"
_HOME = "/tmp"  # noqa: S108  # inside the container, where it is a file system of its own
_LINK = "/run/link"
_MARK, _WAY = 10, 11
_START_SECONDS = 60.0
_NPROC = 4096
"""Few enough to be allowed: an engine asks for a million otherwise. What holds is the limit of the run."""
_OF_ENGINE = (
    "HOME",
    "PATH",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
)
"""Variables that the engine is given; nothing of them reaches the container."""

_FIRST = f"""
import ctypes, os, select, socket, sys
if ctypes.CDLL(None).prctl(4, 0, 0, 0, 0):  # PR_SET_DUMPABLE: nobody in here may trace us
    sys.exit("the first process cannot be protected")
link = socket.socket(socket.AF_UNIX)
link.connect({_LINK!r})
child = os.fork()
if child == 0:
    os.dup2(link.fileno(), {_MARK})
    os.dup2(link.fileno(), {_WAY})
    os.execv("/usr/bin/env", ["env", "-i", *sys.argv[1:]])
while True:
    ready, _, _ = select.select([link], [], [], 0.05)
    if ready:
        os._exit(137)
    done, status = os.waitpid(-1, os.WNOHANG)
    while done:
        if done == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
        done, status = os.waitpid(-1, os.WNOHANG)
"""


@dataclass(frozen=True, slots=True)
class Container:
    """Runs commands by the `podman` program at `program`. Made by `find`."""

    program: str
    environments: tuple[Path, ...] = ()
    name: str = field(default="container", init=False)
    contained: bool = field(default=True, init=False)

    @classmethod
    def find(cls, environments: Sequence[Path] = ()) -> Container:
        """The podman on the system's path. Raises SandboxUnavailable naming the package when there is none."""
        program = program_of("podman", "containers are made", "there is no container engine", _INSTALL)
        return cls(program, tuple(environments))

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        writable: Sequence[Path] = (),
        limits: Limits | None = None,
        environment: Mapping[str, str] | None = None,
        network: Network = NO_NETWORK,
        stop: Callable[[], bool] | None = None,
    ) -> Result:
        """See `Sandbox.run`."""
        bounds, guard, proxy = limits or Limits(), Guard(command, cwd, writable), Proxy(network)
        variables = environment_of(self.environments, _HOME, {**proxy.variables, **(environment or {})})
        disk, output = DiskWatch(guard.writable, bounds.disk_bytes), Output(bounds.output_bytes)
        as_root = os.geteuid() == 0
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(scratch_folder())
            (folder / "calls.json").write_text(_calls(self.program))
            way = stack.enter_context(proxy.running())
            door = stack.enter_context(socket.socket(socket.AF_UNIX))
            door.bind(os.fspath(folder / "link"))
            door.listen(1)
            order = [self.program, "run", *_options(bounds, folder, as_root=as_root)]
            mounts = self._mounts(guard, folder, proxy.places)
            root = _root(folder, mounts)
            order += [*mounts, "--workdir", os.fspath(guard.cwd), "--rootfs", os.fspath(root)]
            order += [sys.executable, "-I", "-S", "-c", _FIRST]
            order += [f"{name}={value}" for name, value in variables.items()]
            order += beginning(command, bounds, _MARK, count_processes=not as_root, way=None if way is None else _WAY)
            process = subprocess.Popen(
                order,
                env=_engine_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            line = _line(door, process, way)
            door.close()
            proxy.handed_over()
            first = 0
            if line is not None:
                stack.enter_context(line)
                first = int((folder / "pid").read_text())
            inside = Inside(process, first, bounds, disk, stop)
            stack.callback(inside.kill)
            ending = supervise(process, output, bounds.seconds, inside.look, inside.kill)
        refused = guard.close()
        if inside.blind:
            raise SandboxUnavailable(
                f"the container cannot be watched: {inside.blind}", "run it as the user who owns it"
            )
        if line is None and not ending.stopped:
            said = " ".join(output.text.split())[-300:] or "it did not say why"
            raise SandboxUnavailable(f"podman could not make the container: {said}", _LOOK)
        return Result(
            exit_code=None if ending.exit_code is None else as_signal(ending.exit_code),
            output=output.text,
            left_out=output.left_out,
            stopped=ending.stopped,
            seconds=ending.seconds,
            refused=refused,
            contacts=proxy.contacts,
        )

    def _mounts(self, guard: Guard, folder: Path, more: Sequence[str]) -> list[str]:
        """What is there, in the order in which it is laid over each other."""
        order = _bind(Path("/usr"))
        for name in ("bin", "sbin", "lib", "lib32", "lib64"):
            top = Path("/", name)
            if top.is_dir() and not top.is_symlink():
                order += _bind(top)
        present = [Path("/etc", name) for name in SYSTEM_ETC] + [Path("/nix"), *map(Path, more)]
        for place in present:
            order += _bind(place) if place.exists() else []
        for place in (*python_places(), *self.environments):
            order += [] if place.is_relative_to("/usr") else _bind(place)
        if not any(guard.cwd.is_relative_to(place) for place in guard.writable):
            order += _bind(guard.cwd)
        for place in guard.writable:
            order += _bind(place, read_only=False)
        for place in guard.protected:
            order += _bind(place)
        return [*order, *_bind(folder / "link", Path(_LINK))]


def _options(limits: Limits, folder: Path, *, as_root: bool) -> list[str]:
    """What a container has and may. Every process of it is the user who runs it, and nobody else's."""
    owner = ["--uidmap=0:0:1", "--gidmap=0:0:1"] if as_root else ["--userns=keep-id"]
    counted = [f"--pids-limit={limits.processes + 2}"] if as_root else []
    tmpfs = f"--tmpfs={_HOME}:rw,exec,nosuid,nodev,mode=1777,size={limits.temporary_bytes}"
    return [
        "--rm", "--pull=never", "--network=none", "--no-hosts", "--http-proxy=false", "--read-only",
        "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges", "--security-opt=label=disable",
        "--ipc=private", "--pid=private", "--uts=private", "--cgroupns=private", "--hostname=sandbox",
        f"--shm-size={limits.temporary_bytes}", tmpfs, "--log-driver=passthrough", "--systemd=false",
        "--ulimit=nofile=1024:1024", f"--ulimit=nproc={_NPROC}:{_NPROC}", f"--timeout={int(limits.seconds) + 60}",
        f"--security-opt=seccomp={folder / 'calls.json'}", f"--pidfile={folder / 'pid'}", *owner, *counted,
    ]  # fmt: skip


def _engine_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _OF_ENGINE if name in os.environ}


@cache
def _calls(program: str) -> str:
    """The system calls of a container. Raises SandboxUnavailable where the engine has no list of its own."""
    ask = [program, "info", "--format", "{{.Host.Security.SECCOMPEnabled}} {{.Host.Security.SECCOMPProfilePath}}"]
    try:
        told = subprocess.run(ask, env=_engine_environment(), capture_output=True, text=True, timeout=60, check=False)
        enabled, _, path = told.stdout.strip().partition(" ")
        if told.returncode != 0 or enabled != "true" or not path:
            said = " ".join((told.stderr or told.stdout).split())[-300:]
            raise SandboxUnavailable(f"podman does not limit system calls here: {said or 'it did not say why'}", _LOOK)
        return narrowed(Path(path).read_text("utf-8"))
    except (OSError, ValueError, LookupError, TypeError, subprocess.TimeoutExpired) as problem:
        raise SandboxUnavailable(f"podman's list of system calls cannot be used: {problem}", _LOOK) from problem


def _root(folder: Path, mounts: Sequence[str]) -> Path:
    """An empty root with the links a system has at its top and with what is mounted on: what the engine makes there may
    belong to a user that we cannot remove it as."""
    root = folder / "root"
    for name in ("usr", "proc", "sys", "dev", "run", "tmp", "etc"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)  # some runtimes give it to what is mounted there
    (root / "run" / ".containerenv").touch()
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        top = Path("/", name)
        if top.is_symlink():
            (root / name).symlink_to(top.readlink())
    for mount in mounts:
        place, there = (part.partition("=")[2] for part in mount.split(",")[1:3])
        on = root / there.lstrip("/")
        if Path(place).is_dir():
            on.mkdir(parents=True, exist_ok=True)
        else:
            on.parent.mkdir(parents=True, exist_ok=True)
            on.touch()
    return root


def _bind(place: Path, there: Path | None = None, *, read_only: bool = True) -> list[str]:
    """Raises SandboxUnavailable for a name the engine would read otherwise."""
    name = os.fspath(place)
    if any(mark in name for mark in ',"\n'):
        raise SandboxUnavailable(f"podman cannot be told of the directory {name!r}", "use a name without , and quotes")
    return [f"--mount=type=bind,src={name},dst={there or name},ro={'true' if read_only else 'false'}"]


def _line(door: socket.socket, process: subprocess.Popen[bytes], way: int | None) -> socket.socket | None:
    """The line to the first process once the command is about to begin; None if it never will. What listens for the
    proxy comes over it and is passed on by `way`."""
    line = _accepted(door, process)
    if line is None:
        return None
    line.settimeout(_START_SECONDS)
    try:
        if way is not None:
            _, handles, _, _ = socket.recv_fds(line, 1, 1, socket.MSG_CMSG_CLOEXEC)
            with contextlib.ExitStack() as ours, socket.socket(fileno=os.dup(way)) as there:
                for handle in handles:
                    ours.callback(os.close, handle)
                socket.send_fds(there, [b"!"], handles)
        if line.recv(1) == b"!":
            return line
    except OSError:
        process.kill()
    line.close()
    return None


def _accepted(door: socket.socket, process: subprocess.Popen[bytes]) -> socket.socket | None:
    """The first connection; None if the engine ended before, or took too long.

    An order to stop waits for it: an engine that is killed while it makes a container leaves processes that go on with
    that, while the first process can be ended with all there is.
    """
    door.settimeout(0.05)
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            return door.accept()[0]
        except TimeoutError:
            if process.poll() is not None:
                return None
            if time.monotonic() > deadline:
                process.kill()
                return None
