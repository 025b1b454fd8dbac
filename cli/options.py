"""Options every command has, and the guard that turns problems into messages and exit codes."""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from cli.errors import CliError, Exit

HomeOption = Annotated[
    Path, typer.Option("--home", help="Where the record, bus, artifacts and keys lie.", envvar="VALUETRAIN_HOME")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
AsOption = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="Your name in policy.yaml [default: your login].")
]
DEFAULT_HOME = Path(".valuetrain")


def show_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, sort_keys=False, default=str) + "\n")
    sys.stdout.flush()


def say(text: str = "") -> None:
    """Print a line on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def fail(message: str, code: Exit, as_json: bool) -> NoReturn:
    """Print the problem (JSON on standard output, or a line on standard error) and exit with `code`."""
    if as_json:
        show_json({"error": {"message": message, "exit": int(code)}})
    else:
        sys.stderr.write(f"valuetrain: {message}\n")
    raise typer.Exit(int(code))


@contextlib.contextmanager
def guard(home: Path, as_json: bool) -> Iterator[None]:
    """Problems a person can act on become one line and an exit code; faults of ours leave their trace in the log."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        hint = "stopped; nothing is lost: run the same command again to continue"
        fail(hint, Exit.INTERRUPTED, as_json)
    except BaseException as problem:
        known = _known(problem)
        if known is not None:
            fail(str(known), known.code if isinstance(known, CliError) else Exit.ERROR, as_json)
        if not isinstance(problem, Exception):
            raise
        where = _log_trace(home)
        fail(
            f"internal error: {type(problem).__name__}: {problem} (trace in {where}; please report it)",
            Exit.ERROR,
            as_json,
        )


def _known(problem: BaseException) -> BaseException | None:
    """The first problem in a (group of) exception(s) that names itself, or None."""
    if isinstance(problem, BaseExceptionGroup):
        found = [known for inner in problem.exceptions if (known := _known(inner)) is not None]
        return found[0] if found and len(found) == len(problem.exceptions) else None
    names = {cls.__name__ for cls in type(problem).__mro__}
    return problem if names & _NAMED else None


# By name, so that showing a problem of one part does not import all others.
_NAMED = frozenset(
    {
        "CliError",
        "StoreError",
        "BusError",
        "GitError",
        "BlobError",
        "TicketError",
        "BacklogError",
        "ForgeError",
        "SlackRefuses",
        "PolicyError",
        "PipelineError",
        "PluginError",
        "SignatureError",
        "ServerError",
    }
)


def _log_trace(home: Path) -> Path:
    path = home / "valuetrain.log"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(traceback.format_exc() + "\n")
    except OSError:
        sys.stderr.write(traceback.format_exc())
    return path
