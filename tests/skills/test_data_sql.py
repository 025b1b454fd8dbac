"""Tables of SQLite files: read as they are, never written to, and refused by name."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from agents.skill import InputError, LimitError
from agents.skills.data import database
from agents.skills.data.loading import load
from schemas.ticket import Ticket
from tests.skills.conftest import DATA, TO_SPLIT
from tests.skills.harness import run_chain

SETUP = """
CREATE TABLE "odd ""name" (a TEXT, y INTEGER);
CREATE VIEW big AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, i AS y FROM n;
CREATE VIEW broken AS SELECT * FROM gone;
CREATE VIEW reds AS SELECT * FROM wines WHERE color_intensity > 3;
CREATE TABLE pictures (y INTEGER, picture BLOB);
INSERT INTO pictures VALUES (1, x'00ff');
CREATE TABLE mixed (a, y INTEGER);
CREATE TABLE empty (a, y);
"""


@pytest.fixture
def cellar(tmp_path: Path) -> Path:
    """A database with the wines, views and odd tables."""
    path = tmp_path / "cellar.db"
    with sqlite3.connect(path) as connection:
        pd.read_csv(DATA / "wine.csv").to_sql("wines", connection, index=False)
        connection.executescript(SETUP)
        connection.executemany("INSERT INTO mixed VALUES (?, ?)", [(n if n % 2 else f"x{n}", n % 3) for n in range(60)])
    connection.close()
    return tmp_path


def ticket(data: str, **more: Any) -> Ticket:
    return Ticket(**{"id": 1, "title": "Wines", "data": data, "target": "cultivar"} | more)


def test_a_table_gives_the_rows_of_the_same_csv_file(cellar: Path) -> None:
    found = load(ticket("sql:cellar.db/wines"), (cellar,), 10**7)
    same = load(ticket("wine.csv"), (DATA,), 10**7)
    pd.testing.assert_frame_equal(found.frame, same.frame)
    assert (found.source.kind, found.source.uri) == ("sqlite", "sql:cellar.db/wines")
    again = load(ticket("sql:cellar.db/wines"), (cellar,), 10**7)
    assert again.source.sha256 == found.source.sha256


def test_the_train_goes_on_from_a_view(cellar: Path, tmp_path: Path) -> None:
    outputs, files = run_chain(TO_SPLIT, ticket("sql:cellar.db/reds"), tmp_path / "work", roots=(cellar,))
    assert outputs["data.source"].summary.startswith("sql:cellar.db/reds: ")
    assert len(pd.read_parquet(files["train.parquet"])) > 30


def test_a_column_of_numbers_and_text_becomes_text(cellar: Path) -> None:
    found = load(ticket("sql:cellar.db/mixed", target="y"), (cellar,), 10**7)
    assert set(found.frame["a"].head(2)) == {"x0", "1"}


def test_nothing_is_written_beside_it(cellar: Path) -> None:
    before = {path.name: path.read_bytes() for path in cellar.iterdir()}
    load(ticket("sql:cellar.db/wines"), (cellar,), 10**7)
    assert {path.name: path.read_bytes() for path in cellar.iterdir()} == before


def test_a_settled_file_in_wal_mode_is_read_and_one_in_use_is_not(cellar: Path) -> None:
    connection = sqlite3.connect(cellar / "cellar.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("INSERT INTO wines SELECT * FROM wines")
    connection.commit()
    with pytest.raises(InputError, match="is being written to"):
        load(ticket("sql:cellar.db/wines"), (cellar,), 10**7)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert load(ticket("sql:cellar.db/wines"), (cellar,), 10**7).source.rows == 2 * 178
    connection.close()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("sql:cellar.db/wine", "did you mean wines"),
        ("sql:cellar.db/sqlite_schema", "has no table or view"),
        ("sql:cellar.db/wines; DROP TABLE wines", "has no table or view"),
        ("sql:cellar.db", "names no table"),
        ("sql:cellar.db/", "names no table"),
        ("sql:gone.db/wines", "does not exist"),
        ("sql:../cellar.db/wines", "outside the allowed roots"),
        ("sql:wine.csv/wines", "no kind of file"),
        ("sql:fake.db/wines", "no SQLite database"),
        ("sql:torn.db/wines", "torn.db"),
        ("sql:cellar.db/broken", "cannot be read: no such table"),
        ("sql:cellar.db/pictures", "binary values"),
        ("sql:cellar.db/empty", "has no rows"),
    ],
)
def test_what_cannot_be_read_is_named(cellar: Path, data: str, words: str) -> None:
    (cellar / "wine.csv").write_text("a,b\n1,2\n", "utf-8")
    (cellar / "fake.db").write_bytes(b"not a database" * 100)
    content = bytearray((cellar / "cellar.db").read_bytes())
    content[200:] = b"\x99" * (len(content) - 200)
    (cellar / "torn.db").write_bytes(content)
    with pytest.raises(InputError) as caught:
        load(ticket(data), (cellar,), 10**7)
    assert words in str(caught.value)


def test_a_view_without_an_end_is_stopped(cellar: Path) -> None:
    with pytest.raises(LimitError, match="more than 100,000 bytes"):
        database.read_table("cellar.db/big", (cellar,), 100_000)
    with pytest.raises(LimitError, match="took over 0 s"):
        database.read_table("cellar.db/big", (cellar,), 10**9, seconds=0.05)
