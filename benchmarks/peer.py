"""The peer: the library `eventsourcing`, as its documentation says, with the same payload, on the same database.

Its events are its own frozen dataclasses; its version check is the unique key of aggregate and version. It keeps no
hash chain and checks nothing when it reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from eventsourcing.domain import DomainEvent
from eventsourcing.persistence import DatetimeAsISO, EventStore, InfrastructureFactory, JSONTranscoder

from benchmarks.samples import COMMAND, NOW, REASON, scratch
from tests.store.postgres_server import PostgresServer

Peer = EventStore[UUID]


class Refused(DomainEvent):
    """What `samples.alike` holds, as an event of the peer."""

    command: str
    code: str
    reason: str
    by: dict[str, str]
    actor: dict[str, str]
    id: str
    correlation_id: str
    causation_id: str


def alike(aggregate: UUID, version: int, when: datetime = NOW) -> Refused:
    """The event number `version` of an aggregate."""
    actor = {"name": "alice", "channel": "cli", "verified_as": "1000"}
    return Refused(
        originator_id=aggregate,
        originator_version=version,
        timestamp=when,
        command="decide_gate",
        code="stale",
        reason=REASON,
        by=actor,
        actor=actor,
        id=COMMAND,  # aggregate and version are its identity: no id need be made, only stored
        correlation_id=COMMAND,
        causation_id=COMMAND,
    )


@contextmanager
def _opened(environment: dict[str, str]) -> Iterator[Peer]:
    factory: InfrastructureFactory[Any] = InfrastructureFactory.construct(environment)
    transcoder = JSONTranscoder()
    transcoder.register(DatetimeAsISO())
    try:
        yield factory.event_store(mapper=factory.mapper(transcoder=transcoder))
    finally:
        factory.close()


@contextmanager
def sqlite() -> Iterator[Peer]:
    """In a file; write-ahead log and full sync are what it uses."""
    with scratch() as folder:
        path = str(folder / "peer.db")
        with _opened({"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": path}) as peer:
            yield peer


@contextmanager
def postgres(server: PostgresServer) -> Iterator[Peer]:
    """In a new database of `server`; functions in the database are its fastest mode."""
    name = server.create()
    address = urlsplit(server.url(name))
    try:
        with _opened(
            {
                "PERSISTENCE_MODULE": "eventsourcing.postgres",
                "POSTGRES_DBNAME": name,
                "POSTGRES_HOST": str(address.hostname),
                "POSTGRES_PORT": str(address.port),
                "POSTGRES_USER": str(address.username),
                "POSTGRES_PASSWORD": str(address.password),
                "POSTGRES_ENABLE_DB_FUNCTIONS": "y",
            }
        ) as peer:
            yield peer
    finally:
        server.drop(name)
