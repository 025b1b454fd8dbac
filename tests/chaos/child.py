"""A component as a process of its own: `python -m tests.chaos.child NAME --home DIR [--crash POINT:N] [--break NAME]`.

Beside what the product does, every process keeps a list of the commands whose receipt it saw, synced to disk before it
goes on; and it can be told where to die.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from tests.chaos.points import MUTATIONS, POINTS, Fuse

MARKS, ACKS, LEADER = "blown", "acks", "leader"


def evidence(home: Path) -> Path:
    """Where the processes of a run write what they saw."""
    return home.parent / "evidence"


def note_receipts(home: Path) -> None:
    """Write down every acknowledged command with its verdict, on disk before the sender goes on."""
    from bus.nats_bus import NatsBus

    original = NatsBus.send
    path = evidence(home) / f"{ACKS}-{os.getpid()}-{os.urandom(3).hex()}.jsonl"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def send(self: Any, command: Any, timeout: float = 10.0) -> dict[str, Any]:
        verdict = await original(self, command, timeout)
        os.write(handle, json.dumps([command.id, verdict]).encode() + b"\n")
        os.fsync(handle)
        return verdict

    NatsBus.send = send  # type: ignore[method-assign]


def note_leading(home: Path, name: str) -> None:
    """Write down who relays."""
    from store.relay import Relay

    original = Relay.reconcile

    async def reconcile(self: Any) -> int:
        (evidence(home) / LEADER).write_text(name)
        return await original(self)

    Relay.reconcile = reconcile  # type: ignore[method-assign]


def sign_often() -> None:
    """Checkpoints every two seconds, so that some are made in a short run."""
    from cli.checkpointing import Checkpointing

    Checkpointing.__init__.__kwdefaults__.update(seconds=2.0, events=100)  # type: ignore[union-attr]


def work_lightly() -> None:
    """Here and in the fork server: the light skills in place of the real ones."""
    import agents.worker
    import tests.chaos.lightly  # noqa: F401

    agents.worker.PRELOAD = ("tests.chaos.lightly", "agents.worker", "agents.skills.work")


def hurry(ack_wait: float) -> None:
    """Have the server deliver again after `ack_wait` seconds what a dead process held. Before anybody imports `bus`."""
    from bus import streams

    of_agent = streams.agent_consumer
    streams.CONDUCTOR = replace(streams.CONDUCTOR, ack_wait=ack_wait)
    streams.EFFECTS = replace(streams.EFFECTS, ack_wait=ack_wait)
    streams.agent_consumer = lambda role: replace(of_agent(role), ack_wait=ack_wait)
    streams.CONSUMERS = tuple(replace(spec, ack_wait=ack_wait) for spec in streams.CONSUMERS)


def shorten(idle: float) -> None:
    """Have PostgreSQL take the lease from a leader that said nothing for `idle` seconds."""
    from store import leader, postgres_lease

    postgres_lease.IDLE = idle
    leader.RENEW_EVERY = idle / 5


def main() -> None:
    """Patch, then run the component until it ends or is ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nothing stays when the tests are killed
    parser = argparse.ArgumentParser()
    parser.add_argument("component")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--crash", default="")
    parser.add_argument("--break", dest="broken", default="")
    parser.add_argument("--sessions", type=int, default=0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ack-wait", type=float, default=0.0)
    parser.add_argument("--idle", type=float, default=0.0)
    given = parser.parse_args()
    if given.ack_wait:
        hurry(given.ack_wait)
    if given.idle:
        shorten(given.idle)
    note_receipts(given.home)
    if given.broken:
        MUTATIONS[given.broken]()
    if given.crash:
        name, _, passes = given.crash.partition(":")
        POINTS[name](Fuse(name, int(passes), evidence(given.home) / MARKS))
    command, _, which = given.component.partition("-")
    if command in ("nats", "observer", "senders"):
        from tests.chaos.components import COMPONENTS

        anyio.run(COMPONENTS[command], given)
        return
    if command == "conductor":
        note_leading(given.home, given.component)
        sign_often()
    words = ["run"]
    if command == "agent":
        work_lightly()
        words += [which]
    sys.argv = ["valuetrain", command, *words, "--home", str(given.home)]
    from cli.main import run

    run()


if __name__ == "__main__":
    main()
