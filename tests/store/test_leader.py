"""One process leads at a time; another takes over when it dies, stops talking or lets go."""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import ExitStack

import anyio
import pytest
from anyio.lowlevel import checkpoint

from store import leader, postgres_lease
from store.leader import leadership
from store.port import Lease, StoreError, StoreUnavailable
from store.postgres import PostgresStore
from store.sqlite import SqliteStore
from tests.conformance.store import ONE, append
from tests.store.child import process, start
from tests.store.postgres_server import PostgresServer
from tests.store.test_postgres_crashes import end_sessions, mortal

__all__ = ["mortal"]

Open = Callable[..., PostgresStore]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits longer than need be."""
    monkeypatch.setattr(leader, "TRY_EVERY", 0.01)
    monkeypatch.setattr(leader, "RENEW_EVERY", 0.01)


class Fickle:
    """A lease that answers what it is told; at the end of the list it is held for ever."""

    def __init__(self, *answers: bool | StoreError) -> None:
        self.calls: list[str] = []
        self._answers = list(answers)

    def _answer(self, call: str) -> bool:
        self.calls.append(call)
        answer = self._answers.pop(0) if self._answers else True
        if isinstance(answer, StoreError):
            raise answer
        return answer

    def acquire(self) -> bool:
        return self._answer("acquire")

    def renew(self) -> None:
        self._answer("renew")

    def release(self) -> None:
        self.calls.append("release")


AWAY = StoreUnavailable("away")


async def test_it_waits_until_the_lease_is_free_and_the_record_there() -> None:
    lease = Fickle(False, AWAY, False, True)
    async with leadership(lease):
        assert lease.calls[:4] == ["acquire"] * 4
        while "renew" not in lease.calls:
            await checkpoint()
    assert lease.calls[-1] == "release"


async def test_a_leader_that_loses_the_lease_is_stopped_and_may_lead_again() -> None:
    lease = Fickle(True, True, AWAY)
    for _ in range(2):
        async with leadership(lease):
            if "release" in lease.calls:
                break
            await anyio.sleep_forever()
    assert lease.calls == ["acquire", "renew", "renew", "release", "acquire", "release"]


async def test_what_the_leader_raises_comes_out_as_it_is() -> None:
    lease = Fickle()
    with pytest.raises(LookupError, match="mine"):
        async with leadership(lease):
            raise LookupError("mine")
    assert lease.calls[-1] == "release"


async def test_one_who_waits_or_leads_can_be_cancelled() -> None:
    waiting, leading = Fickle(*[False] * 1_000), Fickle()
    for lease, seen in ((waiting, "acquire"), (leading, "renew")):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_lead_for_ever, lease)
            while seen not in lease.calls:
                await checkpoint()
            tasks.cancel_scope.cancel()
        assert lease.calls[-1] == "release"


async def _lead_for_ever(lease: Lease) -> None:
    async with leadership(lease):
        await anyio.sleep_forever()


async def test_who_has_the_file_leads(store: SqliteStore) -> None:
    lease = store.lease("relay")
    lease.renew()
    async with leadership(lease):
        assert lease.acquire()


# On PostgreSQL


def test_a_lease_is_held_by_one_and_handed_over(open_postgres: Open) -> None:
    one, two = (open_postgres().lease("relay") for _ in range(2))
    other = open_postgres().lease("other")
    assert one.acquire()
    assert one.acquire(), "still"
    assert not two.acquire()
    assert other.acquire()
    one.renew()
    with pytest.raises(StoreUnavailable, match="not held"):
        two.renew()
    one.release()
    assert two.acquire()
    assert not one.acquire()
    for lease in (one, one, two, other):
        lease.release()


def test_a_lease_is_of_one_schema(postgres: PostgresServer, new_database: str) -> None:
    leases = []
    with ExitStack() as stack:
        for schema in ("one", "two"):
            postgres.run(f"CREATE SCHEMA {schema}", new_database)
            store = PostgresStore.open(f"{postgres.url(new_database)}?options=-csearch_path%3D{schema}")
            stack.callback(store.close)
            leases.append(store.lease("relay"))
        assert [lease.acquire() for lease in leases] == [True, True]
        for lease in leases:
            lease.release()


def test_a_holder_that_says_nothing_loses_it(open_postgres: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a suspended process would, or one whose machine lost its power."""
    monkeypatch.setattr(postgres_lease, "IDLE", 0.2)
    frozen = open_postgres().lease("relay")
    assert frozen.acquire()
    monkeypatch.undo()
    other = open_postgres().lease("relay")
    while not other.acquire():
        pass
    with pytest.raises(StoreUnavailable):
        frozen.renew()
    with pytest.raises(StoreUnavailable, match="not held"):
        frozen.renew()
    assert not frozen.acquire()
    other.release()
    frozen.release()


def test_one_whose_session_was_ended_can_take_it_again(open_postgres: Open, url: str) -> None:
    lease, waiting = (open_postgres().lease("relay") for _ in range(2))
    assert lease.acquire()
    assert not waiting.acquire()
    end_sessions(url)
    with pytest.raises(StoreUnavailable):
        waiting.acquire()
    lease.release()
    assert waiting.acquire()
    waiting.release()


def test_a_server_that_is_away(open_postgres: Open, mortal: PostgresServer) -> None:
    lease = open_postgres().lease("relay")
    assert lease.acquire()
    mortal.stop()
    with pytest.raises(StoreUnavailable):
        lease.renew()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        lease.acquire()
    mortal.start()
    assert lease.acquire()
    lease.release()


def test_another_relays_when_the_relaying_process_is_killed(open_postgres: Open, url: str) -> None:
    store = open_postgres()
    store.append(append(ONE, 0, 30))
    ids = [row.id for row in store.read_raw(ONE)]
    with process("relay", url) as one, process("relay", url) as two:
        assert one.stdout is not None
        assert two.stdout is not None
        start(one)
        published = [one.stdout.readline().strip() for _ in ids]
        start(two)
        store.append(append(ONE, 30, 30))
        published += [one.stdout.readline().strip() for _ in range(30)]
        assert not select.select([two.stdout], [], [], 0)[0], "two relay at once"
        assert not store.lease("relay").acquire()
        one.kill()
        one.wait()
        store.append(append(ONE, 60, 30))
        ids = [row.id for row in store.read_raw(ONE)]
        while published[-1] != ids[-1]:
            published.append(two.stdout.readline().strip())
    repeated = len(published) - len(ids)
    assert repeated in (0, 1), "at most the one whose publication the cursor did not record"
    assert list(dict.fromkeys(published)) == ids
