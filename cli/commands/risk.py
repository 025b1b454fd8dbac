"""`valuetrain risk`: the risk registry over all sessions, from the record. Read-only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, HomeOption, JsonOption, guard, say, show_json

app = typer.Typer(no_args_is_help=True, help="See the risks over all sessions: status, age, signs, work on them.")


@app.command("list")
def list_risks(
    every: Annotated[bool, typer.Option("--all", help="Also risks that are mitigated or only watched.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List active risks, the highest score first, with coverage: what has no mitigation, no work, and how old it is.

    Example: `valuetrain risk list --all`
    """
    with guard(home, as_json):
        from cli.history import Past
        from cli.home import Home
        from cli.reading import reading
        from cli.risks import profiles, registry
        from workspace.blobs import Blobs

        blobs = Blobs(Home(home.resolve()).blobs)
        with reading(home) as record:
            sessions = Past(record.store, record.tenant).sessions()
            named = {
                past.session: list(profiles(list(record.store.read(record.stream(past.session))), blobs))
                for past in sessions
            }
        found = registry(sessions, named, datetime.now(UTC))
        if not every:
            found["risks"] = [row for row in found["risks"] if row["status"] == "active"]
        if as_json:
            return show_json(found)
        for row in found["risks"]:
            age = "" if row["age_days"] is None else f", {row['age_days']:.1f} days"
            again = " again" if row["again"] else ""
            work = f", work: {', '.join(map(str, row['work']))}" if row["work"] else ""
            name = f"{row['score']:>3} {row['title']} ({row['risk']})"
            say(f"{name}: {row['status']}{again}{age}; owner {row['owner']}{work}")
            if row["last_signal"]:
                sign = row["last_signal"]
                say(f"      {row['signals']} signs, the last {sign['time'][:16]} in {sign['session']}: {sign['what']}")
            if row["mitigation"]:
                say(f"      mitigation: {row['mitigation']}")
        cover = found["coverage"]
        oldest = "" if cover["oldest_days"] is None else f", the oldest for {cover['oldest_days']:.1f} days"
        say(
            f"{cover['active']} of {cover['risks']} risks are active{oldest}; without mitigation: "
            f"{', '.join(cover['without_mitigation']) or 'none'}; without work: "
            f"{', '.join(cover['without_work']) or 'none'}"
        )
