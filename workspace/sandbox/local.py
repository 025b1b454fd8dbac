"""No sandbox: the command runs as our own user, with limits and an empty environment, and can reach everything.

For machines where nothing better runs, and only when somebody says so by name. Whoever uses it must say so in what it
reports (`Result.contained` is False).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workspace.sandbox.guarding import Guard
from workspace.sandbox.port import NO_NETWORK, Limits, Network, Result, Stopped
from workspace.sandbox.supervising import Output, supervise
from workspace.sandbox.surroundings import beginning, environment_of
from workspace.sandbox.watching import DiskWatch
from workspace.scratch import scratch_folder

WARNING = (
    "commands ran without a sandbox (`sandbox: local-unsafe`): they could reach the network, whatever "
    "`sandbox_hosts` lists, and every file of the user the train runs as"
)


@dataclass(frozen=True, slots=True)
class LocalUnsafe:
    """Runs commands as they are. Held to: time, output, one file's size, growth of the writable directories, memory of
    each process, an environment of its own. Not held to: anything else, such as the hosts of `network`."""

    environments: tuple[Path, ...] = ()
    name: str = field(default="local-unsafe", init=False)
    contained: bool = field(default=False, init=False)

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
        """See `Sandbox.run`, and above what it does not hold to."""
        bounds, guard = limits or Limits(), Guard(command, cwd, writable)
        disk = DiskWatch(guard.writable, bounds.disk_bytes)
        output = Output(bounds.output_bytes)
        with scratch_folder() as folder:
            home = str(folder)
            mark, mark_there = os.pipe()
            try:
                process = subprocess.Popen(
                    beginning(command, bounds, mark_there, count_processes=False),
                    env=environment_of(self.environments, home, environment or {}),
                    cwd=guard.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=(mark_there,),
                    start_new_session=True,
                )
            except BaseException:
                os.close(mark)
                raise
            finally:
                os.close(mark_there)

            def look() -> Stopped:
                if stop is not None and stop():
                    return "order"
                return "disk" if disk.over() else ""

            def kill() -> None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

            try:
                ending = supervise(process, output, bounds.seconds, look, kill)
            finally:
                os.close(mark)
        return Result(
            exit_code=ending.exit_code,
            output=output.text,
            left_out=output.left_out,
            stopped=ending.stopped,
            seconds=ending.seconds,
            refused=guard.close(),
            contained=False,
        )
