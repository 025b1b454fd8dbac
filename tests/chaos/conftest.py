from __future__ import annotations

import fcntl
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.rig import Rig
from tests.chaos.runs import Outcome, calm
from tests.store.postgres_server import PostgresServer
from tests.warm import POSSIBLE

SESSIONS = 5
"""Few, but with a gate, an attempt that fails and a rollback among them."""


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker: str) -> Path:
    """A folder for all processes that run these tests."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if worker else base) / "chaos"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def worker(request: pytest.FixtureRequest) -> str:
    """Which process of pytest-xdist this is; empty without."""
    return str(getattr(request.config, "workerinput", {}).get("workerid", ""))


@pytest.fixture(scope="session")
def without(shared: Path) -> Outcome:
    """A run without faults, made once: how the sessions are to end."""
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = shared / "calm.pickle"
        if not kept.exists():
            outcome = calm(shared / "calm", SESSIONS, forked=POSSIBLE)
            assert outcome.problems == []
            kept.write_bytes(pickle.dumps(outcome))
        found: Outcome = pickle.loads(kept.read_bytes())
        return found


@pytest.fixture
def make(shared: Path, request: pytest.FixtureRequest) -> Callable[..., Rig]:
    """Makes the rig of a test; beside the run without faults, with which it shares the key that signs packages."""

    def rig(**how: object) -> Rig:
        folder = shared / request.node.name.translate(str.maketrans("[]", "--"))
        return Rig(folder, SESSIONS, forked=POSSIBLE, **how)  # type: ignore[arg-type]

    return rig


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    """A PostgreSQL server that may be stopped."""
    server = PostgresServer()
    try:
        yield server
    finally:
        server.close()
