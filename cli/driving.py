"""`valuetrain drive`: puts a system and a drive together, shows progress, prints the summary."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from autopilot.board import Board
from autopilot.drive import Choice, Drive, DriveSettings, Summary
from autopilot.feed import Feed
from autopilot.policyfile import advice, load_policy
from autopilot.sources.port import Backlog
from bus.answers import ApiError
from bus.nats_bus import connect
from bus.port import Bus, BusError, Login, NoReceipt
from cli.bootstrap import system
from cli.checks import misplaced
from cli.errors import CliError, Exit, sole
from cli.home import Home
from cli.joining import RunningServer, Server, given, up_runs
from cli.logs import configure
from cli.opening import has_record
from cli.options import say, show_json
from cli.pipelines import skills
from cli.plugins import use_plugins
from cli.progress import Progress
from cli.reading import reading
from cli.selecting import GITHUB, backlog_at, chooser, data_roots, place_of
from cli.settings import Settings, load
from conductor.pipelines import load as load_pipeline
from schemas.pipeline import PipelineDefinition
from schemas.policy import Policy
from schemas.values import Sender
from store.port import StoreUnavailable
from workspace.git import GitError, Repository


@dataclass(frozen=True, slots=True)
class Ground:
    """What a drive works on: the repository, the backlog and the policy, read once."""

    home: Home
    settings: Settings
    repository: Repository
    policy: Policy
    source: Backlog
    drive: DriveSettings
    renew: Callable[[], Ground] | None = None
    """Read repository and policy anew, for a backlog whose base branch goes on without us. Raises as `ground`."""

    def make(self, bus: Bus, feed: Feed, trouble: Callable[[], Exception | None] = lambda: None) -> Drive:
        """A new drive over it."""
        return Drive(
            bus=bus,
            feed=feed,
            settings=self.drive,
            choose=self.choose,
            pipeline=self.pipeline,
            place=partial(place_of, self.repository, self.policy),
            trouble=trouble,
        )

    def pipeline(self, name: str) -> PipelineDefinition:
        """The definition that new sessions of the pipeline `name` carry. Raises ValueError."""
        found = load_pipeline(name, folders=(self.home.pipelines,), skills=skills())
        return found if self.settings.registry_uri else found.without_registry()

    @property
    def choose(self) -> Callable[[Board], Awaitable[Choice]]:
        """Reads the backlog and selects."""
        return chooser(self.source, self.policy, self.repository, self.home.pipelines)


def ground(
    home: Path,
    backlog: str,
    repo: Path | None,
    *,
    max_tickets: int | None = None,
    concurrency: int | None = None,
    wait: bool = False,
    source: Backlog | None = None,
    planner: str | None = None,
) -> Ground:
    """Read everything a drive needs; `source` is the backlog when it is open already. Raises CliError, GitError,
    BacklogError, PolicyError."""
    if wrong := misplaced():
        raise CliError(f"{'; '.join(wrong)}: install valuetrain into an environment of its own")
    place = Home(home.resolve())
    settings = load(place.config)
    use_plugins(place)
    if planner is not None:
        settings = settings.model_copy(update={"planner": planner})
    place.prepare()
    if source is None:
        configure(place.log)
    source = source or backlog_at(backlog, settings)
    renew = None
    if backlog.startswith(GITHUB):
        from cli.forging import prepared  # PyGithub takes long to import

        base = prepared(place, backlog, settings, repo)
        repository, policy, version = _repository(base.repository.path), base.policy, base.version
        limits = {"max_tickets": max_tickets, "concurrency": concurrency}
        renew = partial(ground, home, backlog, repo, wait=wait, source=source, planner=planner, **limits)
    else:
        repository = _repository(repo or Path.cwd())
        policy, version = load_policy(place.policy)
    drive_settings = DriveSettings(
        backlog=backlog,
        repository=str(repository.path),
        tenant=settings.tenant,
        policy=policy,
        policy_version=version,
        roots=data_roots(source, policy, repository.path),
        wip=concurrency or policy.wip,
        max_tickets=max_tickets,
        wait=wait,
        look_seconds=settings.github_poll_seconds if renew is not None else None,
    )
    return Ground(place, settings, repository, policy, source, drive_settings, renew)


@dataclass(frozen=True, slots=True)
class _Running:
    """The system a drive drives: its own, or one that runs already."""

    login: Callable[[str], Login]
    letters: Callable[[], list[dict[str, Any]]]
    look: Callable[[], Awaitable[None]]
    trouble: Callable[[], Exception | None]


@asynccontextmanager
async def _own(on: Ground, agents: bool) -> AsyncIterator[_Running]:
    async with (
        system(on.home, on.settings, "a drive", agents=agents) as running,
        _hearing(on, running.server.login),
    ):
        yield _Running(
            running.server.login,
            partial(running.store.views, on.settings.tenant, "letter"),
            running.dead_letters.look,
            lambda: running.conductor.trouble,
        )


def _hearing(on: Ground, login: Callable[[str], Login]) -> AbstractAsyncContextManager[None]:
    """Chat-ops in this process, where people speak at GitHub or in Slack. A system that runs has its own."""
    comments = on.drive.backlog if on.drive.backlog.startswith(GITHUB) else None
    if comments is None and on.settings.slack_channel is None:
        return nullcontext()
    from cli.talking import talking

    return talking(on.home, on.settings, login, comments)


@asynccontextmanager
async def _joined(on: Ground, server: Server) -> AsyncIterator[_Running]:
    """A conductor that runs elsewhere. Raises CliError when none answers."""

    def letters() -> list[dict[str, Any]]:
        if not has_record(on.home, on.settings):
            return []
        with reading(on.home.path) as record:
            return record.letters()

    async def look() -> None:
        """Its conductor looks by itself."""

    try:
        yield _Running(server.login, letters, look, lambda: None)
    except Exception as problem:
        reason = sole(problem)
        if isinstance(reason, NoReceipt):
            raise CliError(
                f"no conductor answers at {server.url}: start `valuetrain conductor run` and the agents, or "
                f"`valuetrain up`"
            ) from problem
        if isinstance(reason, ApiError) and reason.code == 404:
            raise CliError(f"no conductor ever ran at {server.url}: start `valuetrain conductor run`") from problem
        raise


def _system(on: Ground, agents: bool | None, planner: str | None) -> AbstractAsyncContextManager[_Running]:
    server: Server | None = given(on.home, on.settings)
    if server is None and up_runs(on.home):
        server = RunningServer(on.home.bus)
    if server is None:
        if agents is not False and on.settings.planner == "llm" and on.settings.model_base_url is None:
            raise CliError("planner llm asks a model and none is set: name model_base_url and model_name (docs/llm.md)")
        return _own(on, agents is not False)
    if planner is not None:
        raise CliError(
            f"a system runs at {server.url} with agents of its own: leave out --planner, and set `planner` where they "
            f"run",
            Exit.USAGE,
        )
    if agents:
        raise CliError(
            f"a system runs at {server.url} with agents of its own: leave out --agents, or run one beside them with "
            f"`valuetrain agent run`",
            Exit.USAGE,
        )
    return _joined(on, server)


def run_drive(
    *,
    home: Path,
    backlog: str,
    max_tickets: int | None,
    concurrency: int | None,
    wait: bool,
    agents: bool | None,
    repo: Path | None,
    planner: str | None,
    as_json: bool,
) -> Exit:
    """Run one drive and print what it came to; the exit code."""
    on = ground(home, backlog, repo, max_tickets=max_tickets, concurrency=concurrency, wait=wait, planner=planner)
    if not as_json:
        _warn(on)
    system_ = _system(on, agents, planner)

    async def main() -> tuple[Summary, list[dict[str, Any]]]:
        progress = Progress(quiet=as_json)
        async with (
            system_ as running,
            await connect(running.login(Sender.AUTOPILOT.value), name="autopilot") as bus,
            Feed(bus, on.settings.tenant, progress.event).running() as feed,
            progress.showing(feed),
        ):
            drive = on.make(bus, feed, running.trouble)
            before = {row["letter"] for row in running.letters()}
            summary = await drive.run()
            with suppress(BusError, StoreUnavailable):  # the drive is done; a bus that is away hides no summary
                await running.look()  # what was given up a moment ago belongs to this drive, too
            rows = running.letters()
            return summary, [row for row in rows if row["status"] == "open" and row["letter"] not in before]

    summary, letters = anyio.run(main)
    if as_json:
        given_up = [{name: row[name] for name in ("letter", "subject", "reason")} for row in letters]
        show_json(asdict(summary) | ({"dead_letters": given_up} if given_up else {}))
    else:
        _print(summary, say)
        for row in letters:
            say(
                f"  given up   {row['subject']}: {row['reason'].splitlines()[0]}  (valuetrain dlq show {row['letter']})"
            )
    return exit_code(summary)


def exit_code(summary: Summary) -> Exit:
    """3 when something waits for a person, else 4 when something is blocked, else 0."""
    if summary.waiting:
        return Exit.WAITING
    return Exit.BLOCKED if summary.blocked else Exit.DONE


def _repository(start: Path) -> Repository:
    repository = Repository(start.resolve())
    if not repository.is_repository():
        raise CliError(f"{start} is in no git repository; run `git init` and commit once, or name one with --repo")
    top = Repository(Path(repository.git("rev-parse", "--show-toplevel")))
    top.head_commit()
    if (busy := top.in_progress()) is not None:
        raise GitError(f"a {busy} is under way in {top.path}", f"finish or abort the {busy} first")
    return top


def _warn(on: Ground) -> None:
    dirty = on.repository.dirty_files()
    if dirty:
        more = f" and {len(dirty) - 3} more" if len(dirty) > 3 else ""
        say(f"note: uncommitted changes ({', '.join(dirty[:3])}{more}) are not part of the branches made here")
    where = on.home.policy if on.renew is None else Path(f"{on.source.name}/.valuetrain/policy.yaml")
    for sentence in advice(on.policy, where):
        say(f"note: {sentence}")


def _print(summary: Summary, out: Callable[[str], Any]) -> None:
    out("")
    out(f"drive {summary.drive}: {summary.seconds:.1f} s, ${summary.cost_usd:.4f}")
    if summary.stopped:
        out(f"  took no more tickets: {summary.stopped}")
    if summary.automation_rate is not None:
        out(f"  without a person: {summary.automation_rate:.0%} of {len(summary.completed)} completed")
    for row in summary.completed:
        out(f"  completed  ticket {row['ticket']}  session {row['session']}  branch {row['branch']}")
    for row in summary.waiting:
        next_ = row.get("note") or f"valuetrain gate approve {row['gate']}"
        out(f"  waiting    ticket {row['ticket']}  gate {row['gate']}  ({next_})")
    for row in summary.blocked:
        out(f"  blocked    ticket {row['ticket']}  session {row['session']}: {row['reason']}")
    for row in summary.skipped:
        out(f"  skipped    ticket {row['ticket']}: {row['reason']}")
    if not (summary.completed or summary.waiting or summary.blocked or summary.skipped):
        out("  the backlog is empty; docs/tickets.md says how to write a ticket")
    sys.stdout.flush()
