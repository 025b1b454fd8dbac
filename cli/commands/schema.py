"""`valuetrain schema`: the contract of events and commands for programs in other languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, guard, say, show_json

app = typer.Typer(no_args_is_help=True, help="Export the message schemas.")


@app.command("export")
def export(
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="DIR", help="Write files here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")] = False,
) -> None:
    """Export JSON Schema for every message and an AsyncAPI description of the bus.

    Example: `valuetrain schema export -o schemas-out`
    """
    with guard(DEFAULT_HOME, as_json):
        from schemas.export import asyncapi, json_schemas

        documents = {"asyncapi.json": asyncapi(), **{f"{name}.json": body for name, body in json_schemas().items()}}
        if output is None:
            return show_json(documents)
        output.mkdir(parents=True, exist_ok=True)
        for name, body in documents.items():
            path = output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", "utf-8")
        if as_json:
            return show_json([{"file": str(output / name)} for name in documents])
        say(f"{len(documents)} files in {output}")
