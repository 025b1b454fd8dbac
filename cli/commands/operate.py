"""`valuetrain init`, `doctor` and `tail`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.errors import Exit
from cli.options import DEFAULT_HOME, HomeOption, JsonOption, guard, say, show_json


def init(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="The repository to set up.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Scaffold configuration, a policy and a sample ticket. Existing files are left as they are.

    Example: `valuetrain init`
    """
    with guard(directory / DEFAULT_HOME, as_json):
        from cli.scaffold import scaffold
        from workspace.git import Repository

        made, kept = scaffold(directory)
        if as_json:
            return show_json({"made": [str(p) for p in made], "kept": [str(p) for p in kept]})
        for path in made:
            say(f"made  {path}")
        for path in kept:
            say(f"kept  {path}")
        if not Repository(directory.resolve()).is_repository():
            say("This is no git repository yet, and branches are made in one: run `git init` and commit once.")
        say("Next: put your name into .valuetrain/policy.yaml, then run: valuetrain drive --backlog backlog")


def doctor(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Check this machine and say what to do about what is missing.

    Example: `valuetrain doctor`
    """
    with guard(home, as_json):
        from cli.checks import examine

        checks = examine(home)
        if as_json:
            show_json(checks)
        else:
            for check in checks:
                say(f"{'ok  ' if check['ok'] else 'FAIL'}  {check['check']}: {check['found']}")
                if not check["ok"]:
                    say(f"      {check['remedy']}")
        raise typer.Exit(int(Exit.DONE if all(check["ok"] for check in checks) else Exit.ERROR))


def tail(
    session: Annotated[str | None, typer.Option("--session", metavar="S", help="Only this session.")] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", metavar="T", help="Only this type of event; may be given again.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="SEQ|TIME|-10m",
            help="From this event of the session on, or from a moment (2026-11-21T09:00, or -90s, -10m, -2h, -1d ago).",
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as events happen (needs a running drive).")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document: an array, or with --follow a line each.")
    ] = False,
) -> None:
    """Show the event stream. Following goes on after a break where it was, without a gap or a repeat.

    Examples:

    `valuetrain tail --session s1-x7k2q --follow`

    `valuetrain tail --type gate_opened --since -2h --json`
    """
    with guard(home, as_json):
        from cli.tailing import tail_events

        tail_events(home, session, tuple(types or ()), since, follow, as_json)
