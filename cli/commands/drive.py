"""`valuetrain drive`: Auto-Pilot takes tickets from a backlog until nothing is left to do without a person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, HomeOption, JsonOption, guard


def drive(
    backlog: Annotated[
        str, typer.Option("--backlog", metavar="DIR|github:OWNER/REPO", help="Where the tickets are.")
    ] = "backlog",
    max_tickets: Annotated[
        int | None, typer.Option("--max-tickets", metavar="N", min=1, help="Start at most N tickets.")
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency", metavar="N", min=1, help="Work on N sessions at once [default: the policy's wip]."
        ),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait/--no-wait", help="Stay until people decided their gates, or end when only they are missing."
        ),
    ] = False,
    agents: Annotated[
        bool | None,
        typer.Option(
            "--agents/--no-agents",
            help="Run the seven agents here, or leave them to `valuetrain agent run` [default: here, unless a system "
            "runs already].",
        ),
    ] = None,
    repo: Annotated[
        Path | None,
        typer.Option("--repo", metavar="DIR", help="The git repository to work in [default: the one here]."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take tickets through their pipelines. Stopped at any moment, it continues where it was.

    With `valuetrain up` on the home, or a NATS server in the settings, it drives the system that runs there.

    Examples:

    `valuetrain drive --backlog backlog`

    `valuetrain drive --backlog backlog --max-tickets 1 --json`

    Exit codes: 0 all done, 3 a person is waited for, 4 something is blocked, 1 error, 2 usage.
    """
    with guard(home, as_json):
        from cli.driving import run_drive

        code = run_drive(
            home=home,
            backlog=backlog,
            max_tickets=max_tickets,
            concurrency=concurrency,
            wait=wait,
            agents=agents,
            repo=repo,
            as_json=as_json,
        )
        raise typer.Exit(int(code))
