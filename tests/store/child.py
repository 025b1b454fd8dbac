"""Another process at work on a record: `python -m tests.store.child forever|contend|relay WHERE [NAME]`.

`WHERE` is the path of a SQLite file or the URL of a PostgreSQL database.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio

from store.leader import leadership
from store.port import Append, StoreUnavailable, VersionConflict
from store.postgres import PostgresStore
from store.relay import Outgoing, Relay
from store.sqlite import SqliteStore
from tests.conformance.store import ONE, append, event, handled

ROOT = Path(__file__).parents[2]
CONTENDED = 60
"""How many events each contender gets into the one stream."""


def open_store(where: str) -> SqliteStore | PostgresStore:
    """Open the record, ready to wait long for others."""
    return (PostgresStore if "://" in where else SqliteStore).open(where, busy_timeout=30.0)


def forever(where: str) -> None:
    """Append to one stream without end, again when the record is away; print each event's id once acknowledged."""
    store = open_store(where)
    version = store.version(ONE)
    while True:
        wanted = append(ONE, version, 1 + version % 3, handled=handled(f"c-{version}"))
        while True:
            try:
                store.append(wanted)
                break
            except StoreUnavailable:
                continue
        version += len(wanted.events)
        for envelope in wanted.events:
            print(envelope.id, flush=True)


def contend(where: str, name: str) -> int:
    """Append to a stream others append to as well, again after each conflict; how many conflicts there were."""
    store = open_store(where)
    done = conflicts = 0
    version = store.version(ONE)
    while done < CONTENDED:
        result = store.append(Append(ONE, version, (event(ONE, version + 1, f"{name} {done}"),)))
        if isinstance(result, VersionConflict):
            conflicts += 1
            version = result.actual
        else:
            done += 1
            version += 1
    store.close()
    return conflicts


async def relay(where: str) -> None:
    """As one of several conductors: while leading, publish by printing the ids of the events, one at a time."""
    store = open_store(where)

    async def publish(events: Sequence[Outgoing]) -> None:
        for each in events:
            print(each.id, flush=True)

    async def last_event() -> None:
        return None

    async with leadership(store.lease("relay")):
        relay = Relay(store, publish, last_event, batch=1)
        while True:
            if not await relay.step():
                await anyio.sleep(0.01)


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run this module as a process; it is ready to start on a newline."""
    command = [sys.executable, "-m", "tests.store.child", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "ready\n"
            yield running
        finally:
            running.kill()


def start(running: subprocess.Popen[str]) -> None:
    """Let it go."""
    assert running.stdin is not None
    running.stdin.write("\n")
    running.stdin.flush()


if __name__ == "__main__":
    task, record = sys.argv[1], sys.argv[2]
    print("ready", flush=True)
    sys.stdin.readline()  # all start together
    if task == "forever":
        forever(record)
    elif task == "relay":
        anyio.run(relay, record)
    else:
        print(contend(record, sys.argv[3]), flush=True)
