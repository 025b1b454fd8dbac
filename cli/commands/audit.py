"""`valuetrain audit`: prove that nobody changed the record, and hand a session's evidence to somebody else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.errors import Exit
from cli.options import DEFAULT_HOME, HomeOption, JsonOption, guard, say, show_json

app = typer.Typer(no_args_is_help=True, help="Verify the record and export evidence.")


@app.command("verify")
def verify(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Check every event's hash chain and every artifact the record names.

    Example: `valuetrain audit verify`
    """
    with guard(home, as_json):
        from cli.evidence import check
        from cli.home import Home
        from cli.reading import reading

        with reading(home) as record:
            report = check(record, Home(home.resolve()))
        if as_json:
            show_json(report)
        else:
            say(
                f"{report['events']} events in {report['streams']} streams and {report['artifacts']} artifacts checked."
            )
            for finding in report["findings"]:
                say(f"  {finding['where']}: {finding['problem']}: {finding['detail']}")
            say("Nothing was changed." if not report["findings"] else "THE RECORD WAS CHANGED.")
        raise typer.Exit(int(Exit.DONE if not report["findings"] else Exit.ERROR))


@app.command("export")
def export(
    session: Annotated[str, typer.Argument(metavar="SESSION")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The ZIP file to write.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write a session's events, artifacts, public key and a readable report into one ZIP file.

    Example: `valuetrain audit export s1-x7k2q -o evidence.zip`
    """
    with guard(home, as_json):
        from cli.evidence import write_bundle
        from cli.home import Home
        from cli.reading import reading

        with reading(home) as record:
            document = write_bundle(record, Home(home.resolve()), session, output)
        if as_json:
            return show_json(document)
        say(f"{output}: {document['events']} events, {document['artifacts']} artifacts of {session}.")
