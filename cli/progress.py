"""Progress of a drive: a live board on a terminal, plain lines elsewhere, nothing with --json."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from autopilot.board import SessionRow
from autopilot.feed import Feed
from schemas import session as ev
from schemas.envelope import EventEnvelope
from schemas.forking import SessionForked
from schemas.messages import Event

MARKS = {"completed": "●", "working": "◐", "reported": "◐", "gate": "◆", "failed": "✗", "pending": "○", "skipped": "–"}
REFRESH = 0.25


class Progress:
    """Listens to the feed and shows what happens."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._live = not quiet and sys.stdout.isatty()
        self._caught_up = False
        self._console: Any = None

    @asynccontextmanager
    async def showing(self, feed: Feed) -> AsyncIterator[None]:
        """Show until the context ends. Events from before are not shown again."""
        self._caught_up = True
        if not self._live:
            yield
            return
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        with Live(console=self._console, refresh_per_second=8, transient=True) as live:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._refresh, feed, live)
                yield
                tasks.cancel_scope.cancel()

    async def _refresh(self, feed: Feed, live: Any) -> None:
        while True:
            live.update(board(feed))
            await feed.change(REFRESH)
            await anyio.sleep(0.05)

    def event(self, envelope: EventEnvelope[Event], row: SessionRow | None) -> None:
        """One event arrived."""
        if self._quiet or not self._caught_up or row is None:
            return
        if (text := line(envelope, row)) is None:
            return
        if self._console is not None:
            self._console.print(text, highlight=False, markup=False)
        else:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()


def line(envelope: EventEnvelope[Event], row: SessionRow) -> str | None:
    """What a person wants to read of an event, or None."""
    event, who = envelope.event, f"[{row.ticket.id}]"
    match event:
        case ev.SessionStarted():
            return f"{who} {row.ticket.title}: session {row.id}, {len(row.phases)} phases, branch {row.branch}"
        case SessionForked():
            kept = ", ".join(p.phase for p in event.phases if p.stands != "open") or "nothing"
            return f"{who} {row.id} goes on from {event.point.session} after event {event.point.sequence}, with {kept}"
        case ev.EffectRequested() if event.kind == "fetch":
            return f"{who} {'source':<20} reading {event.target}"
        case ev.EffectRecorded(snapshot=snapshot) if snapshot is not None:
            rows = f"{snapshot.rows:,} rows, sha256 {snapshot.sha256[:12]}"
            return f"{who} {'source':<20} {snapshot.source}/{snapshot.item}: {rows}"
        case ev.WorkReported():
            agent = row.phases[event.phase].agent
            text = f"{who} {event.phase:<20} {agent:<11} {event.usage.wall_seconds:5.1f} s  {event.summary}"
            return "\n".join([text, *(f"{who} {'':<20} ! {warning}" for warning in event.warnings)])
        case ev.AttemptFailed():
            return f"{who} {event.phase:<20} attempt {event.attempt} failed: {event.reason}"
        case ev.RetryScheduled():
            return f"{who} {event.phase:<20} attempt {event.attempt} follows"
        case ev.GateOpened() if event.kind == "human":
            return f"{who} {event.phase:<20} waits for a person: gate {event.gate} ({event.reason})"
        case ev.ApprovalGiven():
            return f"{who} {'gate':<20} {event.gate} approved by {event.by.name} ({event.by.verified_as})"
        case ev.ApprovalCancelled():
            return f"{who} {'gate':<20} {event.gate}: the approval of {event.of.name} counts no more"
        case ev.GateOverridden():
            by = f"{event.by.name} ({event.by.verified_as})"
            return f"{who} {'gate':<20} {event.gate} OVERRIDDEN by {by}: {event.reason}"
        case ev.HandEditsFound():
            return f"{who} {'':<20} ! edited by hand, which changes nothing: {', '.join(event.files)}"
        case ev.PhaseSkipped():
            return f"{who} {event.phase:<20} skipped: {event.condition.expression}"
        case ev.PhaseRepeated():
            kind = "pivots" if event.kind == "pivot" else "goes back"
            count = f"{event.iteration} of at most {event.iterations}"
            return f"{who} {event.phase:<20} {kind} to {event.to} ({count}): {event.reason}"
        case ev.GateExpired():
            then = f"it goes to {', '.join(event.escalated_to)}" if event.escalated_to else "nobody else is asked"
            return f"{who} {event.phase:<20} gate {event.gate} expired; {then}"
        case ev.PhaseBlocked():
            return f"{who} {event.phase:<20} blocked: {event.reason}; the others finish what they do"
        case ev.SessionPaused():
            return f"{who} paused by {event.by.name}"
        case ev.SessionUnpaused():
            return f"{who} goes on, says {event.by.name}"
        case ev.SessionBlocked():
            return f"{who} BLOCKED: {event.reason}"
        case ev.SessionCompleted():
            return f"{who} COMPLETED: branch {event.branch} at {event.commit[:12]}"
        case _:
            return None


def board(feed: Feed) -> Any:
    """The phase board of all open sessions as a rich table."""
    from rich.table import Table
    from rich.text import Text

    table = Table(expand=True, pad_edge=False, box=None)
    for heading in ("ticket", "phases", "now", "s", "$"):
        table.add_column(heading, justify="right" if heading in ("s", "$") else "left", no_wrap=True)
    rows = [r for r in feed.board.sessions.values() if r.status in ("active", "waiting")]
    for row in rows:
        marks = "".join(MARKS[phase.status] for phase in row.phases.values())
        gates = ", ".join(gate.id for gate in row.open_gates)
        now = f"waits: {gates}" if row.status == "waiting" else f"{row.phase} {row.line}"
        table.add_row(
            f"{row.ticket.id} {row.ticket.title[:30]}",
            Text(marks),
            Text(now, overflow="ellipsis"),
            f"{row.usage.wall_seconds:.0f}",
            f"{row.usage.usd:.4f}",
        )
    return table if rows else Text("reading the backlog …")
