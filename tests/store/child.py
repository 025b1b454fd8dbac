"""Another process that writes to a record: `python -m tests.store.child forever|contend PATH`."""

from __future__ import annotations

import sys
from pathlib import Path

from store.port import Append, VersionConflict
from store.sqlite import SqliteStore
from tests.conformance.store import ONE, append, event, handled

CONTENDED = 60
"""How many events each contender gets into the one stream."""


def forever(path: Path) -> None:
    """Append to one stream without end; print each event's id once it is acknowledged."""
    store = SqliteStore.open(path)
    version = store.version(ONE)
    while True:
        wanted = append(ONE, version, 1 + version % 3, handled=handled(f"c-{version}"))
        store.append(wanted)
        version += len(wanted.events)
        for envelope in wanted.events:
            print(envelope.id, flush=True)


def contend(path: Path, name: str) -> int:
    """Append to a stream others append to as well, again after each conflict; how many conflicts there were."""
    store = SqliteStore.open(path, busy_timeout=30.0)
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


if __name__ == "__main__":
    task, record = sys.argv[1], Path(sys.argv[2])
    print("ready", flush=True)
    sys.stdin.readline()  # all start together
    if task == "forever":
        forever(record)
    else:
        print(contend(record, sys.argv[3]), flush=True)
