"""Objects of a store whose signatures are really checked: by its stand-in here, which a real client agrees with."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from ingest import s3
from ingest.errors import SourceError
from ingest.settings import S3Source
from ingest.signature import Keys, signed
from tests.bus.certificates import authority
from tests.ingest.conftest import ACCESS, SECRET
from tests.s3_server.server import S3Server, etag

Make = Callable[..., S3Source]
KEYS = {"access_key": ACCESS, "secret_key": SECRET}
CSV = b'id,note\r\n1,"two\nlines, one row"\r\n2,plain\r\n\r\n3,=1+1\r\n'


def parquet(*numbers: int, name: str = "n") -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({name: list(numbers), "text": [f"row {n}" for n in numbers]}), out)
    return out.getvalue()


def read(source: S3Source, out: Path, secrets: dict[str, str] = KEYS) -> s3.Read:
    return s3.read(source, source.items[0], secrets, out / "rows", out)


def refused(source: S3Source, out: Path, secrets: dict[str, str] = KEYS) -> SourceError:
    with pytest.raises(SourceError) as caught:
        read(source, out, secrets)
    assert not any(secret in str(caught.value) for secret in secrets.values())
    return caught.value


@pytest.mark.parametrize(
    ("path", "query", "headers", "signature"),
    [
        ("/test.txt", [], {"range": "bytes=0-9"}, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
        ("/", [("lifecycle", "")], {}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "/", [("max-keys", "2"), ("prefix", "J")], {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)  # fmt: skip
def test_the_published_examples_are_signed_as_published(
    path: str, query: list[tuple[str, str]], headers: dict[str, str], signature: str
) -> None:
    """From "Signature Calculations for the Authorization Header" of the service's documentation."""
    keys = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    every = {"host": "examplebucket.s3.amazonaws.com", **headers}
    sent = signed("GET", path, query, every, keys, "us-east-1", datetime(2013, 5, 24, tzinfo=UTC))
    assert sent["authorization"].endswith(f"Signature={signature}")
    assert "wJalr" not in repr(keys) + str(sent)


def test_the_stand_in_takes_what_a_real_client_signs(store: S3Server) -> None:
    """The AWS SDK inside pyarrow signs, lists, asks for sizes and reads by range."""
    store.objects["research", "exports/a b+c/ü.parquet"] = content = parquet(1, 2, 3)
    system = fs.S3FileSystem(
        access_key=ACCESS, secret_key=SECRET, region=store.region, endpoint_override=store.host, scheme="http"
    )
    found = system.get_file_info(fs.FileSelector("research/exports/a b+c"))
    assert [each.path for each in found] == ["research/exports/a b+c/ü.parquet"]
    assert pq.read_table("research/exports/a b+c/ü.parquet", filesystem=system).num_rows == 3
    assert store.ranges
    assert system.get_file_info("research/exports/a b+c/ü.parquet").size == len(content)
    other = fs.S3FileSystem(
        access_key=ACCESS, secret_key="wrong", region=store.region, endpoint_override=store.host, scheme="http"
    )
    with pytest.raises(OSError, match="SIGNATURE_DOES_NOT_MATCH"):
        other.get_file_info(fs.FileSelector("research/exports"))


@pytest.mark.parametrize("spoil", [
    {"authorization": ""},
    {"x-amz-date": "20261121T000000Z"},
    {"host": "another.example"},
    {"range": "bytes=0-1"},
    {"x-amz-content-sha256": hashlib.sha256(b"x").hexdigest()},
])  # fmt: skip
def test_the_stand_in_refuses_what_was_changed_on_the_way(store: S3Server, spoil: dict[str, str]) -> None:
    """Whoever changes a request has no signature for it."""
    headers = {"host": store.host, "range": "bytes=0-9"}
    good = signed("GET", "/research/readme.txt", (), headers, Keys(ACCESS, SECRET), store.region, datetime.now(UTC))
    store.checked("GET", "/research/readme.txt", good)
    with pytest.raises(Exception, match=r"AccessDenied|SignatureDoesNotMatch|RequestTimeTooSkewed|Mismatch"):
        store.checked("GET", "/research/readme.txt", {k: v for k, v in (good | spoil).items() if v})
    with pytest.raises(Exception, match="SignatureDoesNotMatch"):
        store.checked("GET", "/research/other.txt", good)


def test_a_csv_object_is_stored_as_it_is(store: S3Server, lake: Make, tmp_path: Path) -> None:
    store.objects["research", "exports/visits 2026+x=ü.csv"] = CSV
    found = read(lake("visits 2026+x=ü.csv", prefix="exports/"), tmp_path)
    assert (tmp_path / "rows").read_bytes() == CSV
    assert (found.rows, found.columns, found.version) == (3, 2, etag(CSV).strip('"'))


def test_a_parquet_object_is_stored_as_it_is(store: S3Server, lake: Make, tmp_path: Path) -> None:
    store.objects["research", "cells.parquet"] = content = parquet(1, 2, 3)
    found = read(lake("cells.parquet"), tmp_path)
    assert (tmp_path / "rows").read_bytes() == content
    assert (found.rows, found.columns) == (3, 2)


def test_the_objects_of_a_folder_are_one_table(store: S3Server, lake: Make, tmp_path: Path) -> None:
    store.page = 2
    for number in range(5):
        store.objects["research", f"visits/part-{number}.parquet"] = parquet(number, number + 10)
    store.objects["research", "visits/_SUCCESS"] = b""
    store.objects["research", "visits/readme.md"] = b"no rows"
    store.objects["research", "visits-old/part-9.parquet"] = parquet(99)
    found = read(lake(folder="visits/"), tmp_path)
    assert (found.rows, found.columns) == (10, 2)
    table = pq.read_table(tmp_path / "rows")
    assert table.column("n").to_pylist() == [0, 10, 1, 11, 2, 12, 3, 13, 4, 14]
    first = (tmp_path / "rows").read_bytes()
    read(lake(folder="visits/"), tmp_path)
    assert (tmp_path / "rows").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]


def test_a_part_with_other_columns_is_named(store: S3Server, lake: Make, tmp_path: Path) -> None:
    store.objects["research", "visits/a.parquet"] = parquet(1)
    store.objects["research", "visits/b.parquet"] = parquet(1, name="other")
    assert "lake: visits/b.parquet has other columns" in str(refused(lake(folder="visits/"), tmp_path))
    store.objects["research", "visits/b.parquet"] = b"no parquet"
    assert "visits/b.parquet is no Parquet file" in str(refused(lake(folder="visits/"), tmp_path))


def test_an_object_that_is_replaced_while_it_is_read_is_not_taken(store: S3Server, lake: Make, tmp_path: Path) -> None:
    store.objects["research", "cells.csv"] = CSV

    def replace() -> None:
        store.objects["research", "cells.csv"] = CSV + b"4,new\r\n"

    store.before_get = replace
    problem = refused(lake("cells.csv"), tmp_path)
    assert "cells.csv was replaced while it was read" in str(problem)
    assert problem.away


@pytest.mark.parametrize(
    ("key", "limits", "said"),
    [
        ("cells.csv", {"bytes": 20}, "has 52 bytes, more than the 20"),
        ("cells.csv", {"rows": 2}, "has more than 2 rows"),
        ("header.csv", {}, "has no rows"),
        ("fake.parquet", {}, "lake/it is no Parquet file"),
        ("gone.csv", {}, "there is no gone.csv in research (404"),
        ("secret.csv", {}, "secret.csv may not be read with these keys (403"),
    ],
)
def test_what_cannot_be_read_is_named(
    store: S3Server, lake: Make, tmp_path: Path, key: str, limits: dict[str, Any], said: str
) -> None:
    store.objects |= {
        ("research", "cells.csv"): CSV, ("research", "header.csv"): b"a,b\n", ("research", "fake.parquet"): CSV,
        ("research", "secret.csv"): CSV,
    }  # fmt: skip
    store.forbidden = {"secret.csv"}
    problem = refused(lake(key, limits=limits), tmp_path)
    assert said in str(problem)
    assert not problem.away


def test_wrong_keys_and_a_wrong_clock_are_told_apart(store: S3Server, lake: Make, tmp_path: Path) -> None:
    store.objects["research", "cells.csv"] = CSV
    source = lake(folder="parts/")
    for wrong in ({"access_key": "AKIDOTHER"}, {"secret_key": "another"}, {"session_token": "not-given"}):
        assert "refuses the keys" in str(refused(source, tmp_path, KEYS | wrong))
    assert "refuses the keys" in str(refused(lake(folder="parts/", region="eu-other-9"), tmp_path))
    store.clock = lambda: datetime.now(UTC) + timedelta(minutes=16)
    assert "clock of this machine is wrong" in str(refused(source, tmp_path))
    store.clock = lambda: datetime.now(UTC) + timedelta(minutes=14)
    assert "no Parquet object lies below" in str(refused(source, tmp_path))


def test_keys_for_a_while_come_with_a_token(store: S3Server, lake: Make, tmp_path: Path) -> None:
    store.session_token = "token-for-an-hour"
    store.objects["research", "cells.csv"] = CSV
    assert read(lake("cells.csv"), tmp_path, KEYS | {"session_token": "token-for-an-hour"}).rows == 3


@pytest.mark.parametrize(("status", "away", "said"), [
    (503, True, "does not answer"), (500, True, "does not answer"), (301, False, "is elsewhere"),
])  # fmt: skip
def test_a_store_that_gives_no_answer(
    store: S3Server, lake: Make, tmp_path: Path, status: int, away: bool, said: str
) -> None:
    store.status = status
    problem = refused(lake("cells.csv"), tmp_path)
    assert (problem.away, said in str(problem)) == (away, True)


def test_a_store_that_is_away_or_breaks_off(store: S3Server, lake: Make, tmp_path: Path) -> None:
    store.objects["research", "cells.csv"] = CSV
    source = lake("cells.csv")
    store.cut = 10
    problem = refused(source, tmp_path)
    assert "the connection was lost (10 of 52 bytes" in str(problem)
    assert problem.away
    with S3Server(ACCESS, SECRET) as other:
        gone = other.url
    problem = refused(lake("cells.csv", endpoint=gone), tmp_path)
    assert "cannot be reached" in str(problem)
    assert problem.away


def test_nothing_is_sent_to_a_server_whose_certificate_is_not_trusted(lake: Make, tmp_path: Path) -> None:
    import ssl

    ca = authority(tmp_path)
    files = ca.issue("store")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert files.certificate is not None
    context.load_cert_chain(files.certificate, files.key)
    with S3Server(ACCESS, SECRET, objects={("research", "cells.csv"): CSV}, tls=context) as server:
        problem = refused(lake("cells.csv", endpoint=server.url), tmp_path)
        assert "no verified connection" in str(problem)
        assert not problem.away
        assert server.requests == []
        assert read(lake("cells.csv", endpoint=server.url, tls_ca=ca.file), tmp_path).rows == 3
        assert "cannot be used" in str(refused(lake("cells.csv", endpoint=server.url, tls_ca="gone.pem"), tmp_path))


def test_how_much_there_is_can_be_asked(store: S3Server, lake: Make, tmp_path: Path) -> None:
    store.objects["research", "cells.csv"] = CSV
    source = lake("cells.csv")
    assert s3.look(source, source.items[0], KEYS, tmp_path) == 52
    assert store.requests == ["HEAD /research/cells.csv"]


def test_the_bucket_may_be_part_of_the_hosts_name(store: S3Server, lake: Make) -> None:
    source = lake("cells.csv", path_style=False, endpoint="https://store.example:9000")
    bucket = s3.Bucket(source, KEYS, Path())
    assert (bucket._name, bucket._root) == ("research.store.example", "")
