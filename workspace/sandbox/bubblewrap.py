"""The sandbox on Linux: bubblewrap, which needs no daemon and no privilege.

Namespaces of its own for users, processes, mounts, network, IPC and host name; the system read-only; only the writable
directories writable, and what is protected in them read-only again; no capability, no new privilege, no secret.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from workspace.sandbox.cgroup import counted
from workspace.sandbox.guarding import Guard
from workspace.sandbox.inside import Inside, as_signal
from workspace.sandbox.port import NO_NETWORK, Limits, Network, Result, SandboxUnavailable
from workspace.sandbox.proxy import Proxy
from workspace.sandbox.supervising import Output, supervise
from workspace.sandbox.surroundings import SYSTEM_ETC, beginning, environment_of, program_of, python_places
from workspace.sandbox.watching import DiskWatch

_INSTALL = "install the package `bubblewrap` (Debian, Ubuntu, Fedora and Arch call it so), version 0.8 or newer"
_ALLOW = (
    "allow user namespaces for this user (the kernel's user.max_user_namespaces, AppArmor's "
    "kernel.apparmor_restrict_unprivileged_userns, or the container's seccomp profile)"
)
_HOME = "/tmp"  # noqa: S108  # inside the sandbox, where it is a file system of its own


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """Runs commands by the `bwrap` program at `program`. Made by `find`."""

    program: str
    environments: tuple[Path, ...] = ()
    name: str = field(default="bubblewrap", init=False)
    contained: bool = field(default=True, init=False)

    @classmethod
    def find(cls, environments: Sequence[Path] = ()) -> Bubblewrap:
        """The bubblewrap on the system's path. Raises SandboxUnavailable naming the package when there is none."""
        program = program_of("bwrap", "bubblewrap runs", "bubblewrap is not installed", _INSTALL)
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
        bounds, guard = limits or Limits(), Guard(command, cwd, writable)
        proxy = Proxy(network)
        variables = environment_of(self.environments, _HOME, {**proxy.variables, **(environment or {})})
        disk = DiskWatch(guard.writable, bounds.disk_bytes)
        output, count = Output(bounds.output_bytes), counted(bounds.processes + 2)
        with contextlib.ExitStack() as stack:
            if count is not None:
                stack.callback(count.close)
            status, status_there = _pipe(stack)
            mark, mark_there = _pipe(stack)
            go_there, go = _pipe(stack)
            way = stack.enter_context(proxy.running())
            order = [self.program, *self._mounts(guard, bounds, proxy.places), "--clearenv"]
            order += [part for name, value in variables.items() for part in ("--setenv", name, value)]
            order += ["--json-status-fd", str(status_there.fileno()), "--block-fd", str(go_there.fileno())]
            order += ["--chdir", os.fspath(guard.cwd), "--"]
            order += beginning(command, bounds, mark_there.fileno(), count_processes=count is None, way=way)
            process = subprocess.Popen(
                order,
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(
                    status_there.fileno(),
                    mark_there.fileno(),
                    go_there.fileno(),
                    *([] if way is None else [way]),
                ),
                start_new_session=True,
            )
            proxy.handed_over()
            for end in (status_there, mark_there, go_there):
                end.close()
            inside = Inside(process, _first_process(status.readline()), bounds, disk, stop)
            stack.callback(inside.kill)
            inside.start(count, go)
            ending = supervise(process, output, bounds.seconds, inside.look, inside.kill)
            stands = mark.read(1) == b"!"
        refused = guard.close()
        if inside.blind:
            raise SandboxUnavailable(f"the sandbox cannot be watched: {inside.blind}", "run it as the user who owns it")
        if not stands and not ending.stopped:
            raise SandboxUnavailable(
                f"bubblewrap could not make the sandbox: {' '.join(output.text.split())[:300] or 'it did not say why'}",
                _ALLOW,
            )
        return Result(
            exit_code=None if ending.exit_code is None else as_signal(ending.exit_code),
            output=output.text,
            left_out=output.left_out,
            stopped=ending.stopped,
            seconds=ending.seconds,
            refused=refused,
            contacts=proxy.contacts,
        )

    def _mounts(self, guard: Guard, limits: Limits, more: Sequence[str]) -> list[str]:
        """What is there, in the order in which it is laid over each other."""
        order = ["--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
        order += ["--unshare-cgroup-try", "--disable-userns", "--die-with-parent", "--new-session"]
        order += ["--cap-drop", "ALL", "--hostname", "sandbox", "--ro-bind", "/usr", "/usr"]
        for name in ("bin", "sbin", "lib", "lib32", "lib64"):
            top = Path("/", name)
            if top.is_symlink():
                order += ["--symlink", str(top.readlink()), os.fspath(top)]
            elif top.is_dir():
                order += ["--ro-bind", os.fspath(top), os.fspath(top)]
        for name in SYSTEM_ETC:
            order += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        for name in more:
            order += ["--ro-bind-try", name, name]
        order += ["--ro-bind-try", "/nix", "/nix", "--proc", "/proc", "--dev", "/dev"]
        for temporary in ("/dev/shm", _HOME):  # noqa: S108
            order += ["--size", str(limits.temporary_bytes), "--tmpfs", temporary]
        for place in (*python_places(), *self.environments):
            if not place.is_relative_to("/usr"):
                order += ["--ro-bind", os.fspath(place), os.fspath(place)]
        if not any(guard.cwd.is_relative_to(place) for place in guard.writable):
            order += ["--ro-bind", os.fspath(guard.cwd), os.fspath(guard.cwd)]
        for place in guard.writable:
            order += ["--bind", os.fspath(place), os.fspath(place)]
        for place in guard.protected:
            order += ["--ro-bind", os.fspath(place), os.fspath(place)]
        return [*order, "--remount-ro", "/dev", "--remount-ro", "/"]


def _pipe(stack: contextlib.ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """The reading and the writing end of a new pipe."""
    reading, writing = os.pipe()
    return stack.enter_context(os.fdopen(reading, "rb", 0)), stack.enter_context(os.fdopen(writing, "wb", 0))


def _first_process(line: bytes) -> int:
    """The pid bubblewrap reports when it has made the namespaces; 0 if it could not."""
    return int(json.loads(line)["child-pid"]) if line else 0
