"""`valuetrain ticket`: the backlog as Auto-Pilot sees it."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, HomeOption, JsonOption, guard, say, show_json

app = typer.Typer(no_args_is_help=True, help="See which tickets would be taken, and why others are not.")

BacklogOption = Annotated[
    str, typer.Option("--backlog", metavar="DIR|github:OWNER/REPO", help="Where the tickets are.")
]


@app.command("list")
def list_tickets(
    backlog: BacklogOption = "backlog", home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """List all tickets: first those that would be taken, in order, then the others with the reason.

    Examples:

    `valuetrain ticket list --backlog examples/backlog`

    `valuetrain ticket list --backlog github:acme/wine`
    """
    with guard(home, as_json):
        from cli.selecting import ticket_rows

        rows = ticket_rows(home, backlog)
        if as_json:
            return show_json(rows)
        if not rows:
            return say(f"No ticket in {backlog}; docs/tickets.md says how to write one.")
        for row in rows:
            place = f"{row['order']}." if row["order"] else "-"
            say(f"{place:<4} {row['ticket']!s:<6} {row['title']}")
            if row["reason"]:
                say(f"            {row['reason']}")


@app.command("explain")
def explain(
    number: Annotated[int, typer.Argument(metavar="N", help="The ticket's id.")],
    backlog: BacklogOption = "backlog",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say why a ticket would be taken or passed over, and what its sessions came to.

    Example: `valuetrain ticket explain 12`
    """
    with guard(home, as_json):
        from cli.selecting import explain_ticket

        document = explain_ticket(home, backlog, number)
        if as_json:
            return show_json(document)
        say(f"ticket {number}: {document['title']}")
        say(f"  {document['verdict']}")
        for session in document["sessions"]:
            say(f"  session {session['session']}: {session['status']} {session['reason']}")
