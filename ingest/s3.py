"""Objects of a bucket: listed, and read as they were when their digest was asked for.

Not by pyarrow's own S3 file system: that reads a file in pieces and does not notice when the object is replaced in
between. Here one request reads an object, on the condition that it is still the one that was looked at.
"""

from __future__ import annotations

import csv
import http.client
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

from ingest import arrow
from ingest.errors import SourceError, told
from ingest.settings import S3Item, S3Source
from ingest.signature import Keys, encoded, query_string, signed

CONNECT_SECONDS = 10.0
MOST_OBJECTS = 1000
"""Objects that a folder may hold."""

_PAGE, _LARGEST_ANSWER, _CHUNK = 1000, 4 << 20, 1 << 20
_LOGIN = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AuthorizationHeaderMalformed"}
_AWAY = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout"}


@dataclass(frozen=True, slots=True)
class Object:
    """An object as it was listed. `size` is in bytes."""

    key: str
    size: int
    etag: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """What was read: rows, columns, and what the store calls the object's state."""

    rows: int
    columns: int
    version: str


def read(source: S3Source, item: S3Item, secrets: dict[str, str], out: Path, base: Path) -> Read:
    """Write the item's object, or the rows of all its objects, to `out`. Relative paths are below `base`.

    Raises SourceError: unreachable, login refused, no such object, changed while it was read, beyond a limit.
    """
    bucket = Bucket(source, secrets, base)
    shown = f"{source.name}/{item.name}"
    if item.folder is not None:
        rows, columns, version = *_folder(bucket, source, item, out), ""
    else:
        found = bucket.head(source.prefix + (item.key or ""))
        bucket.get(found, out, source.limits.bytes)
        version = found.version or found.etag.strip('"')
        rows, columns = count(out, shown) if item.stored == "csv" else arrow.look_at(out, shown)
    if rows > source.limits.rows:
        raise SourceError(f"{shown} has more than {source.limits.rows:,} rows", "read fewer, or raise `limits.rows`")
    if not rows:
        raise SourceError(f"{shown} has no rows", "name an object with some")
    return Read(rows, columns, version[:200])


def look(source: S3Source, item: S3Item, secrets: dict[str, str], base: Path) -> int:
    """How many bytes the item has now. Raises SourceError as `read`."""
    bucket = Bucket(source, secrets, base)
    if item.folder is None:
        return bucket.head(source.prefix + (item.key or "")).size
    return sum(found.size for found in _parts(bucket, source, item))


def count(path: Path, shown: str) -> tuple[int, int]:
    """Rows and columns of a CSV file. Raises SourceError for what has no lines."""
    csv.field_size_limit(sys.maxsize)
    rows, columns = 0, 0
    try:
        with path.open("r", encoding="latin-1", newline="") as file:  # only quotes and ends of lines count here
            for record in csv.reader(file):
                if record:
                    rows += 1
                    columns = columns or len(record)
    except csv.Error as problem:
        raise SourceError(f"{shown} is no CSV ({told(problem)})", "export it again") from problem
    return max(0, rows - 1), columns


def _parts(bucket: Bucket, source: S3Source, item: S3Item) -> list[Object]:
    folder = f"{source.prefix}{item.folder}"
    found = [each for each in bucket.list(folder) if each.size and each.key.lower().endswith(".parquet")]
    if not found:
        raise SourceError(f"{source.name}/{item.name}: no Parquet object lies below {folder}", "correct its `folder`")
    return sorted(found, key=lambda each: each.key)


def _folder(bucket: Bucket, source: S3Source, item: S3Item, out: Path) -> tuple[int, int]:
    parts = _parts(bucket, source, item)
    left = source.limits.bytes
    with tempfile.TemporaryDirectory(dir=out.parent) as name:
        files: list[tuple[str, Path]] = []
        for number, part in enumerate(parts):
            path = Path(name) / f"{number}.parquet"
            bucket.get(part, path, left)
            left -= part.size
            files.append((f"{source.name}: {part.key}", path))
        if len(files) > 1:
            return arrow.merge(files, out)
        shutil.move(files[0][1], out)
        return arrow.look_at(out, files[0][0])


class Bucket:
    """Signed requests to one bucket, each on a connection of its own, all of them within the source's time."""

    def __init__(self, source: S3Source, secrets: dict[str, str], base: Path) -> None:
        self._source = source
        self._hidden = tuple(secrets.values())
        self._keys = Keys(secrets["access_key"], secrets["secret_key"], secrets.get("session_token", ""))
        self._ends = time.monotonic() + source.limits.seconds
        parts = urlsplit(source.endpoint)
        host = parts.hostname or ""
        self._name = host if source.path_style else f"{source.bucket}.{host}"
        self._port = parts.port
        self._root = f"/{source.bucket}" if source.path_style else ""
        self._context: ssl.SSLContext | None = None
        if parts.scheme == "https":
            try:
                self._context = ssl.create_default_context(cafile=base / source.tls_ca if source.tls_ca else None)
            except (OSError, ssl.SSLError) as problem:
                what = f"source {source.name}: `tls_ca` {source.tls_ca} cannot be used"
                raise SourceError(what, "name a file with certificates in PEM") from problem

    def list(self, prefix: str) -> list[Object]:
        """Every object whose key begins with `prefix`. Raises SourceError, also when there are more than a table of
        several objects may have."""
        found: list[Object] = []
        token = ""
        while True:
            query = [("list-type", "2"), ("prefix", prefix), ("max-keys", str(_PAGE))]
            with self._answer("GET", "", query + ([("continuation-token", token)] if token else [])) as answer:
                page = self._xml(answer.read(_LARGEST_ANSWER + 1))
            for each in page.iter("Contents"):
                key, size = each.findtext("Key") or "", each.findtext("Size") or ""
                if not key.startswith(prefix) or not size.isdecimal():
                    raise self._strange("a list with other keys than were asked for")
                found.append(Object(key, int(size), each.findtext("ETag") or ""))
            if len(found) > MOST_OBJECTS:
                what = f"{self._place} has more than {MOST_OBJECTS} objects below {prefix}"
                raise SourceError(what, "name a smaller folder, or write them as fewer objects")
            token = page.findtext("NextContinuationToken") or ""
            if page.findtext("IsTruncated") != "true" or not token:
                return found

    def head(self, key: str) -> Object:
        """An object's size and state. Raises SourceError."""
        with self._answer("HEAD", key) as answer:
            size = answer.getheader("content-length") or ""
            if not size.isdecimal():
                raise self._strange(f"no size of {key}")
            return Object(key, int(size), answer.getheader("etag") or "", answer.getheader("x-amz-version-id") or "")

    def get(self, wanted: Object, out: Path, most: int) -> None:
        """Write the object to `out`, if it still is the one that is `wanted`. Raises SourceError."""
        if wanted.size > most:
            what = f"{self._place}: {wanted.key} has {wanted.size:,} bytes, more than the {most:,} that are left"
            raise SourceError(what, "name a smaller one, or raise `limits.bytes`")
        condition = {"if-match": wanted.etag} if wanted.etag else {}
        got = 0
        with self._answer("GET", wanted.key, headers=condition) as answer, out.open("wb") as file:
            try:
                while got <= wanted.size and (chunk := answer.read(_CHUNK)):
                    got += file.write(chunk)
                    self._seconds()
            except (OSError, http.client.HTTPException) as problem:
                raise self._lost(problem) from None
        if got != wanted.size:
            raise self._lost(f"{got:,} of {wanted.size:,} bytes of {wanted.key} came")

    @contextmanager
    def _answer(
        self, method: str, key: str, query: Sequence[tuple[str, str]] = (), headers: dict[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        path = f"{self._root}/{key}"
        default = 443 if self._context else 80
        named = f"[{self._name}]" if ":" in self._name else self._name
        host = named if self._port in (None, default) else f"{named}:{self._port}"
        sent = signed(
            method, path, query, {"host": host, **(headers or {})}, self._keys, self._source.region, datetime.now(UTC)
        )
        timeout = min(self._seconds(), CONNECT_SECONDS)
        connection = (
            http.client.HTTPSConnection(self._name, self._port, timeout=timeout, context=self._context)
            if self._context
            else http.client.HTTPConnection(self._name, self._port, timeout=timeout)
        )
        target = encoded(path) + (f"?{query_string(query)}" if query else "")
        try:
            try:
                connection.request(method, target, headers=sent)
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as problem:
                raise self._unreachable(problem) from None
            if answer.status != 200:
                raise self._refused(answer, key)
            yield answer
        finally:
            connection.close()

    def _seconds(self) -> float:
        """What is left of the time. Raises SourceError."""
        left = self._ends - time.monotonic()
        if left <= 0:
            what = f"{self._place} took longer than {self._source.limits.seconds:g} s"
            raise SourceError(what, "read less, or raise `limits.seconds`")
        return left

    @property
    def _place(self) -> str:
        return f"source {self._source.name}"

    def _xml(self, body: bytes) -> ElementTree.Element:
        """A document without its namespaces. Raises SourceError."""
        if len(body) > _LARGEST_ANSWER or b"<!DOCTYPE" in body[:1000]:
            raise self._strange("an answer that is too large, or no plain XML")
        try:
            root = ElementTree.fromstring(body)  # noqa: S314  # no document type, so no entities that could grow
        except ElementTree.ParseError:
            raise self._strange("an answer that is no XML") from None
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        return root

    def _refused(self, answer: http.client.HTTPResponse, key: str) -> SourceError:
        body = answer.read(1 << 16)
        root = self._xml(body) if body.lstrip().startswith(b"<") else ElementTree.Element("Error")
        code = told(root.findtext("Code") or answer.reason or "", self._hidden)[:60]
        said = f"{answer.status} {code}"
        if answer.status == 404:
            what = f"{self._place}: there is no {key or 'such bucket'} in {self._source.bucket}"
            return SourceError(f"{what} ({said})", "correct the item in sources.yaml")
        if answer.status == 412:
            return SourceError(f"{self._place}: {key} was replaced while it was read", "try again", away=True)
        if code == "RequestTimeTooSkewed":
            return SourceError(f"{self._place} says the clock of this machine is wrong ({said})", "set the clock")
        if code in _LOGIN:
            return SourceError(f"{self._place} refuses the keys ({said})", "check the keys and `region`")
        if answer.status in (401, 403):
            what = f"{self._place}: {key or 'a list of the objects'} may not be read with these keys ({said})"
            return SourceError(what, "check the keys and what they allow")
        if answer.status in (301, 302, 303, 307, 308):
            return SourceError(f"{self._place} is elsewhere ({said})", "correct `endpoint`, `region` or `path_style`")
        if answer.status >= 500 or code in _AWAY:
            return SourceError(f"{self._place} does not answer ({said})", "try again later", away=True)
        return SourceError(f"{self._place} refuses to give {key or 'a list'} ({said})", "correct the source")

    def _unreachable(self, problem: Exception) -> SourceError:
        said = told(problem, self._hidden)
        where = f"{self._place} ({self._source.endpoint})"
        if isinstance(problem, ssl.SSLError):
            remedy = "name the right `tls_ca`, or repair the server"
            return SourceError(f"{where}: no verified connection ({said})", remedy)
        return SourceError(f"{where} cannot be reached ({said})", "see that it runs, and try again", away=True)

    def _lost(self, problem: object) -> SourceError:
        said = told(problem, self._hidden)
        return SourceError(f"{self._place}: the connection was lost ({said})", "try again", away=True)

    def _strange(self, what: str) -> SourceError:
        return SourceError(f"{self._place} gives {what}", "check `endpoint`: is it an object store?")
