"""The port: run one command nobody vouches for, so that it can neither reach out, stay behind nor use up the machine.

    sandbox = open_sandbox("bubblewrap")
    result = sandbox.run(["python", "-m", "pytest"], cwd=tree, writable=(tree,))
    if not result.ok:
        print(result.summary, result.output)

A command that fails, or is stopped at a limit, is a result. What the sandbox itself cannot do is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

BUBBLEWRAP: Literal["bubblewrap"] = "bubblewrap"
CONTAINER: Literal["container"] = "container"
LOCAL_UNSAFE: Literal["local-unsafe"] = "local-unsafe"
BACKENDS = (BUBBLEWRAP, CONTAINER, LOCAL_UNSAFE)

Stopped = Literal["", "time", "memory", "disk", "order"]
Outcome = Literal["reached", "refused", "failed"]
"""What came of a try to reach a host: `failed` is one that was allowed and could not be reached."""


class SandboxUnavailable(Exception):
    """Commands cannot be contained here, so they are not run. `problem` says why, `remedy` what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use: seconds of wall clock; bytes of memory, for each process and for all together; processes at
    once; bytes of one file; bytes that the writable directories may grow by; bytes of output that are kept; bytes of
    temporary files, which lie in memory and are gone afterwards."""

    seconds: float = 300.0
    memory_bytes: int = 2 << 30
    processes: int = 128
    file_bytes: int = 256 << 20
    disk_bytes: int = 1 << 30
    output_bytes: int = 200_000
    temporary_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True)
class Network:
    """What a run may reach besides a loopback interface of its own: the `hosts` (`NAME:PORT`), through a proxy of ours
    and by HTTP or HTTPS only; bytes of all connections together, both ways; connections at once."""

    hosts: tuple[str, ...] = ()
    most_bytes: int = 512 << 20
    connections: int = 32


NO_NETWORK = Network()


@dataclass(frozen=True, slots=True)
class Contact:
    """A host that a run asked the proxy for, as often as it did with the same outcome. `why` says why it was refused or
    failed; `sent` and `received` are bytes."""

    target: str
    outcome: Outcome
    why: str = ""
    times: int = 1
    sent: int = 0
    received: int = 0

    def __str__(self) -> str:
        often = "" if self.times == 1 else f", {self.times} times"
        if self.outcome == "reached":
            return f"{self.target} reached{often} ({self.sent:,} bytes sent, {self.received:,} received)"
        return f"{self.target} {self.outcome}{often}: {self.why}"


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended.

    `exit_code` is None if it was stopped, then `stopped` names the limit; a negative one is a signal. `output` is what
    it printed (both streams as they came); if `left_out` bytes of it were not kept, a mark says so where they are
    missing. `refused` are protected paths it made and that were removed again. `contained` is whether anything kept it
    from the machine. `contacts` are the hosts it asked the proxy for; what it tried without the proxy failed in the
    kernel and is not among them.
    """

    exit_code: int | None
    output: str
    left_out: int = 0
    stopped: Stopped = ""
    seconds: float = 0.0
    refused: tuple[str, ...] = ()
    contained: bool = True
    contacts: tuple[Contact, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it ended by itself, with 0, and touched nothing protected."""
        return self.exit_code == 0 and not self.refused

    @property
    def summary(self) -> str:
        """One line."""
        if self.stopped == "order":
            end = f"stopped by order after {self.seconds:.1f} s"
        elif self.stopped:
            end = f"stopped after {self.seconds:.1f} s at its limit of {self.stopped}"
        else:
            end = f"exit code {self.exit_code} after {self.seconds:.1f} s"
        return end + (f"; made {', '.join(self.refused)}, which is protected: removed" if self.refused else "")


class Sandbox(Protocol):
    """One way to contain commands."""

    @property
    def name(self) -> str:
        """One of `BACKENDS`."""

    @property
    def contained(self) -> bool:
        """Whether anything keeps commands from the machine."""

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
        """Run `command` (no shell) in `cwd` and return when it and all it started are gone.

        It may write below the directories `writable` and nowhere else; what is protected there (`workspace.protected`)
        it can only read. Its environment is a fixed one and `environment`, nothing of ours. It is ended as soon as
        `stop` says so (asked twenty times a second, in the calling thread). Of the network it reaches what `network`
        says. Raises SandboxUnavailable, ValueError for an empty command, a directory that does not exist or a host that
        cannot be read.
        """
