"""`valuetrain feature`: which inputs earlier sessions used, what they were worth, and which stored ones may go."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, HomeOption, JsonOption, guard, say, show_json

app = typer.Typer(
    no_args_is_help=True,
    help="Inputs that the sessions of this home used, their worth, and stored ones past their days.",
)


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


@app.command("expire")
def expire(
    apply: Annotated[bool, typer.Option("--apply", help="Remove them; without it they are only shown.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show the backfilled inputs past their days (`backfill_days`, `backfill_personal_days`), and remove them.

    What a session was made from stays. Each removal is a line of `backfills/removed.jsonl`.

    Example: `valuetrain feature expire --apply`
    """
    with guard(home, as_json):
        from datetime import UTC, datetime

        from cli import retention
        from cli.home import Home
        from cli.reading import reading
        from cli.settings import BACKFILLS, load
        from workspace.blobs import Blobs

        place = Home(home.resolve()).existing()
        settings = load(place.config)
        root, now = place.path / BACKFILLS, datetime.now(UTC)
        with reading(home) as record:
            used = retention.used_by(record, Blobs(place.blobs))
        found = retention.past_their_days(root, settings.backfill_days, settings.backfill_personal_days, now, used)
        removed = retention.remove(root, found, now) if apply else []
        if as_json:
            shown = [vars(each) | {"removed": each in removed} for each in found]
            return show_json({"past_their_days": shown, "removed": len(removed)})
        for each in found:
            say(("removed " if each in removed else "") + each.sentence)
        going = [each for each in found if not each.kept]
        size = sum(each.bytes for each in going)
        if not found:
            say("Nothing is past its days.")
        elif apply:
            say(f"{len(removed)} removed, {size:,} bytes; the journal is {root / retention.JOURNAL}.")
        else:
            say(f"{len(going)} would be removed, {size:,} bytes; --apply removes them.")
