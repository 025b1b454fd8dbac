"""Proof by crashes, the short form: real processes, real kill -9. The long one is `make chaos`."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.chaos.faults import FAST, IMMEDIATE
from tests.chaos.rig import Rig
from tests.chaos.runs import POINTS_ON_THE_WAY, Outcome, plans, run, storm
from tests.conftest import COUNTS
from tests.store.postgres_server import PostgresServer

pytestmark = [pytest.mark.chaos, pytest.mark.slow]
Make = Callable[..., Rig]
SEED = 20261121
Tell = Callable[[str, object], None]


@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_at_every_named_point(
    make: Make, without: Outcome, backend: str, request: pytest.FixtureRequest, record_property: Tell
) -> None:
    """Each process dies where it hurts most, one point after the other, and is started again."""
    url = None
    dying = list(POINTS_ON_THE_WAY)
    if backend == "postgres":
        server: PostgresServer = request.getfixturevalue("database")
        url = server.url(server.create())
        dying = ["conductor-1"]  # nobody else has anything to do with the record
    rig = make(store_url=url, plans=plans(dying))
    outcome = run(rig, f"{backend}, every named point", without.evidence.results)
    record_property(COUNTS, [outcome.line()])
    assert outcome.problems == []
    expected = {point.partition(":")[0] for name in dying for point in POINTS_ON_THE_WAY[name]}
    assert set(rig.blown()) == expected, "a point was never reached"


def test_at_random_moments(make: Make, without: Outcome, record_property: Tell) -> None:
    """Twelve kills, the bus cut off, the disk full, a conductor suspended: nobody sees an event twice."""
    extra = ("cut", "fill", "suspend")
    name = f"sqlite, random moments (seed {SEED})"
    outcome = storm(make(), name, without, seed=SEED, kills=12, extra=extra, cut=3.0, pause=2.0)
    record_property(COUNTS, [outcome.line()])
    assert outcome.problems == []


def test_two_conductors_and_a_database_that_is_restarted(
    make: Make, without: Outcome, database: PostgresServer, record_property: Tell
) -> None:
    """Whoever relays is killed, and suspended past its lease; PostgreSQL and the bus's disk go away."""
    rig = make(store_url=database.url(database.create()), conductors=2, idle=1.0)

    def restart(how: signal.Signals) -> None:
        database.stop(how)
        database.start()

    actions = {"fast": lambda: restart(FAST), "immediate": lambda: restart(IMMEDIATE)}
    extra = ("suspend", "fast", "lose", "immediate", "replace")
    name = f"postgres, two conductors (seed {SEED})"
    outcome = storm(rig, name, without, seed=SEED, kills=6, extra=extra, pause=2.5, actions=actions)
    record_property(COUNTS, [outcome.line()])
    assert outcome.problems == []
