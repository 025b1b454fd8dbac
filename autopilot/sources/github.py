"""A GitHub repository's issues as a backlog.

What a person edits is the issue's text; number, title, labels, assignees, state and author are GitHub's own and never
taken from the text. After the first reading only what changed is read: a poll without news is two requests, both
answered "not modified".
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import anyio
import structlog

from autopilot.frontmatter import TicketError
from autopilot.select import HOLD_LABEL, REQUIRED_LABELS
from autopilot.sources.issuetext import parse_issue
from autopilot.sources.port import BacklogError, Entry, Labeller, Snapshot
from autopilot.sources.serving import serving
from forge import reading
from forge.client import Account, GitHub
from forge.errors import ForgeError, NotFound, Unavailable
from forge.reading import Issue, Pull
from forge.waiting import patiently
from schemas.ticket import Ticket

_SECOND = timedelta(seconds=1)
_OVERLAP = timedelta(minutes=1)
"""How much of the past is asked for again: GitHub's copies of the data may lag behind each other."""
REREAD = 3600.0
"""Seconds after which everything is read anew: a dependency that came or went may leave no trace on the issue."""
_AWAY = (5.0, 15.0, 30.0, 60.0)
_log = structlog.get_logger("backlog")
_REQUIRED = frozenset(label.lower() for label in REQUIRED_LABELS)


_GONE = Account("an account that is gone", 0)


@dataclass(frozen=True, slots=True)
class _Details:
    """What is asked for one issue besides the list: who set which label last, who changed the text after that, and what
    must be done first, here and in other repositories."""

    labellers: Mapping[str, Account] = field(default_factory=dict)
    editors: tuple[Account, ...] = ()
    blocked_by: tuple[int, ...] = ()
    waits_for: str = ""


class GitHubBacklog:
    """Tickets from the issues of one repository. One reading at a time."""

    def __init__(self, github: GitHub, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.github = github
        self._clock = clock
        self._read_at: float | None = None
        self._complete = False
        self._newest: datetime | None = None
        self._advanced_at = 0.0
        self._settled = False
        self._issues: dict[int, Issue] = {}
        self._pulls: dict[int, Pull] = {}
        self._pulls_due: dict[int, datetime] = {}
        self._pulls_seen: dict[int, datetime] = {}
        self._branches: dict[str, str] = {}
        self._details: dict[int, _Details] = {}
        self._looked_up: set[int] = set()
        self._roles: dict[str, str] = {}
        self._entries: dict[int, Entry | str] = {}

    @property
    def name(self) -> str:
        """`github:OWNER/REPO`."""
        return f"github:{self.github.repository}"

    async def snapshot(self) -> Snapshot:
        """See `Backlog.snapshot`. A rate limit is waited for as long as GitHub says. When GitHub goes away after a
        first reading, it is waited for too: until then nothing is selected."""
        tries = 0
        while True:
            try:
                return await patiently(self.read, told=self._limited)
            except Unavailable as problem:
                if not self._complete:
                    raise BacklogError(f"{self.name} cannot be read: {problem}") from problem
                delay = _AWAY[min(tries, len(_AWAY) - 1)]
                _log.warning("backlog_unavailable", backlog=self.name, reason=str(problem), again_in_seconds=delay)
                tries += 1
                await anyio.sleep(delay)
            except ForgeError as problem:
                raise BacklogError(f"{self.name} cannot be read: {problem}") from problem

    def _limited(self, why: str, until: datetime) -> None:
        _log.warning("backlog_rate_limited", backlog=self.name, reason=why, until=until.isoformat())

    def read(self) -> Snapshot:
        """The same, blocking. Raises ForgeError's kinds; what was read until then is kept for the next call."""
        if self._read_at is None or self._clock() - self._read_at >= REREAD:
            self._read_all()
        else:
            self._read_changes()
        for number in sorted(self._pulls_due):
            pull = reading.pull(self.github, number)
            if pull.state == "open":
                self._pulls[number] = pull
            self._pulls_seen[number] = self._pulls_due.pop(number)
        self._branches = reading.branches(self.github)
        for number in sorted(number for number in self._issues if self._wants_details(number)):
            self._details[number] = self._ask(self._issues[number])
        self._ask_roles()
        self._look_up_blockers()
        self._complete = True
        return self._snapshot()

    def _read_all(self) -> None:
        """All open issues and pull requests, and anew what changes without a trace on the issue: permissions, and which
        dependencies there are. The rest of what was asked for unchanged issues is kept."""
        found = [each for page in reading.issues(self.github) for each in page]
        pulls = {pull.number: pull for pull in reading.pulls(self.github)}
        seen = {issue.number for issue in found}
        for number in [n for n, issue in self._issues.items() if issue.state == "open" and n not in seen]:
            self._get(number)
        self._roles.clear()
        self._looked_up.clear()
        self._details = {n: details for n, details in self._details.items() if not self._issues[n].dependencies}
        self._pulls, self._pulls_due = pulls, {}
        self._pulls_seen = {issue.number: issue.updated for issue in found if issue.pull}
        for issue in found:
            if not issue.pull:
                self._take(issue)
        self._newest = max((issue.updated for issue in found), default=self._newest)
        self._entries.clear()
        self._read_at = self._advanced_at = self._clock()
        self._settled = False

    def _read_changes(self) -> None:
        """What changed. A while after the last change, when every copy must have it, nothing older is asked for: many
        changes at once would else make every poll long."""
        now, newest = self._clock(), self._newest
        since = None if newest is None else newest + _SECOND if self._settled else newest - _OVERLAP
        for page in reading.issues(self.github, state="all", since=since):
            for issue in page:
                if not issue.pull:
                    self._take(issue)
                elif issue.state != "open":
                    self._pulls.pop(issue.number, None)
                elif self._pulls_seen.get(issue.number) != issue.updated:
                    self._pulls_due[issue.number] = issue.updated
                self._newest = max(self._newest or issue.updated, issue.updated)
        if self._newest != newest:
            self._advanced_at, self._settled = now, False
        elif now - self._advanced_at > _OVERLAP.total_seconds():
            self._settled = True

    def _take(self, issue: Issue) -> None:
        if self._issues.get(issue.number) != issue:
            self._issues[issue.number] = issue
            self._details.pop(issue.number, None)
            self._entries.pop(issue.number, None)

    def _get(self, number: int) -> None:
        """One issue by itself; one that is gone, moved away or a pull request is no ticket."""
        try:
            issue = reading.issue(self.github, number)
        except NotFound:
            return self._drop(number)
        if issue.pull or issue.repository.lower() != self.github.repository.lower():
            return self._drop(number)
        self._take(issue)

    def _drop(self, number: int) -> None:
        for known in (self._issues, self._details, self._entries):
            known.pop(number, None)

    def _wants_details(self, number: int) -> bool:
        issue = self._issues[number]
        return number not in self._details and issue.state == "open" and bool(_REQUIRED & _labels(issue))

    def _ask(self, issue: Issue) -> _Details:
        """Dependencies, and for what could be taken who labelled it and who changed its text afterwards."""
        numbers, elsewhere = self._dependencies(issue)
        labels = _labels(issue)
        if not labels >= _REQUIRED or HOLD_LABEL in labels or issue.locked or issue.assignees:
            return _Details(blocked_by=numbers, waits_for=elsewhere)
        changes = reading.changes(self.github, issue.number)
        labellers: dict[str, Account] = {}
        labelled: datetime | None = None
        for change in changes:
            name = change.label.lower()
            if change.kind == "labeled" and name in _REQUIRED:
                labellers[name] = change.by or _GONE
                labelled = change.when
            elif change.kind == "unlabeled":
                labellers.pop(name, None)
        editors = () if labelled is None else self._changed_since(issue, changes, labelled)
        return _Details(labellers, editors, numbers, elsewhere)

    def _changed_since(
        self, issue: Issue, changes: tuple[reading.Change, ...], labelled: datetime
    ) -> tuple[Account, ...]:
        """Who changed title or text after that. Times are in seconds, so the same second counts as after."""
        who = [c.by or _GONE for c in changes if c.kind == "renamed" and c.when >= labelled]
        for edit in reading.edits(self.github, issue.number):
            if edit.when >= labelled and edit.when > issue.created:
                who.append(edit.by or _GONE)
        return tuple(dict.fromkeys(who))

    def _ask_roles(self) -> None:
        """What everybody may do who labelled or edited an open ticket; asked once until everything is read anew."""
        for number in sorted(self._details):
            details = self._details[number]
            if self._issues[number].state == "open":
                for who in (*details.labellers.values(), *details.editors):
                    if who.login not in self._roles:
                        gone = who == _GONE
                        self._roles[who.login] = "none" if gone else reading.role(self.github, who.login)

    def _as_labeller(self, who: Account) -> Labeller:
        return Labeller(who.login, self._roles.get(who.login, "none"), own=who.id == self.github.me.id)

    def _dependencies(self, issue: Issue) -> tuple[tuple[int, ...], str]:
        """Issues of this repository that it is blocked by, and the first open one of another."""
        if issue.dependencies == 0:
            return (), ""
        try:
            found = reading.blocked_by(self.github, issue.number)
        except NotFound:
            if issue.dependencies is None:  # a server without dependencies
                return (), ""
            raise
        numbers, elsewhere = [], ""
        for blocker in found:
            if blocker.repository.lower() == self.github.repository.lower():
                numbers.append(blocker.number)
                if blocker.number not in self._issues:
                    self._take(blocker)
            elif blocker.state == "open":
                elsewhere = elsewhere or f"{blocker.repository}#{blocker.number}"
        return tuple(numbers), elsewhere

    def _look_up_blockers(self) -> None:
        """Issues that texts name as blockers and no list told of: closed before we came, or not there."""
        for number in sorted(self._issues):
            entry = self._entry(number)
            if isinstance(entry, Entry) and entry.ticket.state == "open":
                for blocker in entry.ticket.blocked_by:
                    if blocker not in self._issues and blocker not in self._looked_up:
                        self._get(blocker)
                        self._looked_up.add(blocker)

    def _snapshot(self) -> Snapshot:
        entries: dict[int, Entry] = {}
        unreadable: dict[str, str] = {}
        for number in sorted(self._issues):
            found = self._entry(number)
            if isinstance(found, Entry):
                entries[number] = found
            else:
                unreadable[f"#{number}"] = found
        me = self.github.me
        own = frozenset(p.head_ref for p in self._pulls.values() if p.author is not None and p.author.id == me.id)
        hint = "" if self._issues else (
            f"{self.name} has no open issue; write one, label it `Task` and `auto` (docs/tickets.md describes it)"
        )  # fmt: skip
        busy = serving(self._branches, self._pulls, self.github.repository)
        return Snapshot(self.name, entries, unreadable, hint, busy, own)

    def _entry(self, number: int) -> Entry | str:
        """The issue as a ticket, or why it is none. Only what is labelled for Auto-Pilot is read as one: what other
        issues say is nobody's mistake."""
        if number not in self._entries:
            self._entries[number] = self._made(self._issues[number])
        return self._entries[number]

    def _made(self, issue: Issue) -> Entry | str:
        details = self._details.get(issue.number, _Details())
        text = f"{issue.title}\n\n{issue.body}"
        others = [each.login for each in issue.assignees if each.id != self.github.me.id]
        own = {
            "id": issue.number,
            "title": issue.title,
            "labels": issue.labels,
            "assignee": others[0] if others else None,
            "state": issue.state,
            "locked": issue.locked,
            "created": issue.created,
            "requester": issue.author.login if issue.author else None,
            "requester_id": issue.author.id if issue.author else None,
            "origin": self.name,
        }
        ticket = Ticket.model_validate(own)
        if issue.state == "open" and _labels(issue) >= _REQUIRED:
            try:
                ticket = parse_issue(issue.body, f"#{issue.number}", own)
            except TicketError as problem:
                return problem.reason
        blockers = tuple(sorted({*ticket.blocked_by, *details.blocked_by} - {issue.number}))
        return Entry(
            ticket.model_copy(update={"blocked_by": blockers}),
            hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
            issue.updated,
            issue.url,
            labellers={label: self._as_labeller(who) for label, who in details.labellers.items()},
            waits_for=details.waits_for,
            claimed=self.github.me.login if issue.assignees and not others else "",
            editors=tuple(self._as_labeller(who) for who in details.editors),
        )


def _labels(issue: Issue) -> frozenset[str]:
    return frozenset(label.lower() for label in issue.labels)
