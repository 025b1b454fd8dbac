"""`valuetrain db`: the record as something to keep safe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, HomeOption, JsonOption, guard, say, show_json

app = typer.Typer(no_args_is_help=True, help="Back up and restore the record, and bring its schema up to date.")


@app.command("backup")
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; it must not exist yet.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Copy the record, also while a drive runs, and verify the copy before it gets its name.

    FILE is a SQLite record, also when the record itself is in PostgreSQL: `db restore` takes it back into either.

    Artifacts, keys and configuration are files of their own: docs/operations.md says how to keep them.

    Example: `valuetrain db backup backups/record-monday.db`
    """
    with guard(home, as_json):
        from cli.home import Home
        from cli.opening import back_up
        from cli.settings import load

        place = Home(home.resolve()).existing()
        verified = back_up(place, load(place.config), file.resolve())
        if as_json:
            return show_json({"file": str(file), "streams": verified.streams, "events": verified.events})
        say(f"{file}: {verified.events} events in {verified.streams} streams, verified.")
        say(f"Copy {place.blobs} and {place.key.parent} after it: every artifact it names is there by now.")


@app.command("restore")
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `db backup` wrote.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write a backup into an empty record: all of it or nothing, verified before and after.

    The record is where the home's settings say: so a backup also moves a record from SQLite to PostgreSQL and back.

    Example: `valuetrain db restore backups/record-monday.db --home new-home`
    """
    with guard(home, as_json):
        from cli.home import Home
        from cli.opening import bring_back
        from cli.settings import load

        place = Home(home.resolve())
        with place.locked("db restore"), place.recording("db restore"):
            verified = bring_back(place, load(place.config), file.resolve())
        if as_json:
            return show_json({"file": str(file), "streams": verified.streams, "events": verified.events})
        say(f"{file}: {verified.events} events in {verified.streams} streams restored and verified.")
        say(
            f"Bring back {place.blobs} and {place.key.parent} too, then check all of it with `valuetrain audit verify`."
        )


@app.command("upgrade")
def upgrade(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Bring the record's schema up to this program's. A drive does the same when it starts.

    Example: `valuetrain db upgrade`
    """
    with guard(home, as_json):
        from cli.home import Home
        from cli.opening import upgrade as bring_up
        from cli.settings import load

        place = Home(home.resolve()).existing()
        with place.locked("db upgrade"):
            record, before, after = bring_up(place, load(place.config))
        if as_json:
            return show_json({"record": record, "from": before, "to": after})
        say(f"{record}: " + (f"schema {before} -> {after}" if before != after else f"schema {after}, up to date"))


@app.command("forget-snapshots")
def forget_snapshots(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Delete the snapshots: a cache of long sessions' states that is made again by itself. Nothing else is touched.

    Example: `valuetrain db forget-snapshots`
    """
    with guard(home, as_json):
        from contextlib import closing

        from cli.home import Home
        from cli.opening import open_store
        from cli.settings import load

        place = Home(home.resolve()).existing()
        with closing(open_store(place, load(place.config))) as store:
            forgotten = store.forget_snapshots()
        if as_json:
            return show_json({"forgotten": forgotten})
        say(f"{forgotten} snapshots deleted.")
