"""A drive: takes tickets in order, keeps the work-in-progress limit, and ends when only people can go on."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from autopilot.board import Board, SessionRow
from autopilot.feed import Feed
from autopilot.select import Load, full
from bus.port import Bus
from schemas.commands import EndDrive, OpenBreaker, RecordSelection, StartDrive, StartSession
from schemas.envelope import CommandEnvelope, StreamId
from schemas.ids import short_token, uuid7
from schemas.messages import Command
from schemas.pipeline import PipelineDefinition
from schemas.policy import Policy
from schemas.ticket import Checkout, Ticket
from schemas.values import Actor, Sender
from workspace.git import branch_name

ACTOR = Actor(name="autopilot", channel="bus", verified_as=f"login:{Sender.AUTOPILOT.value}")


@dataclass(frozen=True, slots=True)
class Choice:
    """What can be taken now, in order, and why the rest is passed over."""

    order: tuple[int, ...]
    passed_over: Mapping[int, str]
    unreadable: Mapping[str, str]
    tickets: Mapping[int, Ticket]
    digests: Mapping[int, str]
    own_pulls: frozenset[str] = frozenset()
    """The branches of Auto-Pilot's own open pull requests."""


@dataclass(frozen=True, slots=True)
class DriveSettings:
    """What a drive is given. `wip` is how many sessions it works on at once."""

    backlog: str
    repository: str
    tenant: str
    policy: Policy
    policy_version: str
    roots: tuple[str, ...]
    wip: int
    max_tickets: int | None = None
    wait: bool = False
    look_seconds: float | None = None
    """With `wait`, how often the backlog is looked at while people are waited for; None: only when something ended."""


@dataclass(slots=True)
class Summary:
    """What a drive came to, in the form `--json` prints."""

    drive: str
    completed: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    blocked: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    automation_rate: float | None = None
    """Of the completed sessions, the share in which no person decided anything; None when none was completed."""
    stopped: str | None = None
    """Why the drive took no more tickets before the queue was empty."""
    seconds: float = 0.0
    cost_usd: float = 0.0


class Drive:
    """One Auto-Pilot run. It owns nothing: stopped and started again, it reads where it was from the event stream."""

    def __init__(
        self,
        bus: Bus,
        feed: Feed,
        settings: DriveSettings,
        choose: Callable[[Board], Awaitable[Choice]],
        pipeline: Callable[[str], PipelineDefinition],
        place: Callable[[Ticket, PipelineDefinition], Checkout],
        trouble: Callable[[], Exception | None] = lambda: None,
    ) -> None:
        """`choose` reads the backlog and selects; `pipeline` loads a definition by name (ValueError when it cannot);
        `place` says where a ticket's branch starts (ValueError when it cannot be there); `trouble` is what keeps the
        record from being written, if anything.
        """
        self.id = f"d-{short_token(6)}"
        self._bus = bus
        self._feed = feed
        self._settings = settings
        self._choose = choose
        self._pipeline = pipeline
        self._place = place
        self._trouble = trouble
        self._started: list[str] = []
        self._refused: dict[int, str] = {}
        self._recorded: RecordSelection | None = None
        self._ended: dict[str, str] = {}
        self._failed: list[str] = []
        self._said: dict[int, str] = {}
        self._breaker = ""
        self._known_completed: set[str] = set()
        self._published: set[str] = set()
        self._looked = 0.0

    async def run(self) -> Summary:
        """Drive until nothing is left to do without a person (with `wait`: nothing at all)."""
        began = time.monotonic()
        spent = self._cost()
        finished_before = {r.id for r in self._rows() if r.status == "completed"}
        settings = self._settings
        await self._send(
            "drive",
            self.id,
            StartDrive(
                backlog=settings.backlog,
                repository=settings.repository,
                policy_version=settings.policy_version,
                wip=settings.wip,
                max_tickets=settings.max_tickets,
                policy=settings.policy,
            ),
        )
        choice = await self._select()
        while True:
            if (trouble := self._trouble()) is not None:
                raise trouble
            await self._watch()
            if self._said != self._priorities():
                choice = await self._select()  # a person wants another order
            if settings.wait and settings.look_seconds and time.monotonic() - self._looked >= settings.look_seconds:
                choice = await self._select()
            if await self._start_next(choice):
                continue
            if not self._anything_left():
                choice = await self._select()  # a finished ticket may have freed another, a person may have added one
                if not self._next(choice):
                    break
                continue
            await self._feed.change()
        summary = self._summary(choice, finished_before)
        summary.seconds = round(time.monotonic() - began, 3)
        summary.cost_usd = round(self._cost() - spent, 6)
        await self._send("drive", self.id, self._end(summary))
        return summary

    @property
    def _stopped(self) -> str | None:
        """Why no more tickets are taken."""
        return self._breaker or self._feed.board.draining.get(self.id)

    async def _watch(self) -> None:
        """The circuit breaker: too many sessions in a row that ended blocked are no matter of their tickets."""
        limit = self._settings.policy.max_consecutive_failures
        mine = [row for row in self._rows() if row.id in self._started]
        for row in sorted(mine, key=lambda row: (row.updated or datetime.max.replace(tzinfo=UTC), row.id)):
            if self._ended.get(row.id) == row.status:
                continue
            self._ended[row.id] = row.status
            if row.status == "blocked":
                self._failed.append(row.id)
            elif row.status == "completed":
                self._failed.clear()
        if limit is None or self._breaker or len(self._failed) < limit:
            return
        last = self._feed.board.sessions[self._failed[-1]].reason
        self._breaker = f"{len(self._failed)} sessions in a row ended blocked (the policy allows {limit}), last: {last}"
        await self._send("drive", self.id, OpenBreaker(sessions=tuple(self._failed), reason=self._breaker))

    def _priorities(self) -> dict[int, str]:
        """What people said of how urgent tickets are."""
        return {row.ticket.id: row.priority for row in self._rows() if row.priority}

    def _rows(self) -> list[SessionRow]:
        return list(self._feed.board.sessions.values())

    def _cost(self) -> float:
        return sum(row.usage.usd for row in self._rows())

    def _anything_left(self) -> bool:
        waits = self._settings.wait and not self._stopped and any(r.status == "waiting" for r in self._rows())
        return waits or any(row.in_work for row in self._rows())

    async def _select(self) -> Choice:
        """Read the backlog again and record what will be done with it, when that is news."""
        self._said = self._priorities()
        completed = {row.id for row in self._rows() if row.status == "completed"}
        published = {row.id for row in self._rows() if row.pull}
        choice = await self._choose(self._feed.board)
        self._known_completed, self._published, self._looked = completed, published, time.monotonic()
        recorded = RecordSelection(
            order=choice.order, passed_over=dict(choice.passed_over), unreadable=dict(choice.unreadable)
        )
        if recorded != self._recorded:
            await self._send("drive", self.id, recorded)
            self._recorded = recorded
        return choice

    def _next(self, choice: Choice) -> int | None:
        """The ticket to take now, or None: the queue is empty or a limit is reached."""
        limit = self._settings.max_tickets
        if self._stopped or self._too_many_pulls(choice):
            return None
        if limit is not None and len(self._started) >= limit:
            return None
        served = {row.ticket.id for row in self._rows() if row.id in self._started}
        return next((t for t in choice.order if t not in served and t not in self._refused), None)

    def _load(self, choice: Choice, repository: str = "") -> Load:
        """What runs now, and which pull requests are open or will be: those that were seen, and those of sessions that
        were not yet completed when they were looked for."""
        rows = self._rows()
        unseen = {row.id for row in rows if row.status == "completed"} - self._known_completed
        coming = {
            row.branch
            for row in rows
            if row.ticket.origin is not None and (row.status in ("active", "waiting") or row.id in unseen)
        }
        working = [row for row in rows if row.in_work]
        here = sum(row.repository == repository for row in working)
        return Load(len(working), here, len(choice.own_pulls | coming))

    def _too_many_pulls(self, choice: Choice) -> str | None:
        """Why pull requests keep this drive from taking another ticket, which only people can change."""
        origin = any(ticket.origin is not None for ticket in choice.tickets.values())
        load = Load(0, 0, self._load(choice).pulls)
        return full(self._settings.policy, 1, load) if origin else None

    async def _start_next(self, choice: Choice) -> bool:
        """Start one session if there is room and a ticket. Whether it did something."""
        settings = self._settings
        if full(settings.policy, settings.wip, Load(sum(row.in_work for row in self._rows()))):
            return False
        number = self._next(choice)
        if number is None:
            return False
        ticket, digest = choice.tickets[number], choice.digests[number]
        try:
            pipeline = self._pipeline(ticket.pipeline)
            place = self._place(ticket, pipeline)
        except ValueError as problem:
            self._refused[number] = str(problem)
            return True
        if full(settings.policy, settings.wip, self._load(choice, place.repository)):
            return False
        if pipeline.changes_code:
            ticket = ticket.model_copy(update={"checkout": place})
        token = short_token()
        session = f"s{number}-{token}"
        command = StartSession(
            ticket=ticket,
            ticket_digest=digest,
            drive=self.id,
            pipeline=pipeline,
            policy=settings.policy,
            policy_version=settings.policy_version,
            repository=place.repository,
            base_commit=place.commit,
            branch=branch_name(number, token),
            roots=settings.roots,
            seed=int(digest[:7], 16),
        )
        verdict = await self._send("session", session, command)
        if not verdict["accepted"]:
            self._refused[number] = verdict["reason"]
            return True
        self._started.append(session)
        while session not in self._feed.board.sessions:
            await self._feed.change()
        return True

    async def _send(self, kind: Any, stream: str, command: Command) -> dict[str, Any]:
        envelope = CommandEnvelope(
            id=uuid7(),
            stream=StreamId(self._settings.tenant, kind, stream),
            time=datetime.now(UTC),
            actor=ACTOR,
            sender=Sender.AUTOPILOT.value,
            correlation_id=stream,
            causation_id=self.id,
            command=command,
        )
        return await self._bus.send(envelope, timeout=30.0)

    def _summary(self, choice: Choice, finished_before: set[str]) -> Summary:
        summary = Summary(self.id, stopped=self._stopped)
        told = set()
        alone = 0
        for row in self._rows():
            place = {"ticket": row.ticket.id, "session": row.id}
            if row.status == "completed" and row.id not in finished_before:
                summary.completed.append({**place, "branch": row.branch})
                alone += not row.interventions
            elif row.status == "waiting":
                closed = self._closed(choice, row)
                summary.waiting += [{**place, "gate": gate.id, **closed} for gate in row.open_gates]
            elif row.paused and row.status == "active":
                summary.blocked.append({**place, "reason": row.paused})
            elif row.status == "aborted" and row.taken_by and row.id in self._started:
                summary.skipped.append({"ticket": row.ticket.id, "reason": row.reason})
            elif row.status in ("blocked", "rolled_back") and not self._replaced(row):
                summary.blocked.append({**place, "reason": row.reason})
            else:
                continue
            told.add(row.ticket.id)
        if summary.completed:
            summary.automation_rate = round(alone / len(summary.completed), 4)
        skipped = {**choice.passed_over, **self._refused}
        summary.skipped += [{"ticket": t, "reason": why} for t, why in sorted(skipped.items()) if t not in told]
        summary.skipped += [{"ticket": name, "reason": why} for name, why in sorted(choice.unreadable.items())]
        many = self._too_many_pulls(choice)
        if self._stopped or many or self._settings.max_tickets is not None:
            left = [t for t in choice.order if t not in told and t not in skipped]
            most = f"this drive takes at most {self._settings.max_tickets} tickets"
            why = f"not started: {self._stopped or many or most}"
            summary.skipped += [{"ticket": t, "reason": why} for t in left]
        return summary

    def _closed(self, choice: Choice, row: SessionRow) -> dict[str, str]:
        """A note on a session whose issue or pull request a person closed: it is not ended for that, since who may do
        so is not who may abort a session."""
        ticket, gone = choice.tickets.get(row.ticket.id), []
        if (row.ticket.origin or "").casefold() != self._settings.backlog.casefold():
            return {}
        if f"#{row.ticket.id}" not in choice.unreadable and (ticket is None or ticket.state != "open"):
            gone.append("issue")
        if row.id in self._published and row.branch not in choice.own_pulls:
            gone.append("pull request")
        end = f"valuetrain session abort {row.id} --reason WHY"
        told = f"its {' and '.join(gone)} {'are' if len(gone) > 1 else 'is'} closed: reopen, or end the session ({end})"
        return {"note": told} if gone else {}

    def _replaced(self, row: SessionRow) -> bool:
        """Whether a newer session of the same ticket made this blocked one history."""
        same = [r for r in self._rows() if r.ticket.id == row.ticket.id]
        return same[-1].id != row.id

    def _end(self, summary: Summary) -> EndDrive:
        reason = "the queue is empty" if not (summary.waiting or summary.blocked) else "only people can go on"
        return EndDrive(
            completed=tuple(r["session"] for r in summary.completed),
            waiting=tuple(r["session"] for r in summary.waiting),
            blocked=tuple(r["session"] for r in summary.blocked),
            seconds=summary.seconds,
            cost_usd=summary.cost_usd,
            reason=summary.stopped or reason,
        )
