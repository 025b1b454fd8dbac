"""What can go wrong while rows of a source are read."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 400


class SourceError(Exception):
    """Rows that cannot be read. The message names source, item and reason; `remedy` says what to do.

    `away`: the server did not answer, so that another try may do.
    """

    def __init__(self, problem: str, remedy: str, *, away: bool = False) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy
        self.away = away


def told(problem: object, secrets: Iterable[str] = ()) -> str:
    """The first line of what a server or library said, printable, of bounded length, without any of `secrets`."""
    text = without(str(problem).strip(), secrets)
    line = text.splitlines()[0] if text else type(problem).__name__
    return "".join(char if char.isprintable() else "?" for char in line)[:LONGEST]


def without(text: str, secrets: Iterable[str]) -> str:
    """`text` with each of `secrets` blacked out."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "[secret]")
    return text
