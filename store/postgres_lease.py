"""A lease kept by PostgreSQL: an advisory lock that ends with its session, which ends when its client falls silent."""

from __future__ import annotations

import psycopg

from store.port import StoreUnavailable
from store.postgres_link import Connection, PostgresLink, lock_key

IDLE = 10.0
"""Seconds after which the server ends the session of a holder that no longer says anything: its process is suspended,
its machine is gone. A process that just dies is noticed at once."""

_SETTING = "SELECT set_config('idle_session_timeout', %b, false)"
_TRY = "SELECT pg_try_advisory_lock(%b)"
_UNLOCK = "SELECT pg_advisory_unlock(%b)"


class PostgresLease:
    """`store.leader.Lease` on a connection of its own."""

    def __init__(self, link: PostgresLink, name: str) -> None:
        self._link = link
        self._key = lock_key(f"lease {name}", link.schema)
        self._db: Connection | None = None
        self._held = False

    def acquire(self) -> bool:
        """See the port."""
        try:
            if self._held:
                self.renew()
                return True
            if self._db is None:
                self._db = self._link.connect()
                self._db.execute(_SETTING, (f"{1000 * IDLE:.0f}",))
            row = self._db.execute(_TRY, (self._key,)).fetchone()
            self._held = bool(row and row[0])
        except psycopg.Error as problem:
            self._drop()
            raise self._link.translate(problem) from problem
        return self._held

    def renew(self) -> None:
        """See the port. That the session answers means that it has its lock."""
        if self._db is None or not self._held:
            raise StoreUnavailable(f"the lease on the record {self._link.address.where} is not held")
        try:
            self._db.execute("SELECT 1")
        except psycopg.Error as problem:
            self._drop()
            raise self._link.translate(problem) from problem

    def release(self) -> None:
        """See the port."""
        try:
            if self._db is not None and self._held:
                self._db.execute(_UNLOCK, (self._key,))
        except psycopg.Error:
            pass  # then the session has ended, and its lock with it
        finally:
            self._drop()

    def _drop(self) -> None:
        self._held = False
        if self._db is not None:
            self._db.close()
            self._db = None
