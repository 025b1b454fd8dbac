"""`valuetrain audit`: prove that nobody changed the record, and hand a session's evidence to somebody else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.errors import Exit
from cli.options import DEFAULT_HOME, HomeOption, JsonOption, guard, say, show_json

app = typer.Typer(no_args_is_help=True, help="Verify the record and export evidence.")


@app.command("verify")
def verify(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A bundle from `audit export`; without it, the home.")
    ] = None,
    keys: Annotated[
        list[Path] | None,
        typer.Option("--key", metavar="PUBLIC.pem", help="Trust only this public key; may be given more than once."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Check every event's hash chain, the signed checkpoints and every artifact, and name the first bad thing.

    The bytes of dead letters, which the record names by digest, are checked too.

    With FILE, check an exported bundle: offline, without any home.

    Example: `valuetrain audit verify evidence.zip --key record.pem.pub`
    """
    with guard(home, as_json):
        if bundle is not None:
            from cli.bundle_check import check_bundle

            report = check_bundle(bundle, keys or [])
        else:
            from cli.evidence import check
            from cli.home import Home
            from cli.reading import reading

            with reading(home) as record:
                report = check(record, Home(home.resolve()), keys or [])
        if as_json:
            show_json(report)
        else:
            (_say_bundle if bundle else _say_home)(report)
            for finding in report["findings"]:
                say(f"  {finding['where']}: {finding['problem']}: {finding['detail']}")
            what = "THE BUNDLE" if bundle else "THE RECORD"
            say("Nothing was changed." if not report["findings"] else f"{what} WAS CHANGED.")
        raise typer.Exit(int(Exit.DONE if not report["findings"] else Exit.ERROR))


def _say_home(report: dict[str, Any]) -> None:
    kept = f" and {letters} dead letter{'s' * (letters > 1)}" if (letters := report["dead_letters"]) else ""
    say(f"{report['events']} events in {report['streams']} streams, {report['artifacts']} artifacts{kept} checked.")
    made = report["checkpoints"]
    say(f"{made['count']} signed checkpoints cover {made['signed_events']} events, {made['unsigned_events']} wait.")


def _say_bundle(report: dict[str, Any]) -> None:
    say(
        f"session {report['session']}: {report['events']} events ({report['signed_events']} under signed checkpoints), "
        f"{report['artifacts']} artifacts ({report['sealed']} sealed, not in the bundle), "
        f"{report['signatures']} signatures checked."
    )
    for trusted in report["trusted"]:
        say(f"trusted key: {trusted['key']} from {trusted['from']}" + (" inside the bundle" * trusted["in_bundle"]))
    if any(trusted["in_bundle"] for trusted in report["trusted"]):
        say("That proves only that the bundle fits together: compare the key, or give the record's own with --key.")


@app.command("rotate-key")
def rotate_key(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Replace the key that signs checkpoints and bundles. What the old one signed stays trusted; it is destroyed.

    With no drive running: the old key signs all that is recorded so far, then the new one takes over.

    Example: `valuetrain audit rotate-key`
    """
    with guard(home, as_json):
        from cli.home import Home
        from cli.record_key import rotate
        from cli.settings import load

        place = Home(home.resolve())
        document = rotate(place.existing(), load(place.config))
        if as_json:
            return show_json(document)
        say(f"The record is signed with {document['new'][:16]}… from now on; hand out {place.record_key}.pub.")
        say(f"What {document['old'][:16]}… signed stays trusted by {document['retired']}.")


@app.command("export")
def export(
    session: Annotated[str, typer.Argument(metavar="SESSION")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The ZIP file to write.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write a session's events, artifacts, checkpoints, public keys and readable reports into one signed ZIP file.

    Example: `valuetrain audit export s1-x7k2q -o evidence.zip`
    """
    with guard(home, as_json):
        from cli.bundle import write_bundle
        from cli.home import Home
        from cli.reading import reading

        with reading(home) as record:
            document = write_bundle(record, Home(home.resolve()), session, output)
        if as_json:
            return show_json(document)
        say(f"{output}: {document['events']} events, {document['artifacts']} artifacts of {session}.")
        if document["signed_events"] < document["events"]:
            first = document["signed_events"] + 1
            say(
                f"From event {first} on there is no checkpoint yet; a drive makes one within seconds, or when it stops."
            )


@app.command("lineage")
def lineage(
    session: Annotated[str, typer.Argument(metavar="SESSION")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write it here, one event a line.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Print a session as OpenLineage run events: what each phase read and wrote, with digests.

    Example: `valuetrain audit lineage s1-x7k2q -o lineage.jsonl`
    """
    with guard(home, as_json):
        import json

        from agents.discovery import skills
        from cli.errors import CliError
        from cli.home import Home
        from cli.lineage import run_events
        from cli.plugins import use_plugins
        from cli.reading import reading

        use_plugins(Home(home.resolve()))
        with reading(home) as record:
            stream = record.stream(session)
            found = run_events(record.store.read(stream, 0, record.store.version(stream)), skills())
        lines = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in found)
        if output is not None:
            try:
                output.write_text(lines, "utf-8")
            except OSError as problem:
                raise CliError(f"{output} cannot be written: {problem.strerror}; name another file") from problem
        if as_json:
            return show_json(found if output is None else {"file": str(output), "events": len(found)})
        say(lines.rstrip("\n") if output is None else f"{output}: {len(found)} events of {session}.")
