"""From a point in time, as people write it, to an event of a session."""

from __future__ import annotations

from datetime import datetime

from cli.errors import CliError, Exit
from conductor.replay import sequence_at
from schemas.envelope import StreamId, timestamp
from store.port import Store


def moment(text: str) -> datetime:
    """The time `text` names in ISO 8601. Raises CliError for anything else and for a time without a zone."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as problem:
        raise CliError(f"--at {text!r} is no time: write 2026-11-21T09:00:00Z", Exit.USAGE) from problem
    if time.tzinfo is None:
        raise CliError(f"--at {text!r} has no time zone: add Z, or an offset such as +01:00", Exit.USAGE)
    return time


def sequence_of(store: Store, stream: StreamId, text: str, to: int | None) -> int:
    """The last event of `stream` at the time `text`. Raises CliError when there was none yet, or when `--to` (`to`) was
    given too."""
    if to is not None:
        raise CliError("--to and --at say the same in two ways: give one of them", Exit.USAGE)
    sequence = sequence_at(store, stream, moment(text))
    if not sequence:
        first = next(store.read(stream, 0, 1)).time
        raise CliError(f"{stream.name} began at {timestamp(first)}; at {text} there was nothing", Exit.USAGE)
    return sequence
