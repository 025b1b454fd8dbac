"""`valuetrain session fork`: from what a person writes to the command, and from the record to what came of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cli.errors import CliError, Exit
from cli.home import Home
from cli.operator import ask_fork
from cli.reading import reading
from cli.settings import load
from conductor.forking import not_kept
from conductor.loading import load as state_of
from conductor.state import SessionState
from schemas.forking import LONGEST_INSTRUCTIONS, ForkSession, Guidance, Planner, SessionForked
from schemas.ids import short_token


@dataclass(frozen=True, slots=True)
class Forked:
    """A fork that was made, or why it was not (`refusal`: the code and the reason)."""

    session: str
    event: SessionForked | None
    row: dict[str, Any]
    origin: str | None
    """Where the ticket came from, and where the fork does nothing."""
    refusal: tuple[str, str] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For `--json`. Raises ValueError for one that was refused."""
        if self.event is None:
            raise ValueError("there is no fork")
        point = self.event.point
        return {
            "session": self.session,
            "source": point.session,
            "from": point.sequence,
            "hash": point.hash,
            "by": self.event.by.name,
            "status": self.row["status"],
            "branch": self.row["branch"],
            "commit": self.row["commit"],
            "kept": [p.phase for p in self.event.phases if p.stands in ("completed", "skipped")],
            "asked_again": list(not_kept(self.event)),
            "guidance": self.event.guidance.model_dump(mode="json"),
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        told = self.as_dict()
        yield f"{self.session} goes on from {told['source']} after event {told['from']} (by {told['by']})."
        yield f"Kept, since it is for the same commit, artifacts and policy: {', '.join(told['kept']) or 'nothing'}."
        if told["asked_again"]:
            yield f"Asked again, whoever approved it before: the gate of {', '.join(told['asked_again'])}."
        yield f"Branch {told['branch']} is at {told['commit'][:12]}; {told['source']} and its branch are as they were."
        if self.origin:
            yield f"At {self.origin} nothing is done for a fork: what it comes to is that branch, here."
        yield "Go on with: valuetrain drive"


def instructions_in(file: Path | None) -> str:
    """What a person tells the model, from a file or (`-`) standard input. Raises CliError."""
    if file is None:
        return ""
    try:
        raw = sys.stdin.buffer.read(8 * LONGEST_INSTRUCTIONS) if str(file) == "-" else file.read_bytes()
        text = raw.decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise CliError(f"--prompt {file} cannot be read: {problem}", Exit.USAGE) from problem
    if not text:
        raise CliError(f"--prompt {file} is empty: leave it out, or write what the model shall do", Exit.USAGE)
    if len(text) > LONGEST_INSTRUCTIONS:
        what = f"--prompt {file} has {len(text):,} characters, and {LONGEST_INSTRUCTIONS:,} are allowed"
        raise CliError(f"{what}: what is long belongs into the ticket or the repository", Exit.USAGE)
    from agents.skills.change.secrets import PATTERNS

    if kind := next((kind for kind, pattern in PATTERNS.items() if pattern.search(text)), ""):
        raise CliError(f"--prompt {file} holds what looks like a credential ({kind}), and would go on record")
    return text


def make_fork(
    home: Path, source: str, at: str, planner: Planner, model: str, instructions: str, reason: str, as_name: str | None
) -> Forked:
    """Fork `source` from event `at`, or from the event before the phase of that name first started, and wait for the
    branch. Raises CliError, also when the branch cannot be made, and the bus's and store's own errors."""
    with reading(home) as record:
        state = state_of(record.store, record.stream(source))
        assert isinstance(state, SessionState)  # noqa: S101  # a session's stream
    if state.ticket is None:
        raise CliError(f"{source} has not started")
    name = f"s{state.ticket.id}-{short_token()}"
    try:
        guidance = Guidance(planner=planner, model=model, instructions=instructions)
    except ValidationError as problem:
        why = problem.errors()[0]["msg"]
        raise CliError(f"--model {model!r} is no name of a model: {why}", Exit.USAGE) from problem
    command = ForkSession(source=source, sequence=_sequence(state, at), guidance=guidance, reason=reason)
    verdict = ask_fork(home, name, command, as_name)
    if not verdict["accepted"]:
        return Forked(name, None, {}, None, (verdict["code"], verdict["reason"]))
    with reading(home) as record:
        row = record.session(name)
        event = next(e.event for e in record.store.read(record.stream(name)) if isinstance(e.event, SessionForked))
    if row["status"] == "aborted":
        raise CliError(f"{name} was aborted: {row['reason']}")
    return Forked(name, event, row, state.ticket.origin)


def no_model(home: Path, forked: Forked) -> bool:
    """Whether a fork asks a model and the settings here name none."""
    event = forked.event
    settings = load(Home(home.resolve()).config)
    return event is not None and event.guidance.planner == "llm" and settings.model_base_url is None


def _sequence(state: SessionState, at: str) -> int:
    if at.isdecimal():
        return int(at)
    if (mark := state.marks.get(at)) is None:
        started = ", ".join(state.marks) or "none"
        raise CliError(f"--from {at!r} is neither an event's number nor a phase that started: {started}", Exit.USAGE)
    return mark.version
