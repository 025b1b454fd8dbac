"""Rows of real databases: types, limits, refusals, and what a login of a database's owner cannot be made to do."""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest import sql
from ingest.errors import SourceError
from ingest.settings import SqlSource
from tests.ingest.conftest import PASSWORD
from tests.store.postgres_server import PostgresServer

Make = Callable[..., SqlSource]
LOGIN = {"password": PASSWORD}


def read(source: SqlSource, out: Path, secrets: dict[str, str] = LOGIN) -> pa.Table:
    path = out / "rows"
    rows, columns = sql.read(source, source.items[0], secrets, path, out)
    table = pq.read_table(path)
    assert (rows, columns) == table.shape
    return table


def refused(source: SqlSource, out: Path, secrets: dict[str, str] = LOGIN) -> SourceError:
    with pytest.raises(SourceError) as caught:
        read(source, out, secrets)
    assert not (out / "rows").exists()
    assert not any(secret in str(caught.value) for secret in secrets.values())
    return caught.value


def test_every_kind_of_value_keeps_its_type(clinic: Make, tmp_path: Path) -> None:
    table = read(clinic("kinds"), tmp_path)
    first, second = table.to_pylist()
    assert set(second.values()) == {None}
    assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
        "small": "int16", "whole": "int32", "big": "int64", "real4": "float", "real8": "double",
        "price": "decimal128(10, 3)", "free": "decimal128(25, 5)", "yes": "bool", "day": "date32[day]",
        "at": "timestamp[us]", "at_zone": "timestamp[us, tz=UTC]", "clock": "time64[us]", "note": "string",
        "code": "string", "raw": "binary", "id": "string", "doc": "string", "list": "string", "feeling": "string",
        "lasts": "duration[us]", "nothing": "int32", "nothing_text": "string",
    }  # fmt: skip
    assert first["big"] == 2**53 + 1
    assert first["price"] == decimal.Decimal("1234567.891")
    assert first["free"] == decimal.Decimal("12345678901234567890.12345")
    assert first["at_zone"] == dt.datetime(2026, 11, 21, 7, 30, tzinfo=dt.UTC)
    assert (first["day"], first["clock"]) == (dt.date(2026, 11, 21), dt.time(9, 30, 15))
    assert (first["note"], first["raw"], first["lasts"]) == ("Straße", b"\x00\xff", dt.timedelta(minutes=90))
    assert (first["doc"], first["list"], first["feeling"]) == ('{"a": "x", "b": [1, 2]}', "[1, 2]", "glad")
    assert first["id"] == "6f9619ff-8b86-d011-b42d-00c04fc964ff"


def test_numbers_that_are_none_stay_so(clinic: Make, tmp_path: Path) -> None:
    table = read(clinic("notes"), tmp_path)
    assert [str(kind) for kind in table.schema.types] == ["double", "double"]
    assert table.column("b").to_pylist()[1] == 2.5
    assert table.column("b").to_pylist()[0] != table.column("b").to_pylist()[0]


def test_hostile_names_are_names(clinic: Make, postgres: PostgresServer, tmp_path: Path) -> None:
    table = read(clinic('vis"its; DROP TABLE kinds; --'), tmp_path)
    assert table.num_rows == 40
    assert postgres.run("SELECT count(*) FROM kinds", "record_1") == [(2,)]
    odd = read(clinic("odd"), tmp_path)
    assert odd.column_names == ["=cmd|' /C calc'!A0", "<script>", "100%%s %(x)s", 'a "quoted" one']
    assert odd.column(0).to_pylist() == ["=1+1", "@SUM(A1)"]


def test_a_query_is_the_owners_and_holds_signs_of_every_kind(clinic: Make, tmp_path: Path) -> None:
    query = "SELECT a, a % 7 AS rest, ':x %s' AS text FROM many WHERE b LIKE 'x%' AND a < 50;"
    table = read(clinic(query=query), tmp_path)
    assert (table.num_rows, table.column_names) == (49, ["a", "rest", "text"])
    assert table.column("text").to_pylist()[0] == ":x %s"


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO many VALUES (0, 'written') RETURNING a",
        "WITH w AS (INSERT INTO many VALUES (0, 'written') RETURNING a) SELECT a FROM w",
        "SELECT 1; INSERT INTO many VALUES (0, 'written')",
        "COMMIT",
        "SET default_transaction_read_only = off",
    ],
)
def test_nothing_is_written_even_by_a_login_that_may(
    clinic: Make, postgres: PostgresServer, tmp_path: Path, query: str
) -> None:
    refused(clinic(query=query), tmp_path)
    assert postgres.run("SELECT count(*) FROM many WHERE a = 0", "record_1") == [(0,)]


def test_equal_rows_make_equal_bytes(clinic: Make, tmp_path: Path) -> None:
    digests = []
    for _ in range(2):
        read(clinic("many"), tmp_path)
        digests.append(hashlib.sha256((tmp_path / "rows").read_bytes()).hexdigest())
    assert len(set(digests)) == 1


@pytest.mark.parametrize(
    ("table", "limits", "said"),
    [
        ("many", {"rows": 19_999}, "has more than 19,999 rows"),
        ("many", {"bytes": 100_000}, "has more than 100,000 bytes"),
        ("slow", {"seconds": 0.5}, "took longer than 0.5 s"),
        ("empty", {}, "has no rows"),
        ("hidden", {}, "may not be read by reader"),
        ("gone", {}, 'relation "gone" does not exist'),
        ("far", {}, "timestamp too large"),
    ],
)
def test_what_cannot_be_read_is_named(
    clinic: Make, tmp_path: Path, table: str, limits: dict[str, Any], said: str
) -> None:
    problem = refused(clinic(table, limits=limits), tmp_path)
    assert said in str(problem)
    assert str(problem).startswith("clinic/it ")
    assert not problem.away


def test_two_columns_of_one_name_are_refused(clinic: Make, tmp_path: Path) -> None:
    assert "gives two columns the name a; write `AS`" in str(refused(clinic(query="SELECT a, a FROM many"), tmp_path))


def test_a_wrong_password_is_told_without_the_password(clinic: Make, tmp_path: Path) -> None:
    wrong = {"password": "wr0ng-pw-77"}
    problem = refused(clinic("kinds"), tmp_path, wrong)
    assert "refuses the login of reader" in str(problem)
    assert not problem.away
    assert "refuses the login" in str(refused(clinic("kinds"), tmp_path, {}))


def test_a_database_that_is_not_there_is_not_asked_again(
    clinic: Make, postgres: PostgresServer, tmp_path: Path
) -> None:
    source = clinic("kinds", url=f"postgresql://127.0.0.1:{postgres.port}/nowhere")
    problem = refused(source, tmp_path)
    assert "refuses the connection (connection failed: " in str(problem)
    assert 'database "nowhere" does not exist' in str(problem)
    assert not problem.away


def test_a_server_that_is_away_may_be_asked_again(clinic: Make, postgres: PostgresServer, tmp_path: Path) -> None:
    source = clinic("kinds")
    postgres.stop()
    try:
        problem = refused(source, tmp_path)
    finally:
        postgres.start()
    assert problem.away
    assert f"postgresql://127.0.0.1:{postgres.port}/record_1) cannot be reached" in str(problem)


def test_a_server_without_tls_is_not_trusted_when_tls_is_wanted(clinic: Make, tmp_path: Path) -> None:
    problem = refused(clinic("kinds", tls="verify"), tmp_path)
    assert "SSL" in str(problem)
    assert "no verified connection" in str(problem)


def test_the_first_rows_can_be_looked_at(clinic: Make, tmp_path: Path) -> None:
    for table, columns in (("kinds", 22), ("empty", 2)):
        source = clinic(table)
        assert sql.look(source, source.items[0], LOGIN, tmp_path) == columns


def sqlite_source(path: Path, table: str = "t", **changes: Any) -> SqlSource:
    fields: dict[str, Any] = {"name": "files", "url": f"sqlite:///{path}", "items": [{"name": "it", "table": table}]}
    return SqlSource.model_validate(fields | changes)


def make(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as db:
        for statement in statements:
            db.execute(statement)
    db.close()


def test_a_table_of_two_thousand_columns(tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(2000)]
    path = tmp_path / "wide.db"
    make(path, f"CREATE TABLE t ({', '.join(f'{name} REAL' for name in names)})")
    with sqlite3.connect(path) as db:
        for row in range(3):
            db.execute(f"INSERT INTO t VALUES ({', '.join([str(row + 0.5)] * 2000)})")
    db.close()
    table = read(sqlite_source(path), tmp_path, {})
    assert table.shape == (3, 2000)
    assert table.column_names == names


def test_a_sqlite_column_may_change_its_mind(tmp_path: Path) -> None:
    path = tmp_path / "mixed.db"
    make(
        path, "CREATE TABLE t (a, b, c)", "INSERT INTO t VALUES (1, 1, x'00')", "INSERT INTO t VALUES ('x', 2.5, NULL)"
    )
    table = read(sqlite_source(path), tmp_path, {})
    assert table.to_pylist() == [{"a": "1", "b": 1.0, "c": b"\x00"}, {"a": "x", "b": 2.5, "c": None}]
    make(path, "INSERT INTO t VALUES (1, 1, 7)")
    assert "column 'c' of files/it mixes bytes" in str(refused_again(path, tmp_path))


def refused_again(path: Path, out: Path) -> SourceError:
    (out / "rows").unlink()
    return refused(sqlite_source(path), out, {})


def test_columns_agree_over_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole numbers first, then others: one type for all, whatever came in the first batch."""
    monkeypatch.setattr(sql, "_CELLS", 4)
    path = tmp_path / "long.db"
    make(path, "CREATE TABLE t (a, b)", *(f"INSERT INTO t VALUES ({n}, NULL)" for n in range(5)))
    make(path, "INSERT INTO t VALUES (5.5, 'late')")
    table = read(sqlite_source(path), tmp_path, {})
    assert table.column("a").to_pylist() == [0, 1, 2, 3, 4, 5.5]
    assert table.column("b").to_pylist() == [None] * 5 + ["late"]
    make(path, "INSERT INTO t VALUES ('x', 7)")
    table = read(sqlite_source(path), tmp_path, {})
    assert table.column("a").to_pylist() == ["0", "1", "2", "3", "4.0", "5.5", "x"]


def test_a_sqlite_view_that_does_not_end_is_stopped_and_the_file_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "endless.db"
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS i FROM n"
    make(path, f"CREATE VIEW t AS {endless}")
    before = path.read_bytes()
    assert "took longer than 0.3 s" in str(refused(sqlite_source(path, limits={"seconds": 0.3}), tmp_path, {}))
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["endless.db"]


def test_a_sqlite_file_that_is_none(tmp_path: Path) -> None:
    assert "there is no file" in str(refused(sqlite_source(tmp_path / "gone.db"), tmp_path, {}))
    (tmp_path / "text.db").write_text("no database at all, " * 50)
    assert "file is not a database" in str(refused(sqlite_source(tmp_path / "text.db"), tmp_path, {}))


@pytest.mark.parametrize(("scheme", "driver", "said"), [
    ("mysql", "pymysql", "needs the driver pymysql, which is not installed; pip install PyMySQL"),
    ("postgresql", "psycopg", "needs the driver psycopg, which is not installed; pip install 'agenticops"),
])  # fmt: skip
def test_a_driver_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, driver: str, said: str
) -> None:
    monkeypatch.setitem(sys.modules, driver, None)
    item = {"name": "it", "table": "t"}
    fields = {"name": "shop", "url": f"{scheme}://127.0.0.1/db", "user": "u", "items": [item]}
    assert said in str(refused(SqlSource.model_validate(fields), tmp_path))
