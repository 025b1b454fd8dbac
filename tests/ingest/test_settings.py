"""`sources.yaml`: everything that is wrong at once, by line; and secrets, read from where they are and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cli.sources import SourcesError, load_sources, rows
from cli.supervising import environment_of
from ingest.errors import SourceError, told
from ingest.secrets import secrets_of
from ingest.settings import S3Source, Sources, SqlSource

GOOD = """\
sql:
  - name: clinic
    url: postgresql://db.example:5432/clinic
    user: reader
    password_file: secrets/clinic
    items:
      - {name: visits, table: visits, schema_name: public}
      - name: adults
        query: SELECT * FROM patients WHERE age >= 18
    limits: {rows: 1000, seconds: 20}
s3:
  - name: lake
    endpoint: https://s3.example
    bucket: research
    prefix: exports/
    access_key_file: secrets/access
    secret_key_env: VALUETRAIN_SOURCE_LAKE
    items:
      - {name: cells, key: cells.parquet}
      - {name: parts, folder: parts/}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sources.yaml"
    path.write_text(text, "utf-8")
    return path


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(SourcesError) as caught:
        load_sources(written(tmp_path, text))
    return [str(problem) for problem in caught.value.problems]


def test_a_file_says_what_tickets_may_name(tmp_path: Path) -> None:
    sources = load_sources(written(tmp_path, GOOD))
    assert [row["data"] for row in rows(sources)] == [
        "source:clinic/visits", "source:clinic/adults", "source:lake/cells", "source:lake/parts",
    ]  # fmt: skip
    assert rows(sources)[0]["reads"] == "table public.visits"
    assert (sources.sql[0].limits.rows, sources.sql[0].limits.bytes) == (1000, 200_000_000)
    assert load_sources(tmp_path / "none.yaml") == Sources()


def test_all_that_is_wrong_is_told_at_once_by_line(tmp_path: Path) -> None:
    text = GOOD.replace("user: reader", "usr: reader").replace("rows: 1000", "rows: many").replace("bucket:", "buckt:")
    found = problems(tmp_path, text)
    assert "line 4: `sql[1].usr` is no known field; did you mean `user`?" in found
    assert any(each.startswith("line 10: `sql[1].limits.rows` is 'many'") for each in found)
    assert any("line 14: `s3[1].buckt` is no known field; did you mean `bucket`?" in each for each in found)
    assert any("`s3[1].bucket` is missing" in each for each in found)


def sql(**changes: Any) -> SqlSource:
    fields: dict[str, Any] = {
        "name": "clinic", "url": "postgresql://db.example/clinic", "user": "reader",
        "items": [{"name": "it", "table": "t"}],
    }  # fmt: skip
    return SqlSource.model_validate({k: v for k, v in (fields | changes).items() if v is not None})


def s3(**changes: Any) -> S3Source:
    fields: dict[str, Any] = {
        "name": "lake", "endpoint": "https://s3.example", "bucket": "research", "access_key_file": "a",
        "secret_key_file": "b", "items": [{"name": "it", "key": "cells.csv"}],
    }  # fmt: skip
    return S3Source.model_validate({k: v for k, v in (fields | changes).items() if v is not None})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "postgresql://reader:pw@db.example/clinic"}, "must hold no user and no password"),
        ({"url": "postgresql://db.example/clinic?sslmode=disable"}, "nothing after `?`"),
        ({"url": "oracle://db.example/clinic"}, "must begin with postgresql://"),
        ({"url": "postgresql+asyncpg://db.example/clinic"}, "must begin with postgresql://"),
        ({"url": "postgresql://db.example"}, "no host or no database"),
        ({"url": "postgresql://db.example:port/clinic"}, "is no URL"),
        ({"url": "sqlite://"}, "names no file"),
        ({"url": "sqlite:///data/x.db"}, "which has no login"),
        ({"user": None}, "`user` is missing"),
        ({"password_env": "PATH"}, "String should match pattern"),
        ({"password_env": "VALUETRAIN_SOURCE_X", "password_file": "x"}, "not from both"),
        ({"tls": "none", "tls_ca": "ca.pem"}, "leave one out"),
        ({"items": []}, "at least 1 item"),
        ({"items": [{"name": "it"}]}, "name a `table`"),
        ({"items": [{"name": "it", "table": "t", "query": "SELECT 1"}]}, "and not both"),
        ({"items": [{"name": "it", "table": "t"}, {"name": "it", "table": "u"}]}, "given twice"),
        ({"name": "a/b"}, "String should match pattern"),
    ],
)
def test_a_database_that_is_described_wrongly(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        sql(**changes)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"endpoint": "http://s3.example"}, "must begin with https://"),
        ({"endpoint": "https://key:secret@s3.example"}, "no user and no password"),
        ({"endpoint": "https://s3.example/bucket"}, "hold no path"),
        ({"endpoint": "ftp://s3.example"}, "must be like https://"),
        ({"access_key_file": None}, "`access_key_file` is missing"),
        ({"secret_key_env": "VALUETRAIN_SOURCE_X"}, "leave one out"),
        ({"bucket": "../etc"}, "String should match pattern"),
        ({"items": [{"name": "it", "key": "cells"}]}, "say which `format`"),
        ({"items": [{"name": "it", "folder": "parts"}]}, "String should match pattern"),
        ({"items": [{"name": "it", "folder": "parts/", "format": "csv"}]}, "holds Parquet"),
    ],
)
def test_a_bucket_that_is_described_wrongly(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        s3(**changes)
    assert said in str(caught.value)


@pytest.mark.parametrize(("url", "tls", "verified"), [
    ("postgresql://db.example/x", None, True), ("postgresql://db.example/x", "none", False),
    ("postgresql://127.0.0.1/x", None, False), ("postgresql://localhost/x", "verify", True),
    ("postgresql://127.0.0.1.example/x", None, True), ("mysql://[::1]/x", None, False),
])  # fmt: skip
def test_what_leaves_the_machine_is_encrypted_unless_said(url: str, tls: str | None, verified: bool) -> None:
    assert sql(url=url, tls=tls).verified is verified
    assert s3(endpoint="http://s3.example", plain_http=True).endpoint == "http://s3.example"
    assert s3(endpoint="http://127.0.0.1:9000").endpoint == "http://127.0.0.1:9000"


@pytest.mark.parametrize(("target", "said"), [
    ("clinc/visits", "there is no source 'clinc'; did you mean clinic?"),
    ("clinic/visit", "source clinic has no item 'visit'; did you mean visits?"),
    ("clinic", "source:clinic names no item; its items are visits, adults"),
    ("clinic/../lake", "has no item '../lake'"),
    ("clinic/visits; DROP TABLE x", "has no item 'visits; DROP TABLE x'"),
])  # fmt: skip
def test_a_ticket_names_what_is_there_and_nothing_else(tmp_path: Path, target: str, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        load_sources(written(tmp_path, GOOD)).find(target)
    assert said in str(caught.value)


def test_secrets_come_from_files_of_ones_own_or_the_environment(tmp_path: Path) -> None:
    secret = tmp_path / "pw"
    secret.write_text("geheim-1\n")
    secret.chmod(0o600)
    assert secrets_of(sql(password_file="pw"), tmp_path, {}) == {"password": "geheim-1"}
    assert secrets_of(sql(), tmp_path, {}) == {}
    bucket = s3(access_key_file="pw", secret_key_file=None, secret_key_env="VALUETRAIN_SOURCE_LAKE")
    found = secrets_of(bucket, tmp_path, {"VALUETRAIN_SOURCE_LAKE": "geheim-2"})
    assert found == {"access_key": "geheim-1", "secret_key": "geheim-2"}
    for mode in (0o640, 0o604):
        secret.chmod(mode)
        with pytest.raises(SourceError, match="can be read by others; run: chmod 600"):
            secrets_of(sql(password_file="pw"), tmp_path, {})


@pytest.mark.parametrize(("content", "said"), [
    (None, "cannot be read: No such file"), (b"", "is empty"), (b"\n", "is empty"), (b"geheim\x00", "control"),
    (b"geheim-1\ngeheim-2\n", "control"), (b"\xff\xfe", "it is not text"),
])  # fmt: skip
def test_a_file_that_holds_no_secret(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "pw").touch(mode=0o600)
        (tmp_path / "pw").write_bytes(content)
    with pytest.raises(SourceError) as caught:
        secrets_of(sql(password_file="pw"), tmp_path, {})
    assert said in str(caught.value)
    assert "geheim" not in str(caught.value)
    with pytest.raises(SourceError, match="VALUETRAIN_SOURCE_X is not set"):
        secrets_of(sql(password_env="VALUETRAIN_SOURCE_X"), tmp_path, {})


def test_only_who_has_sources_read_is_started_with_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VALUETRAIN_SOURCE_CLINIC", "geheim")
    for kind in ("effects", "autopilot"):
        assert environment_of(kind)["VALUETRAIN_SOURCE_CLINIC"] == "geheim"
    for kind in ("conductor", "agent", "gateway", "chatops"):
        assert "geheim" not in environment_of(kind).values()


def test_what_a_server_says_is_told_short_and_without_secrets() -> None:
    said = told("FATAL: no 'pw-1' \x1b[31m for pw-1\nDETAIL: more", ["pw-1", ""])
    assert said == "FATAL: no '[secret]' ?[31m for [secret]"
    assert len(told("x" * 10_000)) == 400
