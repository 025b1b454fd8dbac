"""Rows of a database's table, view or query, in one transaction that cannot write.

SQLAlchemy speaks to PostgreSQL (psycopg), MySQL (PyMySQL, if it is installed) and SQLite files. What is read is what
the source's owner wrote down; nothing of a ticket is ever part of a statement.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pyarrow as pa
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from ingest.arrow import Columns, write
from ingest.errors import SourceError, told
from ingest.settings import SqlItem, SqlSource

CONNECT_SECONDS = 10
_CELLS = 200_000
"""Values that are fetched at once: what a batch takes in memory, whatever the number of columns."""

_SOON = ("starting up", "shutting down", "in recovery", "too many", "reserved for")
"""What PostgreSQL says when another try may do."""

_POSTGRESQL: dict[int, pa.DataType] = {
    16: pa.bool_(), 17: pa.binary(), 18: pa.string(), 19: pa.string(), 20: pa.int64(), 21: pa.int16(), 23: pa.int32(),
    25: pa.string(), 700: pa.float32(), 701: pa.float64(), 1042: pa.string(), 1043: pa.string(), 1082: pa.date32(),
    1083: pa.time64("us"), 1114: pa.timestamp("us"), 1184: pa.timestamp("us", tz="UTC"),
}  # fmt: skip
"""PostgreSQL's types by number, as far as they are the same in every database of the kind."""


def read(source: SqlSource, item: SqlItem, secrets: dict[str, str], out: Path, base: Path) -> tuple[int, int]:
    """Write the item's rows to the Parquet file `out`; how many rows and columns. Relative paths are below `base`.

    Raises SourceError: unreachable, login refused, no such table, no rows, beyond a limit.
    """
    shown, limits = f"{source.name}/{item.name}", source.limits
    ends = time.monotonic() + limits.seconds
    with _cursor(source, item, secrets, base, ends) as (columns, batches):
        for rows in batches:
            columns.add(rows)
            if columns.rows > limits.rows:
                raise SourceError(f"{shown} has more than {limits.rows:,} rows", "read fewer, or raise `limits.rows`")
            if columns.bytes > limits.bytes:
                what = f"{shown} has more than {limits.bytes:,} bytes"
                raise SourceError(what, "read fewer columns or rows, or raise `limits.bytes`")
            if time.monotonic() > ends:
                raise _too_slow(shown, limits.seconds)
    if not columns.rows:
        raise SourceError(f"{shown} has no rows", "name a table or query that gives some")
    table = columns.table()
    write(table, out)
    return columns.rows, table.num_columns


def look(source: SqlSource, item: SqlItem, secrets: dict[str, str], base: Path) -> int:
    """Read the item's first rows and forget them; how many columns it has. Raises SourceError as `read`."""
    with _cursor(source, item, secrets, base, time.monotonic() + source.limits.seconds) as (columns, batches):
        columns.add(next(batches, []))
        return int(columns.table().num_columns)


@contextmanager
def _cursor(
    source: SqlSource, item: SqlItem, secrets: dict[str, str], base: Path, ends: float
) -> Iterator[tuple[Columns, Iterator[list[Any]]]]:
    shown = f"{source.name}/{item.name}"
    hidden = tuple(secrets.values())
    engine = _engine(source, secrets, base, ends)
    try:
        with _connected(engine, source, hidden) as connection:
            try:
                result = connection.execution_options(stream_results=True, no_parameters=True).exec_driver_sql(
                    _statement(source, item)
                )
                described: Any = result.cursor.description if result.returns_rows else None
                if not described:
                    raise SourceError(f"{shown} gives no rows", "name a table, or a query that begins with SELECT")
                known = _POSTGRESQL if source.database == "postgresql" else {}
                columns = Columns(shown, [str(c[0]) for c in described], [known.get(c[1]) for c in described])
                batch = max(1, _CELLS // len(described))
                yield columns, iter(lambda: [tuple(row) for row in result.fetchmany(batch)], [])
            except (SQLAlchemyError, sqlite3.Error) as problem:
                raise _unreadable(problem, shown, source, hidden) from None
            except (OverflowError, ValueError, UnicodeDecodeError) as problem:
                what = f"{shown} holds a value that cannot be read ({told(problem, hidden)})"
                raise SourceError(what, "cast the column to text in a query, or leave it out") from None
    finally:
        engine.dispose()


def _statement(source: SqlSource, item: SqlItem) -> str:
    if item.query is not None:
        return item.query.strip().rstrip(";")
    names = [name for name in (item.schema_name, item.table) if name is not None]
    mark = "`" if source.database == "mysql" else '"'
    quoted = ".".join(mark + name.replace(mark, 2 * mark) + mark for name in names)
    return f"SELECT * FROM {quoted}"  # noqa: S608  # a name that the source's owner wrote, quoted


def _engine(source: SqlSource, secrets: dict[str, str], base: Path, ends: float) -> Engine:
    """How to connect. Raises SourceError when the driver is not installed."""
    options: dict[str, Any] = {"poolclass": NullPool, "hide_parameters": True}
    if source.database == "sqlite":
        return _sqlite(source, base, ends, options)
    parts = urlsplit(source.url)
    driver = {"postgresql": "psycopg", "mysql": "pymysql"}[source.database]
    try:
        importlib.import_module(driver)
    except ImportError:
        extra = "pip install 'agenticops-value-train[postgres]'" if driver == "psycopg" else "pip install PyMySQL"
        what = f"source {source.name} needs the driver {driver}, which is not installed"
        raise SourceError(what, f"{extra} where the effect executor runs") from None
    url = URL.create(
        f"{source.database}+{driver}",
        username=source.user,
        password=secrets.get("password"),
        host=parts.hostname,
        port=parts.port,
        database=unquote(parts.path[1:]),
    )
    if driver == "psycopg":
        options |= {"isolation_level": "REPEATABLE READ", "execution_options": {"postgresql_readonly": True}}
        return create_engine(url, connect_args=_libpq(source, base), **options)
    engine = create_engine(url, connect_args=_pymysql(source, base), **options)
    event.listen(engine, "begin", lambda connection: _mysql_begins(connection, source.limits.seconds))
    return engine


def _libpq(source: SqlSource, base: Path) -> dict[str, Any]:
    """Settings of a PostgreSQL connection: nothing is taken from files of whoever runs this."""
    settings = {
        "statement_timeout": int(source.limits.seconds * 1000),
        "idle_in_transaction_session_timeout": int(source.limits.seconds * 1000) + 60_000,
        "TimeZone": "UTC",
        "default_transaction_read_only": "on",
        "synchronize_seqscans": "off",  # so that an unchanged table comes in the same order
        "max_parallel_workers_per_gather": 0,
    }
    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "value-train",
        "passfile": os.devnull,
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        "sslmode": "disable",
    }
    if source.verified:
        arguments |= {"sslmode": "verify-full", "sslrootcert": str(_trusted(source, base) or "system")}
    return arguments


def _pymysql(source: SqlSource, base: Path) -> dict[str, Any]:
    limit = int(source.limits.seconds)
    arguments: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "read_timeout": limit, "charset": "utf8mb4"}
    arguments |= {"local_infile": False, "init_command": "SET time_zone = '+00:00'"}
    if source.verified:
        arguments["ssl"] = ssl.create_default_context(cafile=_trusted(source, base))
    return arguments | ({} if source.verified else {"ssl_disabled": True})


def _mysql_begins(connection: Connection, seconds: float) -> None:
    connection.exec_driver_sql(f"SET SESSION max_execution_time = {int(seconds * 1000)}")
    connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")


def _trusted(source: SqlSource, base: Path) -> str | None:
    """The certificates to trust: the source's, else this machine's."""
    return str(base / source.tls_ca) if source.tls_ca is not None else ssl.get_default_verify_paths().cafile


def _sqlite(source: SqlSource, base: Path, ends: float, options: dict[str, Any]) -> Engine:
    path = base / source.file
    if not path.is_file():
        raise SourceError(f"source {source.name}: there is no file {path}", "correct its `url` in sources.yaml")

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=CONNECT_SECONDS)
        for pragma in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.set_progress_handler(lambda: time.monotonic() > ends, 100_000)
        return connection

    return create_engine("sqlite://", creator=connect, **options)


@contextmanager
def _connected(engine: Engine, source: SqlSource, hidden: tuple[str, ...]) -> Iterator[Connection]:
    try:
        connection = engine.connect()
    except (DBAPIError, sqlite3.Error, OSError) as problem:
        raise _no_connection(problem, source, hidden) from None
    with connection:
        yield connection


def _no_connection(problem: Exception, source: SqlSource, hidden: tuple[str, ...]) -> SourceError:
    cause = getattr(problem, "orig", None) or problem
    said, code = told(cause, hidden), str(getattr(cause, "sqlstate", None) or "")
    mysql = cause.args[0] if cause.args and isinstance(cause.args[0], int) else 0
    where = f"source {source.name} ({source.place})"
    if code.startswith("28") or "authentication failed" in said or "no password supplied" in said or mysql == 1045:
        return SourceError(f"{where} refuses the login of {source.user} ({said})", "check user and password")
    if "certificate" in said or "SSL" in said:
        return SourceError(f"{where}: no verified connection ({said})", "name the right `tls_ca`, or repair the server")
    if source.database == "sqlite":
        return SourceError(f"{where} cannot be opened ({said})", "name a SQLite file that may be read")
    if "FATAL:" in said and not any(word in said for word in _SOON):
        return SourceError(f"{where} refuses the connection ({said})", "check its `url`, and what the server allows")
    return SourceError(f"{where} cannot be reached ({said})", "see that it runs, and try again", away=True)


def _unreadable(problem: Exception, shown: str, source: SqlSource, hidden: tuple[str, ...]) -> SourceError:
    cause = getattr(problem, "orig", None) or problem
    said, code = told(cause, hidden), str(getattr(cause, "sqlstate", None) or "")
    number = cause.args[0] if cause.args and isinstance(cause.args[0], int) else 0
    if code == "57014" or said == "interrupted" or number == 3024:
        return _too_slow(shown, source.limits.seconds)
    if code.startswith(("08", "57P")) or getattr(problem, "connection_invalidated", False) or number in (2006, 2013):
        lost = f"{shown}: the connection was lost ({said})"
        return SourceError(lost, "see that the server runs, and try again", away=True)
    if code == "42501":
        return SourceError(f"{shown} may not be read by {source.user} ({said})", "grant SELECT on it, and on no more")
    return SourceError(f"{shown} cannot be read ({said})", "correct the item in sources.yaml")


def _too_slow(shown: str, seconds: float) -> SourceError:
    return SourceError(f"{shown} took longer than {seconds:g} s", "read less, or raise `limits.seconds`")
