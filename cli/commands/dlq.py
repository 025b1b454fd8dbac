"""`valuetrain dlq`: messages that were given up, and what a person decides about them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.errors import Exit
from cli.options import DEFAULT_HOME, AsOption, HomeOption, JsonOption, fail, guard, say, show_json

app = typer.Typer(no_args_is_help=True, help="See the dead letters (messages that were given up), and decide on them.")

LetterArgument = Annotated[
    str, typer.Argument(metavar="LETTER", help="The dead letter's id, from `valuetrain dlq list`.")
]
SHOWN = 2000
"""Characters of the message itself that `show` prints as text; `--json` gives all."""


@app.command("list")
def list_letters(
    every: Annotated[bool, typer.Option("--all", help="Also those that were requeued or discarded.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List the dead letters that wait for a person, oldest first.

    Example: `valuetrain dlq list --json`
    """
    with guard(home, as_json):
        from cli.reading import reading

        with reading(home) as record:
            rows = [row for row in record.letters() if every or row["status"] in ("open", "released")]
        if as_json:
            return show_json(rows)
        if not rows:
            return say("No dead letter waits for a person.")
        for row in rows:
            say(f"{row['letter']}  {row['status']:<9}  {row['time'][:19]}Z  {row['subject']}")
            reason = " ".join(row["reason"].split())[:200]
            say(f"    {row['consumer']} gave it up after {_times(row['deliveries'])}: {reason}")
            if row["decision"]:
                say(f"    {row['decision']}")


@app.command("show")
def show(letter: LetterArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one dead letter: why it was given up, the trace, and the message itself.

    Example: `valuetrain dlq show dl-4f0c2a91be`
    """
    with guard(home, as_json):
        from cli.home import Home
        from cli.reading import reading
        from workspace.blobs import Blobs

        with reading(home) as record:
            row = record.letter(letter)
        raw = Blobs(Home(home.resolve()).blobs).read(row["sha256"])
        message = raw.decode("utf-8", "backslashreplace")
        if as_json:
            return show_json({**row, "message": message})
        say(f"{row['letter']}: {row['status']}" + (f" ({row['decision']})" if row["decision"] else ""))
        say(f"given up {row['time']} by {row['consumer']} after {_times(row['deliveries'])}")
        say(f"subject {row['subject']} ({row['stream']} #{row['sequence']})")
        say(f"reason: {row['reason']}")
        if row["trace"]:
            say(row["trace"].rstrip())
        more = f"\n… {len(message) - SHOWN} characters more; --json shows all" if len(message) > SHOWN else ""
        say(f"message ({row['size']} bytes, SHA-256 {row['sha256'][:12]}…):\n{message[:SHOWN]}{more}")
        if row["status"] == "open":
            say(f"Decide with: valuetrain dlq requeue {letter}, or valuetrain dlq discard {letter} --reason TEXT")


@app.command("requeue")
def requeue(
    letter: LetterArgument,
    as_name: AsOption = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Put a message back on its subject, under a new message id. Works while a drive runs and between drives.

    Example: `valuetrain dlq requeue dl-4f0c2a91be --reason "the agent was updated"`
    """
    with guard(home, as_json):
        from cli.reading import reading
        from schemas.commands import RequeueDeadLetter

        verdict = _ask(home, as_json, letter, RequeueDeadLetter(reason=reason), as_name)
        with reading(home) as record:
            row = record.letter(letter)
        if row["status"] != "requeued":
            fail(f"{letter} is still {row['status']}: {row['decision']}", Exit.ERROR, as_json)
        if as_json:
            return show_json({"letter": letter, "by": verdict["by"], **{k: row[k] for k in ("subject", "message_id")}})
        say(f"{letter} is on {row['subject']} again. Should it be given up again, it comes back as a new dead letter.")


@app.command("discard")
def discard(
    letter: LetterArgument,
    reason: Annotated[str, typer.Option(help="Why, for the record; discarding needs one.")] = "",
    as_name: AsOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Close a dead letter without trying it again. The record keeps it, and the message's bytes.

    Example: `valuetrain dlq discard dl-4f0c2a91be --reason "sent by a script that is gone"`
    """
    with guard(home, as_json):
        from schemas.commands import DiscardDeadLetter

        verdict = _ask(home, as_json, letter, DiscardDeadLetter(reason=reason), as_name)
        if as_json:
            return show_json({"letter": letter, "by": verdict["by"], "reason": reason})
        say(f"{letter} is discarded by {verdict['by']}; `valuetrain dlq list --all` still shows it.")


def _ask(home: Path, as_json: bool, letter: str, command: Any, as_name: str | None) -> dict[str, Any]:
    from cli.operator import ask_letter

    verdict = ask_letter(home, letter, command, as_name)
    if not verdict["accepted"]:
        fail(verdict["reason"], Exit.REFUSED if verdict["code"] == "not_allowed" else Exit.ERROR, as_json)
    return verdict


def _times(deliveries: int) -> str:
    return "1 delivery" if deliveries == 1 else f"{deliveries} deliveries"
