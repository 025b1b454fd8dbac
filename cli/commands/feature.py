"""`valuetrain feature`: which inputs earlier sessions used, and what they were worth. Read-only."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, HomeOption, JsonOption, guard, say, show_json

app = typer.Typer(no_args_is_help=True, help="See which inputs the sessions of this home used, and their worth.")


@app.command("list")
def list_features(
    column: Annotated[
        str | None, typer.Option("--column", metavar="NAME", help="Only definitions of this column.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List the definitions of inputs in the record, each with the sessions that used it and what it was worth there.

    Example: `valuetrain feature list --column age`
    """
    with guard(home, as_json):
        from cli.features import definitions, sentence, told_by
        from cli.home import Home
        from cli.reading import reading
        from workspace.blobs import Blobs

        with reading(home) as record:
            sessions, missing = told_by(record, Blobs(Home(home.resolve()).blobs))
        rows, problems = definitions(sessions)
        rows = [row for row in rows if column is None or row["name"] == column]
        if as_json:
            return show_json({"definitions": rows, "left_out": [*missing, *problems]})
        for row in rows:
            say(f"{row['name']}: {row['kind']}, missing: {row['impute']}, encoded: {row['encode']}")
            say(f"  definition {row['definition'][:12]}, sessions: {len(row['uses'])}")
            for use in row["uses"]:
                say(f"  {sentence(use)}")
        for line in (*missing, *problems):
            say(line)
        if not rows:
            say(f"No session used a column {column!r}." if column else "No session has made a feature map yet.")
