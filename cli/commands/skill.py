"""`valuetrain skill`: which skills there are, what one takes, and one of them run on its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.errors import CliError
from cli.options import DEFAULT_HOME, HomeOption, JsonOption, guard, say, show_json

app = typer.Typer(no_args_is_help=True, help="See the agents' skills, shipped ones and your own, and run one alone.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The skill, as `skill list` shows it.")]


@app.command("list")
def list_skills(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List all skills: agent, modes and what each does.

    Example: `valuetrain skill list`
    """
    with guard(home, as_json):
        from cli.home import Home
        from cli.plugins import use_plugins
        from cli.skills import rows

        use_plugins(Home(home.resolve()))
        found = rows()
        if as_json:
            return show_json(found)
        for row in found:
            marks = [row["agent"], "mode " + "|".join(row["modes"]), *(["harness"] if row["harness"] else [])]
            say(f"{row['skill']:<22} {', '.join([*marks, *([row['plugin']] if row['plugin'] else [])])}")
            say(f"    {row['description']}")


@app.command("show")
def show(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one skill: what it reads, writes and takes; with --json also its schema as a tool of a language model.

    Example: `valuetrain skill show training.train`
    """
    with guard(home, as_json):
        from cli.home import Home
        from cli.plugins import use_plugins
        from cli.skills import card

        use_plugins(Home(home.resolve()))
        body = card(name)
        if as_json:
            return show_json(body)
        say(f"{name} ({body['agent']}, mode {'|'.join(body['modes'])})" + (", of the harness" * body["harness"]))
        say(body["description"])
        if body["plugin"]:
            say(f"  plugin     {body['plugin']}")
        for field in ("needs", "optional", "produces", "sealed"):
            if body[field]:
                say(f"  {field:<10} {', '.join(body[field])}")
        say(f"  {'limit':<10} {body['seconds']:g} s")
        parameters = body["tool"]["function"]["parameters"]["properties"]
        for parameter, schema in parameters.items():
            default = f", default {schema['default']}" if "default" in schema else ""
            say(f"  parameter  {parameter}: {schema.get('type', 'value')}{default}")
            if schema.get("description"):
                say(f"             {schema['description']}")
        if not parameters:
            say("  parameters none")


@app.command("run")
def run(
    name: NameArgument,
    given: Annotated[
        Path, typer.Option("--input", "-i", metavar="FILE", help="Ticket, parameters and artifacts: YAML or JSON.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Where its artifacts go [default: out/NAME].")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Run one skill alone, in a child process under the rules of the train; nothing is recorded.

    Its artifacts and `output.json` (summary, figures, warnings) go to DIR; files of those names are replaced.

    Example: `valuetrain skill run data.source --input wine.yaml -o out`
    """
    with guard(home, as_json):
        from agents.port import AttemptError
        from cli import skills
        from cli.home import Home
        from cli.plugins import use_plugins
        from cli.settings import load

        place = use_plugins(Home(home.resolve()))
        out = output or Path("out") / name

        def tell(line: str) -> None:
            sys.stderr.write(f"{name}: {line}\n")

        try:
            result, document = skills.run(
                name,
                skills.read_input(given),
                out,
                load(place.config).told(place.path),
                (lambda line: None) if as_json else tell,
            )
        except AttemptError as problem:
            if problem.detail and not as_json:
                sys.stderr.write(problem.detail.rstrip() + "\n")
            raise CliError(f"{problem.reason} ({problem.failure.value} failure)") from problem
        if as_json:
            return show_json(document | {"directory": str(out)})
        say(result.summary)
        for figure, value in document["measurements"].items():
            say(f"  {figure} = {value:.6g}")
        for warning in result.warnings:
            say(f"  ! {warning}")
        for ref in result.artifacts:
            say(f"  {out / ref.name}" + (" (sealed in the train: no agent reads it)" if ref.sealed else ""))
