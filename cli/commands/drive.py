"""`valuetrain drive`: Auto-Pilot takes tickets from a backlog until nothing is left to do without a person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.errors import Exit
from cli.options import DEFAULT_HOME, AsOption, HomeOption, JsonOption, fail, guard, say, show_json

app = typer.Typer(invoke_without_command=True, help="Take tickets through their pipelines, until stopped or drained.")


@app.callback(invoke_without_command=True)
def drive(
    context: typer.Context,
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
    planner: Annotated[
        Literal["playbook", "llm"] | None,
        typer.Option(
            "--planner",
            help="Who plans the phases that a pipeline marks `planned` [default: the setting `planner`].",
        ),
    ] = None,
    repo: Annotated[
        Path | None,
        typer.Option(
            "--repo",
            metavar="DIR",
            help="The git repository to work in [default: the one here; for GitHub a clone in the home].",
        ),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take tickets through their pipelines. Stopped at any moment, it continues where it was.

    With `valuetrain up` on the home, or a NATS server in the settings, it drives the system that runs there.

    Examples:

    `valuetrain drive --backlog backlog`

    `valuetrain drive --backlog backlog --max-tickets 1 --json`

    `valuetrain drive --planner llm`

    Exit codes: 0 all done, 3 a person is waited for, 4 something is blocked, 1 error, 2 usage.
    """
    if context.invoked_subcommand is not None:
        return
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
            planner=planner,
            as_json=as_json,
        )
        raise typer.Exit(int(code))


@app.command("drain")
def drain(
    drive_id: Annotated[
        str | None, typer.Argument(metavar="[DRIVE]", help="The drive's id [default: the one that runs].")
    ] = None,
    as_name: AsOption = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Let the running drive take no more tickets; it ends when what runs has ended.

    Example: `valuetrain drive drain --reason "maintenance at noon"`
    """
    with guard(home, as_json):
        from cli.draining import drain_drive

        verdict = drain_drive(home, drive_id, reason, as_name)
        if not verdict["accepted"]:
            refused = verdict["code"] in ("not_an_operator", "not_allowed")
            fail(verdict["reason"], Exit.REFUSED if refused else Exit.ERROR, as_json)
        if as_json:
            return show_json({"drive": verdict["drive"], "by": verdict["by"]})
        say(f"Drive {verdict['drive']} takes no more tickets and ends when what runs has ended.")
