"""Exit codes, and the one error type commands raise on purpose."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What the process returns. Documented in `docs/cli.md`."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    WAITING = 3
    BLOCKED = 4
    REFUSED = 5
    INTERRUPTED = 130


class CliError(Exception):
    """A problem a person can act on: the message names the thing, the reason and what to do."""

    def __init__(self, message: str, code: Exit = Exit.ERROR) -> None:
        super().__init__(message)
        self.code = code


def sole(problem: BaseException) -> BaseException:
    """The one problem inside of groups that hold nothing else; else `problem` itself."""
    while isinstance(problem, BaseExceptionGroup) and len(problem.exceptions) == 1:
        problem = problem.exceptions[0]
    return problem
