"""A real PostgreSQL with tables of every kind, a SQLite file, and an object store; and how sources name them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ingest.settings import S3Source, SqlSource
from tests.s3_server.server import S3Server
from tests.store.postgres_server import PostgresServer

PASSWORD = "pw-9f1c-geheim"
ACCESS, SECRET = "AKIDTESTTESTTEST", "s3cr3t/Key+With=Signs"

SETUP = f"""
CREATE USER reader PASSWORD '{PASSWORD}';
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TABLE kinds (
    small smallint, whole integer, big bigint, real4 real, real8 double precision, price numeric(12, 3), free numeric,
    yes boolean, day date, at timestamp, at_zone timestamptz, clock time, note text, code char(4), raw bytea, id uuid,
    doc jsonb, list integer[], feeling mood, lasts interval, nothing integer, nothing_text text
);
INSERT INTO kinds VALUES
    (1, 2, 9007199254740993, 1.5, 0.1, 1234567.891, 12345678901234567890.12345, true, '2026-11-21', '2026-11-21 09:30',
     '2026-11-21 09:30+02', '09:30:15', 'Straße', 'ab', '\\x00ff', '6f9619ff-8b86-d011-b42d-00c04fc964ff',
     '{{"b": [1, 2], "a": "x"}}', '{{1,2}}', 'glad', '90 minutes', NULL, NULL),
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
     NULL, NULL, NULL);
CREATE TABLE odd ("=cmd|' /C calc'!A0" text, "<script>" integer, "100%%s %(x)s" integer, "a ""quoted"" one" integer);
INSERT INTO odd VALUES ('=1+1', 1, 2, 3), ('@SUM(A1)', 4, 5, 6);
CREATE TABLE "vis""its; DROP TABLE kinds; --" (a integer, b integer);
INSERT INTO "vis""its; DROP TABLE kinds; --" SELECT n, n * 2 FROM generate_series(1, 40) n;
CREATE TABLE empty (a integer, b text);
CREATE TABLE many (a integer, b text);
INSERT INTO many SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n;
CREATE TABLE notes (a double precision, b numeric);
INSERT INTO notes VALUES ('NaN', 'NaN'), (1.5, 2.5);
CREATE TABLE far (at timestamp);
INSERT INTO far VALUES ('infinity');
CREATE TABLE hidden (a integer);
CREATE VIEW slow AS SELECT n, pg_sleep(0.05)::text FROM generate_series(1, 1000) n;
GRANT SELECT ON kinds, odd, "vis""its; DROP TABLE kinds; --", empty, many, notes, far, slow TO reader;
GRANT INSERT ON many TO reader;
"""


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server of the test's own, which tests may stop and must start again."""
    server = PostgresServer()
    try:
        server.create()
        with psycopg.connect(server.url("record_1"), autocommit=True) as db:
            db.execute(SETUP.encode())
        yield server
    finally:
        server.close()


@pytest.fixture
def clinic(postgres: PostgresServer) -> Callable[..., SqlSource]:
    """A source on that server with one item; `changes` are other fields of the source."""

    def make(table: str | None = None, query: str | None = None, **changes: Any) -> SqlSource:
        item = {"name": "it", **({"table": table} if table else {}), **({"query": query} if query else {})}
        fields = {"name": "clinic", "url": f"postgresql://127.0.0.1:{postgres.port}/record_1", "user": "reader"}
        return SqlSource.model_validate({**fields, "items": [item], **changes})

    return make


@pytest.fixture
def store() -> Iterator[S3Server]:
    """An object store with a bucket."""
    with S3Server(ACCESS, SECRET, objects={("research", "readme.txt"): b"hello"}) as server:
        yield server


@pytest.fixture
def lake(store: S3Server) -> Callable[..., S3Source]:
    """A source in that store with one item."""

    def make(key: str | None = None, folder: str | None = None, **changes: Any) -> S3Source:
        item = {"name": "it", **({"key": key} if key else {}), **({"folder": folder} if folder else {})}
        fields: dict[str, Any] = {
            "name": "lake", "endpoint": store.url, "region": store.region, "bucket": "research",
            "access_key_file": Path("access"), "secret_key_file": Path("secret"), "items": [item],
        }  # fmt: skip
        return S3Source.model_validate(fields | changes)

    return make
