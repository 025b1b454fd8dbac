"""`valuetrain drive`: puts a system and a drive together, shows progress, prints the summary."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from autopilot.drive import Drive, DriveSettings, Summary
from autopilot.feed import Feed
from autopilot.policyfile import advice, load_policy
from bus.nats_bus import connect
from bus.port import BusError
from cli.bootstrap import system
from cli.checks import misplaced
from cli.errors import CliError, Exit
from cli.home import Home
from cli.logs import configure
from cli.options import say, show_json
from cli.progress import Progress
from cli.selecting import backlog_at, chooser, data_roots
from cli.settings import load
from conductor.pipelines import load as load_pipeline
from schemas.policy import Policy
from schemas.values import Sender
from store.port import StoreUnavailable
from workspace.git import GitError, Repository


def run_drive(
    *,
    home: Path,
    backlog: str,
    max_tickets: int | None,
    concurrency: int | None,
    wait: bool,
    agents: bool,
    repo: Path | None,
    as_json: bool,
) -> Exit:
    """Run one drive and print what it came to; the exit code."""
    if wrong := misplaced():
        raise CliError(f"{'; '.join(wrong)}: install valuetrain into an environment of its own")
    place = Home(home.resolve())
    settings = load(place.config)
    repository = _repository(repo or Path.cwd())
    place.prepare()
    configure(place.log)
    policy, version = load_policy(place.policy)
    source = backlog_at(backlog)
    if not as_json:
        _warn(repository, policy, place)
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
    )

    async def main() -> tuple[Summary, list[dict[str, Any]]]:
        progress = Progress(quiet=as_json)
        async with (
            system(place, settings, "a drive", agents=agents) as running,
            await connect(running.server.login(Sender.AUTOPILOT.value), name="autopilot") as bus,
            Feed(bus, settings.tenant, progress.event).running() as feed,
            progress.showing(feed),
        ):
            drive = Drive(
                bus=bus,
                feed=feed,
                settings=drive_settings,
                choose=chooser(source, policy, repository),
                pipeline=partial(load_pipeline, folders=(place.pipelines,)),
                base_commit=repository.head_commit,
                trouble=lambda: running.conductor.trouble,
            )
            before = {row["letter"] for row in running.store.views(settings.tenant, "letter")}
            summary = await drive.run()
            with suppress(BusError, StoreUnavailable):  # the drive is done; a bus that is away hides no summary
                await running.dead_letters.look()  # what was given up a moment ago belongs to this drive, too
            rows = running.store.views(settings.tenant, "letter")
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


def _warn(repository: Repository, policy: Policy, place: Home) -> None:
    dirty = repository.dirty_files()
    if dirty:
        more = f" and {len(dirty) - 3} more" if len(dirty) > 3 else ""
        say(f"note: uncommitted changes ({', '.join(dirty[:3])}{more}) are not part of the branches made here")
    for sentence in advice(policy, place.policy):
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
        out(f"  waiting    ticket {row['ticket']}  gate {row['gate']}  (valuetrain gate approve {row['gate']})")
    for row in summary.blocked:
        out(f"  blocked    ticket {row['ticket']}  session {row['session']}: {row['reason']}")
    for row in summary.skipped:
        out(f"  skipped    ticket {row['ticket']}: {row['reason']}")
    if not (summary.completed or summary.waiting or summary.blocked or summary.skipped):
        out("  the backlog is empty; docs/tickets.md says how to write a ticket")
    sys.stdout.flush()
