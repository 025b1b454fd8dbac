"""A batch as one statement: every statement of its own would cost as much as the rows it writes."""

# ruff: noqa: S608 - statements are put together of the words in this file; values never are part of them

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from store.batch import Batch, TimerRow, ViewRow
from store.chain import Head
from store.postgres_link import Cursor, Row
from store.rows import head_row, stream_key

Condition: TypeAlias = tuple[str, list[object]]
"""A query for one truth value called `go`, and its values."""

ALWAYS: Condition = ("SELECT true AS go", [])


@dataclass(frozen=True, slots=True)
class _Part:
    """The same for one row and for many: with an array for each column, a thousand rows cost no more than by COPY,
    which cannot travel with anything else; for a single row plain values cost less. Nothing happens unless `go`."""

    name: str
    one: str
    many: str

    def of(self, rows: Sequence[Row]) -> tuple[str, Sequence[object]]:
        """The part of the statement that does it for `rows` (at least one), and the values for that."""
        if len(rows) == 1:
            return f"{self.name} AS ({self.one})", rows[0]
        return f"{self.name} AS ({self.many})", columns(rows)


def _insert(table: str, names: str, types: Sequence[str], or_else: str = "") -> _Part:
    into = f"INSERT INTO {table} ({names})"
    values, arrays = ", ".join("%b" for _ in types), ", ".join(f"%b::{name}[]" for name in types)
    return _Part(
        f"into_{table}",
        f"{into} SELECT {values} FROM go WHERE go {or_else}",
        f"{into} SELECT rows.* FROM go, unnest({arrays}) AS rows WHERE go {or_else}",
    )


def _delete(table: str, names: Sequence[str]) -> _Part:
    where = f"DELETE FROM {table} USING go WHERE go AND ({', '.join(names)})"
    values, arrays = ", ".join("%b" for _ in names), ", ".join("%b::text[]" for _ in names)
    return _Part(f"out_of_{table}", f"{where} = ({values})", f"{where} IN (SELECT * FROM unnest({arrays}))")


_KEY = ("text", "text", "text")
_EVENTS = _insert(
    "events",
    "position, tenant, kind, stream, sequence, id, raw, hash",
    ("int8", *_KEY, "int8", "text", "bytea", "bytea"),
)
_STREAMS = _insert(
    "streams",
    "tenant, kind, name, version, hash, first_position, last_position",
    (*_KEY, "int8", "bytea", "int8", "int8"),
    "ON CONFLICT (tenant, kind, name) DO UPDATE "
    "SET version = excluded.version, hash = excluded.hash, last_position = excluded.last_position",
)
_INBOX = _insert(
    "inbox",
    "position, command_id, tenant, kind, stream, raw, accepted, verdict",
    ("int8", "text", *_KEY, "bytea", "int4", "text"),
)
_TIMERS = _insert(
    "timers",
    "tenant, kind, stream, key, due, command",
    (*_KEY, "text", "int8", "bytea"),
    "ON CONFLICT (tenant, kind, stream, key) DO UPDATE SET due = excluded.due, command = excluded.command",
)
_VIEWS = _insert(
    "views",
    "tenant, kind, id, body",
    (*_KEY, "text"),
    "ON CONFLICT (tenant, kind, id) DO UPDATE SET body = excluded.body",
)
_CLEAR_TIMERS = _delete("timers", ("tenant", "kind", "stream", "key"))
_REMOVE_VIEWS = _delete("views", ("tenant", "kind", "id"))


def columns(rows: Sequence[Row]) -> list[object]:
    """A list for each column of `rows`."""
    return [list(column) for column in zip(*rows, strict=True)]


def still_so(last_event: int, last_handled: int, heads: Sequence[Head], command_ids: Sequence[str]) -> Condition:
    """Nobody has appended: these are the newest positions and the `heads` of their streams, and none of the commands
    is in the inbox. The positions would do, if nobody ever wrote to the tables by hand."""
    tests = [
        "coalesce((SELECT max(position) FROM events), 0) = %b",
        "coalesce((SELECT max(position) FROM inbox), 0) = %b",
    ]
    values: list[object] = [last_event, last_handled]
    states = [(*stream_key(head.stream), head.version, head.hash) for head in heads]
    names = "(tenant, kind, name, version, hash)"
    if len(states) == 1:
        tests.append(f"EXISTS (SELECT FROM streams WHERE {names} = (%b, %b, %b, %b, %b))")
        values += states[0]
    else:
        arrays = "%b::text[], %b::text[], %b::text[], %b::int8[], %b::bytea[]"
        tests.append(f"%b = (SELECT count(*) FROM streams WHERE {names} IN (SELECT * FROM unnest({arrays})))")
        values += [len(states), *columns(states)]
    if command_ids:
        tests.append("NOT EXISTS (SELECT FROM inbox WHERE command_id = ANY(%b))")
        values.append(list(command_ids))
    return f"SELECT {' AND '.join(tests)} AS go", values


def write(cursor: Cursor, batch: Batch, condition: Condition) -> None:
    """Send one statement that writes all of `batch` if the condition holds; its one row says whether it does.

    The parts of a statement do not see each other's work, so each may touch a row only once: of several words on one
    key the last one goes. A view that is removed and written again is beyond that: see `views_again`.
    """
    cleared, armed = _timers(batch.timers)
    removed, written = _views(batch.views)
    query, values = condition
    parts, values = [f"WITH go AS MATERIALIZED ({query})"], [*values]
    for part, rows in (
        (_EVENTS, batch.events),
        (_STREAMS, list(map(head_row, batch.heads.values()))),
        (_INBOX, batch.inbox),
        (_CLEAR_TIMERS, cleared),
        (_TIMERS, armed),
        (_REMOVE_VIEWS, [key for key in removed if key not in written]),
        (_VIEWS, list(written.values())),
    ):
        if rows:
            text, more = part.of(rows)
            parts.append(text)
            values += more
    cursor.execute(f"{', '.join(parts)} SELECT go FROM go", values)


def views_again(batch: Batch) -> list[Row]:
    """Keys of the views that are to be removed before `write`, which writes them anew: in a new place."""
    removed, written = _views(batch.views)
    return [key for key in removed if key in written]


def remove_views(cursor: Cursor, keys: Sequence[Row]) -> None:
    """Send a statement that removes views."""
    text, values = _REMOVE_VIEWS.of(keys)
    cursor.execute(f"WITH go AS ({ALWAYS[0]}), {text} SELECT go FROM go", values)


def _timers(rows: Sequence[TimerRow]) -> tuple[list[Row], list[Row]]:
    """Keys to disarm, and rows to arm."""
    last = {row[:4]: row for row in rows}
    return [key for key, row in last.items() if row[4] is None], [row for row in last.values() if row[4] is not None]


def _views(rows: Sequence[ViewRow]) -> tuple[set[Row], dict[Row, Row]]:
    """Keys that are removed at some time, and the rows to write, in order."""
    removed: set[Row] = set()
    written: dict[Row, Row] = {}
    for row in rows:
        key = row[:3]
        if row[3] is None:
            removed.add(key)
            written.pop(key, None)
        else:
            written[key] = row
    return removed, written
