"""`valuetrain report`: costs, estimates, the portfolio and models' lives, from the record. Read-only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import DEFAULT_HOME, HomeOption, JsonOption, guard, say, show_json
from schemas.shown_figures import counted

if TYPE_CHECKING:
    from schemas.history import PastSession

app = typer.Typer(no_args_is_help=True, help="Costs, estimates, the portfolio and models' lives, from the record.")
Pipeline = Annotated[str | None, typer.Option("--pipeline", metavar="NAME", help="Only sessions of this pipeline.")]


@contextmanager
def _past(home: Path) -> Iterator[list[PastSession]]:
    from cli.history import Past
    from cli.reading import reading

    with reading(home) as record:
        yield Past(record.store, record.tenant).sessions()


@app.command("costs")
def costs(
    by: Annotated[
        str, typer.Option("--by", help="ticket, requester, month, pipeline, phase, agent or session.")
    ] = "ticket",
    month: Annotated[str | None, typer.Option("--month", metavar="YYYY-MM", help="Only this month (UTC).")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what was used, divided by ticket, requester, month and so on: for showback and chargeback.

    Example: `valuetrain report costs --by requester --month 2026-11`
    """
    with guard(home, as_json), _past(home) as sessions:
        from cli.reports import costs as divided

        rows = divided(sessions, by, month)
        if as_json:
            return show_json(rows)
        for row in rows:
            say(
                f"{row['usd']:>12.6f} USD  {row['cpu_seconds']:>9.1f} CPU s  {row['tokens']:>8} tokens  "
                f"{row['sessions']:>3} {'session ' if row['sessions'] == 1 else 'sessions'}  {row[by]}"
            )
        say(f"{sum(row['usd'] for row in rows):>12.6f} USD in all" if rows else "Nothing was used.")


@app.command("portfolio")
def portfolio(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show each ticket's cost beside the value a year that it states, which nobody verified, and the return.

    Example: `valuetrain report portfolio`
    """
    with guard(home, as_json), _past(home) as sessions:
        from cli.reports import portfolio as held

        found = held(sessions)
        if as_json:
            return show_json(found)
        for row in found["tickets"]:
            value = "states no value" if row["usd_per_year"] is None else f"{row['usd_per_year']:,.0f} USD a year"
            back = "" if row["return"] is None else f", return {row['return']:,.1f} times"
            kept = {None: "", True: ", promise kept", False: ", promise not kept"}[row["kept"]]
            done = "completed" if row["completed"] else "not completed"
            say(f"{row['ticket']:>5}  {row['usd']:.6f} USD  {value}{back}{kept}; {done}: {row['title']}")
        say(
            f"{found['usd']:.6f} USD spent; {found['stated_usd_per_year']:,.0f} USD a year stated, of it "
            f"{found['delivered_usd_per_year']:,.0f} delivered; {found['without_a_value']} tickets state none"
        )


@app.command("estimate")
def estimate(
    tickets: Annotated[
        int, typer.Option("--tickets", min=0, max=10_000, help="How long would so many tickets more take?")
    ] = 0,
    pipeline: Pipeline = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes-per-decision",
            min=0.01,
            max=10_000,
            help="How long a decision takes a person, as you know it: hours of work follow from it.",
        ),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what sessions cost, took and asked of people so far, as an estimate of the next, and how many a week.

    Example: `valuetrain report estimate --pipeline ml-delivery --tickets 20 --minutes-per-decision 15`
    """
    with guard(home, as_json), _past(home) as sessions:
        from agents.skills.lead.people import told
        from cli.reports import estimates

        found = estimates(sessions, datetime.now(UTC), tickets, pipeline, minutes)
        if as_json:
            return show_json(found)
        for row in found["pipelines"]:
            few = "" if row["enough"] else " (too few for an estimate)"
            say(f"{row['pipeline']}: {row['completed']} of {counted(row['sessions'], 'session')} completed{few}")
            for name, each in row["figures"].items():
                half, most = _amount(name, each["half"]), _amount(name, each["most"])
                say(f"  {_FIGURES.get(name, name):<14} half below {half}, eight in ten below {most}")
        say(_capacity(found["capacity"]))
        for line in told(found["people"]):
            say(line)


_FIGURES = {"usd": "cost", "minutes": "skill time", "days": "from start on"}


def _amount(name: str, value: float) -> str:
    """A figure with its unit; what is shorter than a day in hours, shorter than an hour in minutes."""
    if name == "usd":
        return f"{value:.4g} USD"
    minutes = value * 1440.0 if name == "days" else value
    if name not in ("days", "minutes"):
        return f"{value:.4g}"
    if minutes < 60.0:
        return f"{minutes:.2g} min"
    return f"{minutes / 60.0:.3g} h" if minutes < 1440.0 else f"{minutes / 1440.0:.3g} days"


def _capacity(room: dict[str, Any]) -> str:
    weeks = counted(len(room["weeks"]), "week")
    told = f"{room['a_week']:.2g} completed a week over {weeks}, {room['open']} open"
    if room["tickets"] and room["most"] is None:
        forecast = counted(room["tickets"], "ticket")
        return f"{told}; nothing was completed, so there is no forecast for {forecast}"
    if room["tickets"]:
        half, forecast = counted(room["half"], "week"), counted(room["tickets"], "ticket")
        told += f"; {forecast}: half a chance within {half}, nine in ten within {room['most']}"
    return told


@app.command("models")
def models(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show the life of each model over its sessions: figures, how they moved, and what nobody measured yet.

    Example: `valuetrain report models`
    """
    with guard(home, as_json), _past(home) as sessions:
        from cli.reports import scorecards

        found = scorecards(sessions)
        if as_json:
            return show_json(found)
        for card in found:
            say(f"{card['model']}: {card['completed']} of {counted(len(card['sessions']), 'session')} completed")
            for row in card["sessions"]:
                shown = {n: v for n, v in row["figures"].items() if not n.endswith(("_lower", "_upper", "_se"))}
                figures = ", ".join(f"{name} {value:.4g}" for name, value in list(shown.items())[:6])
                say(f"  {row['started'][:10]} {row['pipeline']} ({row['ending']}), {row['session']}: {figures}")
            for name, by in card["moved"].items():
                say(f"  {name} moved by {by:+.4g} from the first to the last")
            say(f"  not measured: {', '.join(card['missing']) or 'nothing'}")
        if not found:
            say("No session has measured a model yet.")
