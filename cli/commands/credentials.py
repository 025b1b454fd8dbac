"""`valuetrain credentials`: a login for somebody else's program."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, HomeOption, JsonOption, guard, say, show_json

app = typer.Typer(no_args_is_help=True, help="Hand out a login for the running system's bus.")


@app.callback()
def _group() -> None:
    """Keeps `observer` a command of its own: there may be other logins to hand out one day."""


@app.command("observer")
def observer(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write it here, readable for you only.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Print a login that may read every event and publish nothing: a secret. See docs/observers.md.

    Example: `valuetrain credentials observer -o observer.creds`
    """
    with guard(home, as_json):
        from bus.credentials import handed_out, write_private
        from bus.server import login, running
        from cli.errors import CliError
        from cli.home import Home
        from cli.settings import load

        place = Home(home.resolve())
        if running(place.bus) is None:
            raise CliError(f"no system runs on {place.path}: start `valuetrain drive --wait` there, then ask again")
        granted, tenant = login(place.bus, "observer"), load(place.config).tenant
        if output is not None:
            try:
                write_private(output, handed_out(granted, tenant))
            except OSError as problem:
                raise CliError(f"{output} cannot be written: {problem.strerror}") from problem
        if as_json:
            document = {"role": granted.role, "url": granted.url, "tenant": tenant}
            return show_json(document | ({"file": str(output)} if output else {"seed": granted.seed}))
        if output is not None:
            return say(f"{output}: a read-only login at {granted.url}, readable for you only")
        sys.stdout.write(handed_out(granted, tenant))
        sys.stderr.write("this is a secret: keep the file to yourself (chmod 600), or let -o FILE do so\n")
