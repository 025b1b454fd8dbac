"""Writing a group commit to SQLite: what `store.batch` collected, in as few statements as the driver is fast with.

A statement with many rows costs the driver half of a statement for each, and a `bytearray` is bound as it is, where
`bytes` are first offered to every adapter that somebody may have registered: a third of an event's time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain, groupby
from typing import Any

from store.batch import Batch, TimerRow, ViewRow
from store.port import StoreCorrupt, StoreError

_AT_ONCE = 16
"""Rows of one statement; more make it no faster."""


def _statements(table: str, columns: int, what: str = "INSERT", end: str = "") -> tuple[str, ...]:
    """To put one row, two, … `_AT_ONCE` into the table."""
    row = f"({', '.join('?' * columns)})"
    return tuple(f"{what} INTO {table} VALUES {', '.join([row] * rows)}{end}" for rows in range(1, _AT_ONCE + 1))


_EVENT_COLUMNS, _HEAD_COLUMNS, _INBOX_COLUMNS, _VIEW_COLUMNS = 8, 7, 8, 4
_INSERT_EVENTS = _statements("events", _EVENT_COLUMNS)
_SET_HEADS = _statements(
    "streams",
    _HEAD_COLUMNS,
    end=" ON CONFLICT (tenant, kind, name) DO UPDATE"
    " SET version = excluded.version, hash = excluded.hash, last_position = excluded.last_position",
)
_INSERT_INBOX = _statements("inbox", _INBOX_COLUMNS)
_SET_TIMER = """INSERT INTO timers VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (tenant, kind, stream, key) DO UPDATE SET due = excluded.due, command = excluded.command"""
_CLEAR_TIMER = "DELETE FROM timers WHERE tenant = ? AND kind = ? AND stream = ? AND key = ?"
_SET_VIEWS = _statements(
    "views (tenant, kind, id, body)",
    _VIEW_COLUMNS,
    end=" ON CONFLICT (tenant, kind, id) DO UPDATE SET body = excluded.body",
)
_REMOVE_VIEW = "DELETE FROM views WHERE tenant = ? AND kind = ? AND id = ?"


def write(db: sqlite3.Connection, batch: Batch) -> None:
    """Write all of `batch` in the transaction that is open. Raises StoreError for an event id that is stored already,
    StoreCorrupt when what the heads say does not fit, and the driver's errors."""
    try:
        insert_events(db, batch)
    except sqlite3.IntegrityError as problem:
        if "events.id" in str(problem):
            raise StoreError(
                f"an event with the same id is stored already ({problem}): every event needs its own"
            ) from problem
        raise StoreCorrupt(f"the stream heads do not fit the events ({problem}): verify the record") from problem
    if batch.heads:
        values: list[Any] = []
        for at, version, hash_, first, last in batch.heads.values():
            values += (at.tenant, at.kind, at.name, version, bytearray(hash_), first, last)
        _put(db, _SET_HEADS, _HEAD_COLUMNS, values)
    if batch.inbox:
        values = []
        for position, command, tenant, kind, stream, raw, accepted, verdict in batch.inbox:
            values += (position, command, tenant, kind, stream, bytearray(raw), accepted, verdict)
        _put(db, _INSERT_INBOX, _INBOX_COLUMNS, values)
    if batch.timers or batch.views:
        _write_rest(db, batch)


def _write_rest(db: sqlite3.Connection, batch: Batch) -> None:
    """Setting and clearing may alternate for one key, so only neighbours of the same sort may go together."""
    for cleared, timers in groupby(batch.timers, _is_cleared):
        db.executemany(_CLEAR_TIMER if cleared else _SET_TIMER, (row[:4] if cleared else row for row in timers))
    for removed, views in groupby(batch.views, _is_removed):
        if removed:
            db.executemany(_REMOVE_VIEW, (row[:3] for row in views))
        else:
            _put(db, _SET_VIEWS, _VIEW_COLUMNS, list(chain.from_iterable(views)))


def insert_events(db: sqlite3.Connection, batch: Batch) -> None:
    """The first part of `write`. Raises the driver's errors."""
    values: list[Any] = []
    for position, tenant, kind, stream, sequence, id_, raw, hash_ in batch.events:
        values += (position, tenant, kind, stream, sequence, id_, bytearray(raw), bytearray(hash_))
    _put(db, _INSERT_EVENTS, _EVENT_COLUMNS, values)


def _put(db: sqlite3.Connection, statements: Sequence[str], columns: int, values: list[Any]) -> None:
    """The rows whose `values` follow each other."""
    most = columns * _AT_ONCE
    if 0 < len(values) <= most:
        db.execute(statements[len(values) // columns - 1], values)
        return
    for start in range(0, len(values), most):
        some = values[start : start + most]
        db.execute(statements[len(some) // columns - 1], some)


def _is_cleared(row: TimerRow) -> bool:
    return row[4] is None


def _is_removed(row: ViewRow) -> bool:
    return row[3] is None
