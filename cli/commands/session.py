"""`valuetrain session`: one ticket's trip through a pipeline, looked at, replayed, taken back."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NoReturn

import typer

from cli.errors import CliError, Exit
from cli.options import DEFAULT_HOME, AsOption, HomeOption, JsonOption, fail, guard, say, show_json

app = typer.Typer(no_args_is_help=True, help="See, replay, pause, retry, abort, roll back and fork sessions.")

SessionArgument = Annotated[
    str, typer.Argument(metavar="SESSION", help="The session's id, from `valuetrain session list`.")
]


@app.command("list")
def list_sessions(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List all sessions, oldest first.

    Example: `valuetrain session list --json`
    """
    with guard(home, as_json):
        from cli.reading import reading

        with reading(home) as record:
            rows = record.sessions()
        if as_json:
            return show_json(rows)
        if not rows:
            return say("No session yet; `valuetrain drive` starts them.")
        for row in rows:
            done = sum(p["completed"] or p.get("skipped", False) for p in row["phases"])
            where = f"{done}/{len(row['phases'])} phases"
            status = "paused" if row.get("paused") else row["status"]
            say(f"{row['session']:<12} {status:<11} {where:<13} ticket {row['ticket']}: {row['title']}")
            if row["reason"]:
                say(f"             {row['reason']}")
        completed = [row for row in rows if row["status"] == "completed"]
        if completed:
            alone = sum(not row["interventions"] for row in completed)
            rate = f"{alone / len(completed):.0%}"
            say(f"Automation rate: {rate} ({alone} of {len(completed)} completed without a person's decision).")


@app.command("show")
def show(session: SessionArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one session: phases, figures, gates, cost.

    Example: `valuetrain session show s1-x7k2q`
    """
    with guard(home, as_json):
        from cli.reading import reading

        with reading(home) as record:
            row = record.session(session)
            gates = [g for g in record.gates() if g["session"] == session]
        if as_json:
            return show_json({**row, "gates": gates})
        say(f"{row['session']}: {row['status']}" + (f" ({row['reason']})" if row["reason"] else ""))
        say(f"ticket {row['ticket']}: {row['title']} (risk {row['risk']})")
        say(f"branch {row['branch']} at {row['commit'][:12]}")
        if rows := row.get("snapshot"):
            what = f"{rows['rows']:,} rows, sha256 {rows['sha256'][:12]}, read {rows['taken']}"
            say(f"data source:{rows['source']}/{rows['item']}, {what}")
        if point := row.get("forked_from"):
            say(f"forked from {point['session']} after event {point['sequence']}")
        if row.get("pull"):
            say(f"pull request {row['pull']}: {row['url']}")
        if failed := row.get("not_done"):
            say(f"could not be done at {row['origin']}: {', '.join(failed)} (see its effect_failed events)")
        say(f"${row['cost_usd']:.4f}, {row['seconds']:.1f} s of skill time")
        for phase in row["phases"]:
            mark = "done" if phase["completed"] else ("now " if phase["phase"] == row["phase"] else "    ")
            say(f"  [{mark}] {phase['phase']:<20} {phase['summary']}")
        for gate in gates:
            if gate["kind"] == "human":
                by = f" by {gate['decided_by']}" if gate["decided_by"] else ""
                say(f"  gate {gate['gate']}: {gate['status']}{by}")


@app.command("replay")
def replay(
    session: SessionArgument,
    to: Annotated[int | None, typer.Option("--to", metavar="SEQ", help="Stop after this event.")] = None,
    at_time: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Stop at this time: ISO 8601 with a zone, as in the record."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Decide every recorded command again and compare with the record.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Fold a session's events again: its exact state then, or proof that today's rules decide the same.

    Example: `valuetrain session replay s1-x7k2q --verify`
    """
    with guard(home, as_json):
        from cli.reading import reading
        from conductor.replay import state_at, verify_decisions
        from conductor.views import session_view

        with reading(home) as record:
            stream = record.stream(session)
            if verify:
                report = verify_decisions(record.store, stream)
                if as_json:
                    show_json({"session": session, **report.as_dict()})
                elif report.difference is None:
                    say(f"{session}: {report.commands} commands decided again, {report.events} events, no difference.")
                else:
                    say(f"{session}: {report.difference}")
                raise typer.Exit(int(Exit.DONE if report.difference is None else Exit.ERROR))
            if at_time is not None:
                from cli.replaying import sequence_of

                to = sequence_of(record.store, stream, at_time, to)
            _check_sequence(session, record.store.version(stream), to)
            state, at = state_at(record.store, stream, to)
        view = session_view(state, at)
        if as_json:
            return show_json(view)
        say(
            f"{session} after event {state.version} ({view['updated']}): {view['status']}, phase {view['phase'] or '-'}"
        )
        for phase in view["phases"]:
            say(f"  {'done' if phase['completed'] else '    '} {phase['phase']:<20} {phase['summary']}")


@app.command("diff")
def diff(
    session: SessionArgument,
    before: Annotated[int, typer.Argument(metavar="A", help="After this event …")],
    after: Annotated[int, typer.Argument(metavar="B", help="… compared with after this one.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say what changed between two events: phases, gates, artifacts, figures, costs.

    Example: `valuetrain session diff s1-x7k2q 40 57`
    """
    with guard(home, as_json):
        from cli.reading import reading
        from conductor.compare import differences
        from conductor.replay import state_at

        with reading(home) as record:
            stream = record.stream(session)
            newest = record.store.version(stream)
            for sequence in (before, after):
                _check_sequence(session, newest, sequence)
            then, _ = state_at(record.store, stream, before)
            now, _ = state_at(record.store, stream, after)
        found = differences(then, now)
        if as_json:
            return show_json({"session": session, "from": before, "to": after, "changes": [d.as_dict() for d in found]})
        say(f"{session}, from after event {before} to after event {after}: {len(found) or 'no'} changes.")
        for change in found:
            say(f"  {change.line()}")


def _check_sequence(session: str, newest: int, sequence: int | None) -> None:
    if sequence is not None and not 1 <= sequence <= newest:
        raise CliError(f"{session} has events 1 to {newest}; {sequence} is none of them", Exit.USAGE)


@app.command("rollback")
def rollback(
    session: SessionArgument,
    to: Annotated[
        str, typer.Option("--to", metavar="PHASE|SEQ", help="The phase whose start, or the event, to go back to.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change and what cannot be undone; send nothing.")
    ] = False,
    as_name: AsOption = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take a session back to the start of a phase, or to where it rested after an event: a rollback, too, is undone so.

    Nothing is deleted: state goes back, the branch gets a new commit. What cannot be undone is said first.

    Example: `valuetrain session rollback s1-x7k2q --to training --as dana --dry-run`
    """
    with guard(home, as_json):
        from cli.undoing import command_for, foresee, tell

        command = command_for(to, reason)
        plan = foresee(home, session, command, as_name)
        if plan.refusal is not None and dry_run:
            refused(plan.refusal.code, plan.refusal.reason, as_json)
        if not as_json:
            tell(plan, say, dry_run)
        if dry_run:
            return show_json({"session": session, "to": to, "dry_run": True, **plan.as_dict()}) if as_json else None
        verdict = _ask(home, as_json, session, command, as_name, settle=True)
        row = _row(home, session)
        document = {"session": session, "to": to, "by": verdict["by"], "status": row["status"], "commit": row["commit"]}
        if as_json:
            return show_json({**document, "registry": list(plan.outside), "cannot_be_undone": list(plan.lasting)})
        where = f"where it was after event {to}" if to.isdecimal() else f"at the start of {to}"
        say(f"{session} is back {where} (by {verdict['by']}): {row['status']}.")
        say(f"Branch {row['branch']} is at {row['commit'][:12]}; nothing was deleted from it.")
        if row["status"] in ("rolled_back", "blocked"):
            say(f"Go on with: valuetrain session retry {session}, then valuetrain drive")


@app.command("retry")
def retry(
    session: SessionArgument,
    as_name: AsOption = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Give a blocked or rolled back session another attempt; the next drive carries it out.

    Example: `valuetrain session retry s4-m2p9w --as dana`
    """
    with guard(home, as_json):
        from schemas.commands import RetryPhase

        verdict = _ask(home, as_json, session, RetryPhase(reason=reason), as_name)
        if as_json:
            return show_json({"session": session, "by": verdict["by"]})
        say(f"{session} will be tried again; `valuetrain drive` carries it out.")


@app.command("pause")
def pause(
    session: SessionArgument,
    as_name: AsOption = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Let no phase of a session start; what is at work may report, and gates may be decided.

    Example: `valuetrain session pause s4-m2p9w --reason "the data is being replaced"`
    """
    with guard(home, as_json):
        from schemas.commands import PauseSession

        verdict = _ask(home, as_json, session, PauseSession(reason=reason), as_name)
        if as_json:
            return show_json({"session": session, "by": verdict["by"]})
        say(f"{session} is paused; it goes on with: valuetrain session resume {session}")


@app.command("resume")
def resume(
    session: SessionArgument,
    as_name: AsOption = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Let a paused session go on; a blocked one is retried instead.

    Example: `valuetrain session resume s4-m2p9w`
    """
    with guard(home, as_json):
        from schemas.commands import ResumeSession

        verdict = _ask(home, as_json, session, ResumeSession(reason=reason), as_name)
        if as_json:
            return show_json({"session": session, "by": verdict["by"]})
        say(f"{session} goes on; `valuetrain drive` carries it out.")


@app.command("reassign")
def reassign(
    session: SessionArgument,
    phase: Annotated[str | None, typer.Option("--phase", help="Which phase, when several are at work.")] = None,
    as_name: AsOption = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take an attempt away from the agent that holds it, and give the phase out anew to any replica.

    Example: `valuetrain session reassign s4-m2p9w --reason "the machine hangs"`
    """
    with guard(home, as_json):
        from schemas.commands import ReassignAttempt

        chosen = phase or _at_work(home, session)
        verdict = _ask(home, as_json, session, ReassignAttempt(phase=chosen, reason=reason), as_name)
        if as_json:
            return show_json({"session": session, "phase": chosen, "by": verdict["by"]})
        say(f"{chosen} of {session} is given out anew; a late report of the old attempt is refused.")


def _at_work(home: Any, session: str) -> str:
    working = [p["phase"] for p in _row(home, session)["active"] if p["stage"] == "working"]
    if len(working) != 1:
        what = f"{len(working)} phases of {session} are at work" if working else f"nobody works on {session}"
        raise CliError(f"{what}; name one with --phase ({', '.join(working) or 'none'})", Exit.USAGE)
    return str(working[0])


@app.command("priority")
def priority(
    session: SessionArgument,
    level: Annotated[Literal["now", "next", "future"], typer.Argument(help="now, next or future.")],
    as_name: AsOption = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say how urgent a session's ticket is: when it is selected again, this counts instead of its label and age.

    Example: `valuetrain session priority s4-m2p9w now`
    """
    with guard(home, as_json):
        from schemas.commands import ChangePriority
        from schemas.values import Priority

        verdict = _ask(home, as_json, session, ChangePriority(priority=Priority(level), reason=reason), as_name)
        if as_json:
            return show_json({"session": session, "priority": level, "by": verdict["by"]})
        say(f"{session} has priority {level}.")


@app.command("abort")
def abort(
    session: SessionArgument,
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    as_name: AsOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """End a session for good. Its branch and record stay.

    Example: `valuetrain session abort s4-m2p9w --reason "data was withdrawn"`
    """
    with guard(home, as_json):
        from schemas.commands import AbortSession

        verdict = _ask(home, as_json, session, AbortSession(reason=reason), as_name)
        if as_json:
            return show_json({"session": session, "by": verdict["by"]})
        say(f"{session} is aborted.")


def _ask(
    home: Any, as_json: bool, session: str, command: Any, as_name: str | None, settle: bool = False
) -> dict[str, Any]:
    from cli.operator import ask

    verdict = ask(home, session, command, as_name, settle)
    if not verdict["accepted"]:
        refused(verdict["code"], verdict["reason"], as_json)
    return verdict


def refused(code: str, reason: str, as_json: bool) -> NoReturn:
    """Print why a command was not carried out, and exit."""
    policy = code in ("not_an_approver", "not_an_operator", "not_allowed")
    fail(reason, Exit.REFUSED if policy else Exit.ERROR, as_json)


def _row(home: Any, session: str) -> dict[str, Any]:
    from cli.reading import reading

    with reading(home) as record:
        return record.session(session)
