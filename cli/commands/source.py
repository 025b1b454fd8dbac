"""`valuetrain source`: the named sources of this home, and trying them out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.errors import CliError
from cli.options import DEFAULT_HOME, HomeOption, JsonOption, guard, say, show_json

app = typer.Typer(no_args_is_help=True, help="See the databases and buckets that tickets may name, and try them out.")


@app.command("list")
def list_sources(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List what tickets may name as `data: source:NAME/ITEM`; nothing is connected to.

    Example: `valuetrain source list`
    """
    with guard(home, as_json):
        from cli.home import Home
        from cli.sources import load_sources, rows

        found = rows(load_sources(Home(home.resolve()).sources))
        if as_json:
            return show_json(found)
        for row in found:
            say(f"{row['data']:<32} {row['kind']:<4} {row['reads']} of {row['place']}")
        if not found:
            say("No source is named; docs/operations.md says how sources.yaml is written.")


@app.command("check")
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The source, as `source list` shows it.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Log in and look at each item of a source; exit 1 when one of them cannot be read.

    Example: `valuetrain source check clinic`
    """
    with guard(home, as_json):
        import anyio

        from cli.home import Home
        from cli.sources import load_sources, reader_of
        from ingest.errors import SourceError

        place = Home(home.resolve())
        items = load_sources(place.sources)
        reader, found = reader_of(place), []
        try:
            wanted = items.source(name).items
        except SourceError as problem:
            raise CliError(str(problem)) from problem
        for item in wanted:
            try:
                seen, wrong = anyio.run(reader.look, f"{name}/{item.name}"), ""
            except (SourceError, OSError) as problem:
                seen, wrong = "", str(problem)
            found.append({"source": name, "item": item.name, "reads": item.shown, "seen": seen, "problem": wrong})
        if as_json:
            show_json(found)
        else:
            for row in found:
                say(f"{row['item']}: {row['reads']}, {row['problem'] or row['seen']}")
        if any(row["problem"] for row in found):
            raise typer.Exit(1)


@app.command("fetch")
def fetch(
    target: Annotated[str, typer.Argument(metavar="NAME/ITEM", help="What to read.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where the rows go; a new file.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Read an item as a session would, into a Parquet or CSV file that only you may read; nothing is recorded.

    Example: `valuetrain source fetch clinic/visits -o visits.parquet`
    """
    with guard(home, as_json):
        import os
        import tempfile

        import anyio

        from cli.home import Home
        from cli.sources import reader_of
        from ingest.errors import SourceError
        from workspace.blobs import Blobs

        try:
            with tempfile.TemporaryDirectory(prefix="value-train-") as folder:
                blobs = Blobs(Path(folder))
                snapshot = anyio.run(reader_of(Home(home.resolve())).fetch, target, blobs)
                handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(handle, "wb") as file:
                    file.write(blobs.read(snapshot.sha256, sealed=True))
        except SourceError as problem:
            raise CliError(str(problem)) from problem
        except FileExistsError:
            raise CliError(f"{output} is there already; name another file with -o") from None
        except OSError as problem:
            raise CliError(f"{output} cannot be written: {problem.strerror}; name another with -o") from problem
        if as_json:
            return show_json(snapshot.model_dump(mode="json") | {"file": str(output)})
        say(f"{target}: {snapshot.rows:,} rows, {snapshot.size:,} bytes, sha256 {snapshot.sha256[:12]}, in {output}")
