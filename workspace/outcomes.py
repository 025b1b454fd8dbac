"""How a run in a child process ended."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SIGNALS = {
    signal.SIGKILL: "most likely the machine ran out of memory",
    signal.SIGSEGV: "a crash in native code",
    signal.SIGABRT: "native code gave up",
    signal.SIGXCPU: "its processor time is used up",
}


class ChildFailure(Exception):
    """Base of the ways a run can fail. The message says what happened, for people."""


class ChildTimeout(ChildFailure):
    """Killed at its time limit of `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"killed after its time limit of {seconds:g} s")
        self.seconds = seconds


class ChildOutOfMemory(ChildFailure):
    """Needed more memory than its limit of `limit_bytes` (None: than the machine has)."""

    def __init__(self, limit_bytes: int | None, detail: str = "") -> None:
        limit = f"its limit of {limit_bytes / 1e6:,.0f} MB" if limit_bytes else "the machine has"
        super().__init__(f"needed more memory than {limit}" + (f" ({detail})" if detail else ""))
        self.limit_bytes = limit_bytes


class ChildKilled(ChildFailure):
    """Ended by signal `number`, which we did not send. `log` holds its last lines of output."""

    def __init__(self, number: int, log: str = "") -> None:
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        why = _SIGNALS.get(number)  # type: ignore[call-overload]
        super().__init__(f"ended by {name}" + (f" ({why})" if why else "") + _shown(log))
        self.number = number
        self.log = log


class ChildCrashed(ChildFailure):
    """Ended without a result (`os._exit`), or broke its line to us. `log` holds its last lines of output."""

    def __init__(self, exit_code: int, log: str = "", what: str = "no result") -> None:
        super().__init__(f"ended with exit code {exit_code} and {what}" + _shown(log))
        self.exit_code = exit_code
        self.log = log


class ChildRaised(ChildFailure):
    """The function raised. Only text crosses the border: no class of the child is ever unpickled here.

    `type` and `bases` are full names (`agents.skill.InputError`); `details` holds the exception's plain attributes.
    """

    def __init__(self, said: Mapping[str, Any]) -> None:
        self.type = str(said["type"])
        self.bases = tuple(str(base) for base in said["bases"])
        self.message = str(said["message"])
        self.details: dict[str, Any] = dict(said["details"])
        self.traceback = str(said["traceback"])
        super().__init__(f"{self.type.rpartition('.')[2]}: {self.message}")

    def is_a(self, name: str) -> bool:
        """Whether the exception's class, or one it derives from, has this full name."""
        return name == self.type or name in self.bases


class ServerLost(ChildFailure):
    """The fork server died or could not start the run, not for the function's fault; a next run starts anew."""


@dataclass(frozen=True, slots=True)
class ChildResult:
    """How a run ended: `failure` is None exactly if `value` counts.

    Seconds of wall clock and of CPU (with the processes it waited for); `peak_rss_bytes` is the highest resident memory
    of one of its processes, including the preloaded libraries; `exit_status` is negative for a signal.
    """

    value: Any
    failure: ChildFailure | None
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_rss_bytes: int = 0
    exit_status: int | None = None

    def unwrap(self) -> Any:
        """The value. Raises the failure."""
        if self.failure is not None:
            raise self.failure
        return self.value


def _shown(log: str) -> str:
    return f"; its last output:\n{log}" if log else ""
