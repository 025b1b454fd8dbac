"""Reading a backlog and selecting from it: for the drive, `ticket list` and `ticket explain`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from autopilot.board import Board
from autopilot.drive import Choice
from autopilot.policyfile import load_policy
from autopilot.registry.mlflow_registry import MISSING
from autopilot.select import Selection, TicketHistory, select
from autopilot.sources.folder import FolderBacklog
from autopilot.sources.port import Backlog, Snapshot
from cli.errors import CliError
from cli.home import Home
from cli.opening import has_record
from cli.reading import reading
from cli.settings import Settings, load
from conductor.gates import unjudged
from conductor.pipelines import PipelineError
from conductor.pipelines import load as load_pipeline
from schemas.pipeline import PipelineDefinition
from schemas.policy import Policy
from schemas.ticket import Checkout, Ticket
from workspace.git import GitError, Repository, claim_branch

GITHUB = "github:"
"""How the name of a GitHub backlog begins."""
DELIVERY = "phase/delivery_"
"""How `workspace.git.branch_name` begins the branches of sessions."""


def backlog_at(name: str, settings: Settings) -> Backlog:
    """The backlog called `name`: a folder, or `github:OWNER/REPO`. Raises CliError."""
    if name.startswith(GITHUB):
        from cli.forging import source_at  # PyGithub takes long to import

        return source_at(name, settings)
    return FolderBacklog(Path(name))


def data_roots(backlog: Backlog, policy: Policy, repository: Path) -> tuple[str, ...]:
    """The directories ticket data may lie in: the backlog's folder, or for issues the repository's checkout; then the
    policy's."""
    roots = [Path(backlog.directory) if isinstance(backlog, FolderBacklog) else repository]
    roots += [repository / root for root in policy.data_roots]
    return tuple(str(root.resolve()) for root in roots)


def place_of(home: Repository, policy: Policy, ticket: Ticket, pipeline: PipelineDefinition) -> Checkout:
    """Where the ticket's branch starts: in the drive's repository, or the one the ticket names, where it stands now.

    Raises ValueError when the pipeline needs what is not installed, when the ticket asks for what its pipeline does not
    do, or names a repository that is not allowed or not there.
    """
    if pipeline.registers_models and find_spec("mlflow") is None:
        raise ValueError(f"pipeline {pipeline.name!r} registers a model: {MISSING}")
    wanted = {"change": ticket.change, "repository": ticket.repository, "acceptance_tests": ticket.acceptance_tests}
    if not pipeline.changes_code and (named := [name for name, value in wanted.items() if value]):
        raise ValueError(f"pipeline {pipeline.name!r} changes no code: leave out {', '.join(named)}")
    repository = home if ticket.repository is None else _named(home, policy, ticket.repository)
    try:
        return Checkout(repository=str(repository.path), commit=repository.head_commit())
    except GitError as problem:
        if ticket.repository is None:
            raise
        raise ValueError(str(problem)) from problem


def _named(home: Repository, policy: Policy, name: str) -> Repository:
    """The repository a ticket names, if it lies below one of the policy's roots after every link is followed."""
    roots = [(home.path / root).resolve() for root in policy.repository_roots]
    for root in roots:
        place = (root / name).resolve()
        if not place.is_relative_to(root):
            raise ValueError(f"`repository` {name!r} leads out of the policy's `repository_roots`")
        if place.is_dir():
            found = Repository(place)
            if not found.is_repository() or Path(found.git("rev-parse", "--show-toplevel")).resolve() != place:
                raise ValueError(f"`repository` {name!r} is no git repository: name the folder that is one")
            return found
    where = ", ".join(policy.repository_roots) or "none: add `repository_roots` to policy.yaml"
    raise ValueError(f"`repository` {name!r} is not below one of the policy's `repository_roots` ({where})")


def unfit(tickets: Mapping[int, Ticket], pipelines: Path) -> dict[int, str]:
    """By ticket, why its pipeline cannot take it. A pipeline that cannot be read is told when a ticket is to start."""
    known: dict[str, PipelineDefinition | None] = {}
    found: dict[int, str] = {}
    for number, ticket in tickets.items():
        if not ticket.acceptance:
            continue
        if ticket.pipeline not in known:
            with suppress(PipelineError):
                known[ticket.pipeline] = load_pipeline(ticket.pipeline, (pipelines,))
        pipeline = known.setdefault(ticket.pipeline, None)
        if pipeline is not None and (reason := unjudged(pipeline, ticket)):
            found[number] = reason
    return found


def chooser(
    backlog: Backlog, policy: Policy, repository: Repository, pipelines: Path
) -> Callable[[Board], Awaitable[Choice]]:
    """What a drive calls to select: reads backlog, branches and the home's `pipelines` anew each time."""

    async def choose(board: Board) -> Choice:
        snapshot = await backlog.snapshot()
        tried = [row for row in board.sessions.values() if not row.taken_by]
        past = [(row.ticket.id, row.digest, row.status, row.id) for row in tried]
        known = {row.branch for row in board.sessions.values()} | {claim_branch(row.ticket.id) for row in tried}
        branches = await anyio.to_thread.run_sync(strangers, repository, known)
        said = {row.ticket.id: row.priority for row in board.sessions.values() if row.priority}
        past_of = history(past, snapshot.digests, branches, said)
        past_of = served(past_of, snapshot, known)
        wrong = await anyio.to_thread.run_sync(unfit, snapshot.tickets, pipelines)
        selection = select(snapshot, policy, past_of, datetime.now(UTC), wrong)
        return Choice(
            selection.order,
            selection.passed_over,
            snapshot.unreadable,
            snapshot.tickets,
            snapshot.digests,
            snapshot.own_pulls,
        )

    return choose


def served(past: Mapping[int, TicketHistory], snapshot: Snapshot, known: Collection[str]) -> dict[int, TicketHistory]:
    """`past` with what serves tickets at the forge: open pull requests, and branches that no session of the record
    accounts for (`known` are those of sessions)."""
    found = dict(past)
    for number, rows in snapshot.serving.items():
        before = found.get(number, TicketHistory())
        pull = next((f"pull request #{row.pull} by {row.by}" for row in rows if row.pull is not None), None)
        branch = next((row.branch for row in rows if row.pull is None and row.branch not in known), before.branch)
        found[number] = replace(before, pull=pull, branch=branch)
    return found


def strangers(repository: Repository, known: Collection[str]) -> dict[int, str]:
    """Branches that serve a ticket although no session in the record accounts for them, by ticket."""
    found: dict[int, str] = {}
    for branch in repository.branches(f"{DELIVERY}*"):
        number = branch.removeprefix(DELIVERY).partition("-")[0]
        if branch not in known and number.isdigit():
            found[int(number)] = branch
    return found


def history(
    past: Iterable[tuple[int, str, str, str]],
    digests: Mapping[int, str],
    branches: Mapping[int, str],
    said: Mapping[int, str] | None = None,
) -> dict[int, TicketHistory]:
    """What sessions did with each ticket, from (ticket, text digest, status, session), oldest first.

    A blocked or rolled back session holds its ticket only while the ticket's text is the one it was started with: an
    edited ticket starts afresh. Aborted sessions count as failures of their text. `said` is the priority a person gave.
    """
    found: dict[int, TicketHistory] = {}
    for ticket, digest, status, session in past:
        before = found.get(ticket, TicketHistory())
        if status == "completed":
            before = replace(before, completed=before.completed | {digest})
        elif status == "aborted" or (status in ("blocked", "rolled_back") and digests.get(ticket) != digest):
            failures = {**before.failures, digest: before.failures.get(digest, 0) + 1}
            before = replace(before, failures=failures)
        else:
            before = replace(before, session=session, status=status.replace("_", " "))
        found[ticket] = before
    for ticket, branch in branches.items():
        found[ticket] = replace(found.get(ticket, TicketHistory()), branch=branch)
    for ticket, priority in (said or {}).items():
        found[ticket] = replace(found.get(ticket, TicketHistory()), priority=priority)
    return found


def ticket_rows(home_path: Path, backlog: str) -> list[dict[str, Any]]:
    """The backlog in the order it would be taken, then what is passed over, then what cannot be read."""
    snapshot, selection, _ = _look(home_path, backlog)
    tickets = snapshot.tickets
    rows = [_row(tickets[number], order, "") for order, number in enumerate(selection.order, 1)]
    rows += [_row(tickets[number], None, why) for number, why in sorted(selection.passed_over.items())]
    unreadable: dict[str, Any] = {"order": None, "labels": [], "risk": None, "title": "cannot be read"}
    rows += [{"ticket": name, **unreadable, "reason": why} for name, why in sorted(snapshot.unreadable.items())]
    return rows


def explain_ticket(home_path: Path, backlog: str, number: int) -> dict[str, Any]:
    """One ticket's verdict and its sessions. Raises CliError when the backlog does not have it."""
    snapshot, selection, rows = _look(home_path, backlog)
    ticket = snapshot.tickets.get(number)
    if ticket is None and (why := snapshot.unreadable.get(f"#{number}")):
        raise CliError(f"{backlog}: #{number} cannot be read: {why}")
    if ticket is None:
        known = ", ".join(map(str, sorted(snapshot.tickets))) or "none"
        unreadable = f"; {len(snapshot.unreadable)} cannot be read, see `valuetrain ticket list`"
        hint = unreadable if snapshot.unreadable else ""
        raise CliError(f"{backlog} has no ticket {number}; it has {known}{hint}")
    if number in selection.order:
        verdict = f"would be taken as number {selection.order.index(number) + 1} of {len(selection.order)}"
    else:
        verdict = selection.passed_over[number]
    kept = ("session", "status", "phase", "reason", "branch")
    sessions = [{name: row[name] for name in kept} for row in rows if row["ticket"] == number]
    return {"ticket": number, "title": ticket.title, "verdict": verdict, "sessions": sessions}


def _row(ticket: Ticket, order: int | None, reason: str) -> dict[str, Any]:
    labels, risk = list(ticket.labels), ticket.risk.value
    return {
        "ticket": ticket.id, "order": order, "labels": labels, "risk": risk, "title": ticket.title, "reason": reason
    }  # fmt: skip


def _look(home_path: Path, backlog: str) -> tuple[Snapshot, Selection, list[dict[str, Any]]]:
    home = Home(home_path.resolve())
    settings = load(home.config)
    source = backlog_at(backlog, settings)
    if backlog.startswith(GITHUB):
        from cli.forging import base_policy

        policy = base_policy(home, backlog, settings)
    else:
        policy, _ = load_policy(home.policy)
    snapshot = anyio.run(source.snapshot)
    rows: list[dict[str, Any]] = []
    if has_record(home, settings):
        with reading(home_path) as record:
            rows = record.sessions()
    tried = [row for row in rows if not row.get("taken_by")]
    past = [(row["ticket"], row["ticket_digest"], row["status"], row["session"]) for row in tried]
    repository = Repository(Path.cwd())
    known = {row["branch"] for row in rows} | {claim_branch(row["ticket"]) for row in tried}
    here = isinstance(source, FolderBacklog) and repository.is_repository()
    branches = strangers(repository, known) if here else {}
    said = {row["ticket"]: row["priority"] for row in rows if row.get("priority")}
    past_of = served(history(past, snapshot.digests, branches, said), snapshot, known)
    wrong = unfit(snapshot.tickets, home.pipelines)
    return snapshot, select(snapshot, policy, past_of, datetime.now(UTC), wrong), rows
