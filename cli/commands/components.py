"""The components as commands: `up`, `conductor run`, `agent run`, `effects run`, `gateway run`, `autopilot run`,
`chatops run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, HomeOption, JsonOption, guard

agent_app = typer.Typer(no_args_is_help=True, help="Run an agent as a process of its own.")
conductor_app = typer.Typer(no_args_is_help=True, help="Run a conductor as a process of its own.")
autopilot_app = typer.Typer(no_args_is_help=True, help="Run Auto-Pilot as a process of its own.")
chatops_app = typer.Typer(no_args_is_help=True, help="Run chat-ops as a process of its own.")
effects_app = typer.Typer(no_args_is_help=True, help="Run the effect executor as a process of its own.")
gateway_app = typer.Typer(no_args_is_help=True, help="Run the model gateway as a process of its own.")
EveryOption = Annotated[
    float | None,
    typer.Option(
        "--every",
        metavar="SECONDS",
        min=0.1,
        help="How often to look at the backlog again [default: 10 for a folder, github_poll_seconds for GitHub].",
    ),
]
RepoOption = Annotated[
    Path | None,
    typer.Option("--repo", metavar="DIR", help="The git repository to work in [default: the one here]."),
]


@agent_app.callback()
@conductor_app.callback()
@autopilot_app.callback()
@effects_app.callback()
@gateway_app.callback()
@chatops_app.callback()
def _group() -> None:
    """Keeps `run` a command of its own."""


@conductor_app.command("run")
def conductor_run(
    standby: Annotated[
        bool, typer.Option("--standby", help="With SQLite: wait for the conductor that runs, and take over.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Run a conductor: it decides, records and relays. With PostgreSQL several may run; one of them relays.

    Stopped with SIGTERM or Ctrl-C it exits with 0; bus or database being away, it waits.

    Example: `valuetrain conductor run`
    """
    with guard(home, as_json):
        from cli.components import run_conductor

        run_conductor(home, standby, as_json)


@effects_app.command("run")
def effects_run(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Run the effect executor, the only component that writes to git and signs. One runs on a home.

    Example: `valuetrain effects run`
    """
    with guard(home, as_json):
        from cli.components import run_effects

        run_effects(home, as_json)


@gateway_app.command("run")
def gateway_run(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Run the model gateway, the only component that holds the language model's key. One runs on a home.

    Needs model_base_url and model_name; the endpoint's key comes from VALUETRAIN_MODEL_KEY or model_key_file.

    Example: `valuetrain gateway run`
    """
    with guard(home, as_json):
        from cli.components import run_gateway

        run_gateway(home, as_json)


@agent_app.command("run")
def agent_run(
    role: Annotated[
        str, typer.Argument(metavar="ROLE", help="lead, data, feature, training, devsecops, evaluation, risk.")
    ],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Run one agent beside the system of this home or of the NATS server in the settings, until stopped.

    Replicas of a role share its work. Stopped with SIGTERM or Ctrl-C it hands back what it had begun and exits with 0.

    Example: `valuetrain agent run training`
    """
    with guard(home, as_json):
        from cli.components import run_agent

        run_agent(home, role, as_json)


@chatops_app.command("run")
def chatops_run(
    backlog: Annotated[
        str | None,
        typer.Option(
            "--backlog", metavar="github:OWNER/REPO", help="Whose comments to hear; left out, only Slack is served."
        ),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Run chat-ops: it hears comments at GitHub and clicks in Slack, and asks the conductor. One runs on a home.

    Example: `valuetrain chatops run --backlog github:acme/models`
    """
    with guard(home, as_json):
        from cli.talking import run_chatops

        run_chatops(home, backlog, as_json)


@autopilot_app.command("run")
def autopilot_run(
    backlog: Annotated[
        str, typer.Option("--backlog", metavar="DIR|github:OWNER/REPO", help="Where the tickets are.")
    ] = "backlog",
    repo: RepoOption = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency", metavar="N", min=1, help="Work on N sessions at once [default: the policy's wip]."
        ),
    ] = None,
    every: EveryOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Run Auto-Pilot: the effect executor, and drives whenever the backlog holds tickets to take. One runs on a home.

    Example: `valuetrain autopilot run --backlog backlog`
    """
    with guard(home, as_json):
        from cli.piloting import run_autopilot

        run_autopilot(home, backlog, repo, concurrency, every, as_json)


def up(
    backlog: Annotated[
        str | None,
        typer.Option(
            "--backlog",
            metavar="DIR|github:OWNER/REPO",
            help="Take tickets from here as they come; left out, `valuetrain drive` takes them.",
        ),
    ] = None,
    repo: RepoOption = None,
    conductors: Annotated[
        int, typer.Option("--conductors", metavar="N", min=1, max=16, help="More than one need PostgreSQL.")
    ] = 1,
    replicas: Annotated[
        list[str] | None,
        typer.Option("--replicas", metavar="ROLE=N", help="N agents of this role; may be given for each role."),
    ] = None,
    every: EveryOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document once everything serves: url, components, pids.")
    ] = False,
) -> None:
    """Run the whole system as processes of their own on this machine, until stopped.

    NATS (unless nats_url names one), conductors, the seven agents, the effect executor. What dies is started again;
    what dies again and again ends everything. SIGTERM or Ctrl-C ends all in order, exit code 0.

    Examples:

    `valuetrain up --backlog backlog`

    `valuetrain up --conductors 2 --replicas training=2 --json`
    """
    with guard(home, as_json):
        from cli.topology import run_up

        if repo is not None and backlog is None:
            raise typer.BadParameter("--repo belongs to --backlog: give both")
        run_up(home, backlog, repo, conductors, replicas or [], every, as_json)
