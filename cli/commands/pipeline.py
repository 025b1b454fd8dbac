"""`valuetrain pipeline`: which pipelines there are, what is in them, and whether a file is right."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.errors import CliError, Exit
from cli.options import DEFAULT_HOME, HomeOption, JsonOption, guard, say, show_json

app = typer.Typer(no_args_is_help=True, help="See and check the pipelines that tickets can go through.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The pipeline.")]


UNJUDGED = "no phase has `acceptance: true`, so a ticket that names acceptance criteria is passed over"


class Picture(StrEnum):
    """How a graph is written."""

    MERMAID = "mermaid"
    SVG = "svg"


@app.command("list")
def list_pipelines(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List all pipelines, the shipped ones and your own, and whether the agents have the skills to run them.

    Example: `valuetrain pipeline list`
    """
    with guard(home, as_json):
        from cli.home import Home
        from cli.pipelines import rows
        from cli.plugins import use_plugins
        from conductor.catalog import Catalog

        found = rows(Catalog((use_plugins(Home(home.resolve())).pipelines,)))
        if as_json:
            return show_json(found)
        for row in found:
            origin = "shipped" if row["shipped"] else row["file"]
            if "problem" in row:
                say(f"{row['pipeline']:<18} invalid    {origin}")
                say(f"    {row['problem']}")
                continue
            can = "runnable" if row["runnable"] else "no skills"
            say(f"{row['pipeline']:<18} {can:<10} {row['phases']:>2} phases, version {row['version']}, {origin}")
            say(f"    {row['description']}")
            if row["missing_skills"]:
                say("    no agent has these skills yet: " + _missing(row["missing_skills"]))


@app.command("show")
def show(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show a pipeline phase by phase: agent, mode, skills, artifacts, checklist, criteria, gate and limits.

    Example: `valuetrain pipeline show ml-delivery`
    """
    with guard(home, as_json):
        from cli.home import Home
        from cli.pipelines import document, lines
        from cli.plugins import use_plugins
        from conductor.catalog import Catalog

        source, body = document(Catalog((use_plugins(Home(home.resolve())).pipelines,)), name)
        if as_json:
            return show_json(body)
        say(f"{name}, version {source.version} ({body['file']})")
        say(source.description)
        if body["missing_skills"]:
            say("cannot run: no agent has these skills yet: " + _missing(body["missing_skills"]))
        if not body["judges_acceptance"]:
            say(UNJUDGED)
        for line in lines(source):
            say(line)


@app.command("check")
def check(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE...", help="Pipelines, checklists or modes [default: all there are]."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Check definitions and print everything that is wrong, each with file, line, field, reason and what to do.

    Example: `valuetrain pipeline check .valuetrain/pipelines/mine.yaml`

    Exit codes: 0 all are right (a note says if skills are missing, or acceptance is not judged), 1 something is wrong.
    """
    with guard(home, as_json):
        from cli import pipelines
        from cli.home import Home
        from cli.plugins import use_plugins
        from conductor.catalog import Catalog

        folder = use_plugins(Home(home.resolve())).pipelines
        catalog = Catalog((folder,))
        rows, problems = pipelines.check_files(catalog, files) if files else pipelines.check_all(catalog, folder)
        if as_json:
            show_json({"checked": rows, "problems": pipelines.as_json(problems)})
        else:
            for problem in problems:
                say(str(problem))
            for row in rows:
                if files and row["ok"]:
                    say(f"{row['file']}: ok, a {row['kind']}")
                if files and row.get("missing_skills"):
                    say(f"{row['file']}: note: no agent has these skills yet: {_missing(row['missing_skills'])}")
                if files and row.get("judges_acceptance") is False:
                    say(f"{row['file']}: note: {UNJUDGED}")
            wrong = sum(not row["ok"] for row in rows)
            say(f"{len(rows)} checked, {wrong} wrong" + (f", {len(problems)} problems" if problems else ""))
        raise typer.Exit(int(Exit.ERROR if problems else Exit.DONE))


@app.command("graph")
def graph(
    name: NameArgument,
    picture: Annotated[Picture, typer.Option("--format", help="Mermaid text, or an SVG picture.")] = Picture.MERMAID,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write it here.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Draw a pipeline: which phase comes after which, who works in each, and where a person decides.

    Example: `valuetrain pipeline graph ml-delivery --format svg -o ml-delivery.svg`
    """
    with guard(home, as_json):
        from cli.graphs import mermaid, svg
        from cli.home import Home
        from cli.pipelines import skills
        from cli.plugins import use_plugins
        from conductor.catalog import Catalog
        from conductor.pipelines import find

        source = find(Catalog((use_plugins(Home(home.resolve())).pipelines,)), name, skills())
        text = svg(source) if picture is Picture.SVG else mermaid(source)
        if output is not None:
            try:
                output.write_text(text, "utf-8")
            except OSError as problem:
                raise CliError(
                    f"{output} cannot be written: {problem.strerror}; name another file with -o"
                ) from problem
        if as_json:
            place = {"graph": text} if output is None else {"file": str(output)}
            return show_json({"pipeline": name, "format": picture.value, **place})
        say(text.rstrip("\n") if output is None else str(output))


def _missing(skills: dict[str, list[str]]) -> str:
    return "; ".join(f"{phase}: {', '.join(names)}" for phase, names in skills.items())
