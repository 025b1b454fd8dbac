"""`make chaos`, the long form: 50 sessions at once, 200 kills at random moments and every other fault, on each backend.

python -m tests.chaos --backend sqlite --backend postgres --sessions 50 --kills 200 --seed 1
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos.faults import FAST, IMMEDIATE
from tests.chaos.rig import Rig
from tests.chaos.runs import Outcome, calm, mutants, storm

EXTRA = ("suspend", "cut", "lose", "replace")
SQLITE, POSTGRES = ("fill", "fill"), ("fast", "immediate", "suspend")
CUT, PAUSE = 30.0, 15.0
"""Seconds the bus is cut off, and a conductor suspended (longer than PostgreSQL leaves it the lease)."""

HOURS = 3600.0
"""The most that one run may take, in seconds."""


def on_sqlite(folder: Path, without: Outcome, given: argparse.Namespace) -> Outcome:
    """One conductor, the record in a file."""
    rig = Rig(folder / "sqlite", given.sessions, ack_wait=0.0)
    how = {"seed": given.seed, "kills": given.kills, "extra": (*EXTRA, *SQLITE), "cut": CUT, "pause": PAUSE}
    return storm(rig, "sqlite", without, seconds=HOURS, **how)


def on_postgres(folder: Path, without: Outcome, given: argparse.Namespace) -> Outcome:
    """Two conductors, the record in PostgreSQL, which is restarted twice."""
    from tests.store.postgres_server import PostgresServer

    server = PostgresServer(durable=True)
    try:
        rig = Rig(
            folder / "postgres", given.sessions, store_url=server.url(server.create()), conductors=2, ack_wait=0.0
        )

        def restart(how: object) -> None:
            server.stop(how)  # type: ignore[arg-type]
            server.start()

        actions = {"fast": lambda: restart(FAST), "immediate": lambda: restart(IMMEDIATE)}
        how = {"seed": given.seed, "kills": given.kills, "extra": (*EXTRA, *POSTGRES), "cut": CUT, "pause": PAUSE}
        return storm(rig, "postgres", without, seconds=HOURS, actions=actions, **how)
    finally:
        server.close()


def main() -> int:
    """Run, print one table, and say by the exit code whether all was well."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Proof by crashes, the long form.")
    parser.add_argument("--sessions", type=int, default=50, help="how many run at once")
    parser.add_argument("--kills", type=int, default=200, help="how many times a process is killed with SIGKILL")
    parser.add_argument("--seed", type=int, default=1, help="decides what is done when")
    parser.add_argument("--backend", choices=("sqlite", "postgres"), action="append", help="both, if not given")
    parser.add_argument("--folder", type=Path, help="where to work, and leave everything; it must not exist")
    parser.add_argument("--mutations", action="store_true", help="break the product instead, and see it noticed")
    given = parser.parse_args()
    backends = given.backend or ["sqlite", "postgres"]
    with tempfile.TemporaryDirectory(prefix="value-train-chaos-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=given.folder is None)
        outcomes = [calm(folder / "calm", given.sessions, HOURS)]
        if given.mutations:
            missed = mutants(folder, outcomes[0])
            print(f"not noticed: {', '.join(missed)}" if missed else "every mutation was noticed")
            return 1 if missed else 0
        for backend in backends:
            outcomes.append({"sqlite": on_sqlite, "postgres": on_postgres}[backend](folder, outcomes[0], given))
    print("\n" + table(outcomes))
    bad = [f"{outcome.name}: {problem}" for outcome in outcomes for problem in outcome.problems]
    print("\n".join(bad) if bad else "nothing was lost, doubled or different")
    return 1 if bad else 0


def table(outcomes: list[Outcome]) -> str:
    """The counts side by side, as Markdown."""
    columns = [outcome.figures() for outcome in outcomes]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [["", *(outcome.name for outcome in outcomes)], ["---"] * (len(outcomes) + 1)]
    rows += [[name, *(str(column.get(name, "")) for column in columns)] for name in names]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
