"""Which tickets Auto-Pilot takes, in which order, and why it passes over the rest. Pure: no IO, clock or ids.

The rules are those of the Value Train's reference ("Auto-Pilot rules"), as a list one can read; `docs/tickets.md` tells
them to users. The same snapshot, policy, history and time always give the same answer, whatever the order of the input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from autopilot.sources.port import Entry, Labeller, Snapshot
from schemas.policy import Policy
from schemas.ticket import Ticket

REQUIRED_LABELS = ("Task", "auto")
ROLES = ("none", "read", "triage", "write", "maintain", "admin")
"""What people may do in a repository, each more than the one before."""
HOLD_LABEL = "hold"
PRIORITIES = ("now", "next", "future")
PROMOTION = timedelta(days=7)
"""A ticket moves up one priority for each of these that passed since it was created, at most up to `next`."""


@dataclass(frozen=True, slots=True)
class TicketHistory:
    """What sessions did with one ticket so far. Digests are those of the ticket's text at the time.

    `completed` are the texts a session completed; `failures` counts the sessions that failed on a text; `session` and
    `status` are those of a session that is still open (working, waiting or blocked); `branch` is a branch or pull
    request that serves the ticket although no known session accounts for it.
    """

    completed: frozenset[str] = frozenset()
    failures: Mapping[str, int] = field(default_factory=dict)
    session: str | None = None
    status: str = ""
    branch: str | None = None
    pull: str | None = None
    """An open pull request that serves it, in words."""
    priority: str = ""
    """What a person said of its newest session; it counts instead of the label and the age."""


NOTHING: Mapping[int, str] = MappingProxyType({})

History = Mapping[int, TicketHistory]
"""By ticket number; a ticket without an entry was never touched."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Every readable ticket is either in `order`, the first one first, or in `passed_over` with a sentence why."""

    order: tuple[int, ...]
    passed_over: dict[int, str]


def select(
    snapshot: Snapshot, policy: Policy, history: History, now: datetime, unfit: Mapping[int, str] = NOTHING
) -> Selection:
    """Apply the Auto-Pilot rules. `now` needs a time zone; `unfit` says of tickets why their pipeline cannot take them.
    Time grows linearly with tickets and their links.
    """
    entries = snapshot.entries
    links = _Links(entries, history)
    chosen: list[Ticket] = []
    passed_over: dict[int, str] = {}
    for number in sorted(entries):
        entry = entries[number]
        past = history.get(number, TicketHistory())
        reason = _unfit(entry, policy, past) or unfit.get(number) or links.obstacle(number)
        if reason is None:
            chosen.append(entry.ticket)
        else:
            passed_over[number] = f"passed over: {reason}"
    unblocks = links.unblocks()
    said = {number: past.priority for number, past in history.items()}
    chosen.sort(key=lambda ticket: _rank(ticket, said.get(ticket.id, ""), unblocks.get(ticket.id, 0), now))
    return Selection(tuple(ticket.id for ticket in chosen), passed_over)


def priority(ticket: Ticket, now: datetime, said: str = "") -> int:
    """0 for `now`, 1 for `next`, 2 for `future` and no label; age moves it up, but never to `now`. What a person said
    of the ticket's session counts before both."""
    if said:
        return PRIORITIES.index(said)
    labels = {label.lower() for label in ticket.labels}
    level = next((level for level, name in enumerate(PRIORITIES) if name in labels), len(PRIORITIES) - 1)
    if level > 1 and ticket.created is not None:
        level = max(1, level - max(0, (now - ticket.created) // PROMOTION))
    return level


def _rank(ticket: Ticket, said: str, unblocks: int, now: datetime) -> tuple[int, int, int, float, int]:
    """Smaller is earlier. A ticket that does not say when it was created counts as the newest."""
    created = ticket.created.timestamp() if ticket.created is not None else float("inf")
    return priority(ticket, now, said), -unblocks, ticket.risk.rank, created, ticket.id


def _unfit(entry: Entry, policy: Policy, past: TicketHistory) -> str | None:
    """Why the ticket itself cannot be taken, whatever the others are like."""
    ticket, digest = entry.ticket, entry.digest
    labels = {label.lower() for label in ticket.labels}
    missing = [label for label in REQUIRED_LABELS if label.lower() not in labels]
    if ticket.state == "closed":
        return "closed"
    if ticket.locked:
        return "locked"
    if ticket.assignee:
        return f"assigned to {ticket.assignee}, who works on it by hand"
    if missing:
        return f"not labelled {' and '.join(f'`{label}`' for label in missing)}"
    if HOLD_LABEL in labels:
        return f"held by its label `{HOLD_LABEL}`"
    if past.session is not None:
        return f"session {past.session} already serves it ({past.status or 'open'})"
    if entry.claimed:
        return f"assigned to {entry.claimed}, so another Auto-Pilot took it; unassign it if that one is gone"
    if digest in past.completed:
        return "completed by an earlier session; edit the ticket to have it done again"
    if past.pull is not None:
        return f"{past.pull} already serves it; close it to start afresh"
    if past.branch is not None:
        return f"the branch {past.branch} already serves it; delete or rename it to start afresh"
    failures = past.failures.get(digest, 0)
    if failures >= policy.max_failures:
        times = "once" if failures == 1 else f"{failures} times"
        return f"failed {times} since its last edit (limit {policy.max_failures}); edit the ticket to try again"
    if ticket.risk.rank > policy.max_risk.rank:
        return f"its risk is {ticket.risk.value}, and the policy allows at most {policy.max_risk.value}"
    if entry.labellers is not None and (reason := _mislabelled(entry, entry.labellers, policy)):
        return reason
    if entry.waits_for:
        return f"blocked by {entry.waits_for}, which is open"
    return None


def _mislabelled(entry: Entry, labellers: Mapping[str, Labeller], policy: Policy) -> str | None:
    """Why the labels do not count, where others than a ticket's author set them."""
    again = "somebody who may label has to take it off and set it again"
    for label in REQUIRED_LABELS:
        who = labellers.get(label.lower())
        if who is None:
            return f"nobody is known to have set its label `{label}`; {again}"
        if who.own:
            return f"its label `{label}` was set by {who.login}, which is Auto-Pilot itself; {again}"
        if ROLES.index(who.role) < ROLES.index(policy.label_permission):
            may = "has no permission" if who.role == "none" else f"may only {who.role}"
            return (
                f"its label `{label}` was set by {who.login}, who {may} (the policy asks for {policy.label_permission})"
            )
    for editor in entry.editors:
        if not editor.own and ROLES.index(editor.role) < ROLES.index(policy.label_permission):
            return f"{editor.login}, who may not label, changed it after it was labelled; {again}"
    return None


@dataclass(frozen=True, slots=True)
class Load:
    """What runs now: sessions in work, those of them in the ticket's repository, and open pull requests of our own
    (with those that sessions under way will still open)."""

    sessions: int
    in_repository: int = 0
    pulls: int = 0


def full(policy: Policy, wip: int, load: Load) -> str | None:
    """Why no further ticket may be started, or None when there is room. Pull requests come first, because only people
    make room there."""
    if policy.max_open_pull_requests is not None and load.pulls >= policy.max_open_pull_requests:
        return f"{load.pulls} pull requests of Auto-Pilot are open (the policy allows {policy.max_open_pull_requests})"
    if policy.wip_per_repository is not None and load.in_repository >= policy.wip_per_repository:
        return f"{load.in_repository} sessions work on the repository (the policy allows {policy.wip_per_repository})"
    if load.sessions >= wip:
        return f"{load.sessions} sessions are in work (the limit is {wip})"
    return None


class _Links:
    """The `blocked_by` links between tickets that are not done."""

    def __init__(self, entries: Mapping[int, Entry], history: History) -> None:
        self.entries = entries
        self.open = {number for number, entry in entries.items() if not _done(entry, history.get(number))}
        self.blockers = {
            number: sorted(blocker for blocker in set(entries[number].ticket.blocked_by) if blocker in self.open)
            for number in self.open
            if entries[number].ticket.blocked_by
        }
        self.dependents: dict[int, list[int]] = {}
        for number, blockers in self.blockers.items():
            for blocker in blockers:
                self.dependents.setdefault(blocker, []).append(number)
        self.sorted, left = self._layers()
        self.circles = _circles({number: [b for b in self.blockers[number] if b in left] for number in left})

    def obstacle(self, number: int) -> str | None:
        """Why the ticket has to wait for others, or None."""
        if number in self.circles:
            return f"blocked in a circle ({self.circles[number]}); remove one `blocked_by` of it"
        for blocker in sorted(set(self.entries[number].ticket.blocked_by)):
            if blocker not in self.entries:
                return f"blocked by ticket {blocker}, which is not in the backlog or cannot be read"
            if blocker in self.open:
                return f"blocked by ticket {blocker}, which is open"
        return None

    def unblocks(self) -> dict[int, int]:
        """How many open tickets wait for each ticket, directly or through others. Circles wait for nobody.

        The waiting tickets of each are a set of bits in one integer: unions and counts take a machine word for 64.
        """
        bits = {number: 1 << at for at, number in enumerate(self.blockers)}
        waiting: dict[int, int] = {}
        for number in reversed(self.sorted):
            found = 0
            for dependent in self.dependents.get(number, ()):
                if dependent in self.circles:
                    continue
                found |= bits[dependent] | waiting.get(dependent, 0)
            if found:
                waiting[number] = found
        return {number: found.bit_count() for number, found in waiting.items()}

    def _layers(self) -> tuple[list[int], set[int]]:
        """Open tickets, each after its blockers; and those that never become free: circles and what waits on them."""
        due = {number: len(blockers) for number, blockers in self.blockers.items()}
        free = [number for number in self.open if not due.get(number)]
        for number in free:  # grows while we go through it
            for dependent in self.dependents.get(number, ()):
                due[dependent] -= 1
                if not due[dependent]:
                    free.append(dependent)
        return free, {number for number, count in due.items() if count}


def _done(entry: Entry, past: TicketHistory | None) -> bool:
    return entry.ticket.state == "closed" or (past is not None and entry.digest in past.completed)


def _circles(blockers: Mapping[int, Iterable[int]]) -> dict[int, str]:
    """For each ticket that blocks itself through others, one circle among the same tickets: `3 → 5 → 3`.

    Strongly connected components by Tarjan's algorithm (SIAM J. Comput. 1, 1972), without recursion.
    """
    found: dict[int, str] = {}
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    for root in sorted(blockers):
        if root in index:
            continue
        work: list[tuple[int, Iterator[int]]] = [(root, iter(blockers[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            number, rest = work[-1]
            following = next(rest, None)
            if following is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[number])
                if low[number] == index[number]:
                    members: list[int] = []
                    while not members or members[-1] != number:
                        members.append(stack.pop())
                    on_stack.difference_update(members)
                    if len(members) > 1:
                        found.update(dict.fromkeys(members, _one_circle(set(members), blockers)))
            elif following not in index:
                index[following] = low[following] = len(index)
                stack.append(following)
                on_stack.add(following)
                work.append((following, iter(blockers[following])))
            elif following in on_stack:
                low[number] = min(low[number], index[following])
    return found


def _one_circle(members: set[int], blockers: Mapping[int, Iterable[int]], longest: int = 10) -> str:
    """From the lowest member always to its lowest blocker, until it closes. Every member has a blocker among them."""
    path: dict[int, None] = {}
    number = min(members)
    while number not in path:
        path[number] = None
        number = next(blocker for blocker in blockers[number] if blocker in members)
    circle = list(path)[list(path).index(number) :]
    shown = [str(ticket) for ticket in circle[:longest]] + (["…"] if len(circle) > longest else [])
    return " → ".join([*shown, str(number)])
