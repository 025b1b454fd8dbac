"""ListObjectsV2, HeadObject and GetObject (whole, by range, on a condition) for objects in memory.

Requests are signed as AWS Signature Version 4 says (header form), and the signature is computed here from the request
as it came, by code of its own: nothing of `ingest` is imported. Published at
https://docs.aws.amazon.com/AmazonS3/latest/API/ (API_GetObject, API_HeadObject, API_ListObjectsV2, ErrorResponses).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

SKEW = timedelta(minutes=15)
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_CREDENTIAL = re.compile(r"^(?P<access>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]+)/s3/aws4_request$")
_EMPTY = hashlib.sha256(b"").hexdigest()


class Refused(Exception):
    """An answer other than the one that was asked for."""

    def __init__(self, status: int, code: str, **headers: str) -> None:
        super().__init__(code)
        self.status, self.code, self.headers = status, code, headers


@dataclass
class S3Server:
    """A store on a free port, while it is entered. `objects` are bytes by bucket and key."""

    access_key: str
    secret_key: str
    region: str = "eu-test-1"
    session_token: str = ""
    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    """Keys that may not be read."""
    page: int = 1000
    """The most keys in one answer of a list."""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    tls: ssl.SSLContext | None = None
    status: int = 0
    """Every request is answered so, when it is set."""
    cut: int = 0
    """After so many bytes of a body the connection is closed."""
    before_get: Callable[[], None] = lambda: None
    requests: list[str] = field(default_factory=list)
    """Method and path of each, also of those that were refused."""
    ranges: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        store = self

        class Handler(_Handler):
            s3 = store

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if self.tls is not None:
            self._http.socket = self.tls.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)

    @property
    def host(self) -> str:
        """`HOST:PORT`."""
        return f"127.0.0.1:{self._http.server_address[1]}"

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"{'https' if self.tls else 'http'}://{self.host}"

    def checked(self, method: str, target: str, headers: dict[str, str]) -> None:
        """Raises Refused for a request that is not signed by who holds the secret key, now, for this region."""
        header = headers.get("authorization", "")
        if not header:
            raise Refused(403, "AccessDenied")
        algorithm, _, rest = header.partition(" ")
        parts = dict(part.strip().split("=", 1) for part in rest.split(",") if "=" in part)
        credential = _CREDENTIAL.match(parts.get("Credential", ""))
        if algorithm != "AWS4-HMAC-SHA256" or credential is None:
            raise Refused(400, "AuthorizationHeaderMalformed")
        if credential["access"] != self.access_key:
            raise Refused(403, "InvalidAccessKeyId")
        if credential["region"] != self.region:
            raise Refused(400, "AuthorizationHeaderMalformed")
        stamp = headers.get("x-amz-date", "")
        try:
            at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            raise Refused(403, "AccessDenied") from None
        if abs(self.clock() - at) > SKEW or stamp[:8] != credential["day"]:
            raise Refused(403, "RequestTimeTooSkewed")
        if headers.get("x-amz-security-token", "") != self.session_token:
            raise Refused(400, "InvalidToken")
        names = parts.get("SignedHeaders", "").split(";")
        must = {"host", *(name for name in headers if name.startswith("x-amz-"))}
        if not must <= set(names) or names != sorted(names) or any(name not in headers for name in names):
            raise Refused(403, "SignatureDoesNotMatch")
        payload = headers.get("x-amz-content-sha256", "")
        if payload not in (_EMPTY, "UNSIGNED-PAYLOAD"):
            raise Refused(400, "XAmzContentSHA256Mismatch")
        proof = self.signature(method, target, {name: headers[name] for name in names}, payload, stamp)
        if not hmac.compare_digest(proof, parts.get("Signature", "")):
            raise Refused(403, "SignatureDoesNotMatch")

    def signature(self, method: str, target: str, headers: dict[str, str], payload: str, stamp: str) -> str:
        """What the holder of the secret key would have written."""
        path, _, query = target.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=False) if query else []
        escaped = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in pairs)
        canonical = [
            method,
            quote(unquote(path), safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in escaped),
            *(f"{name}:{' '.join(headers[name].split())}" for name in sorted(headers)),
            "",
            ";".join(sorted(headers)),
            payload,
        ]
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
        key = ("AWS4" + self.secret_key).encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def etag(content: bytes) -> str:
    """What the store calls the state of an object."""
    return f'"{hashlib.md5(content).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    s3: S3Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Tests look at `requests`."""

    def _answer(self) -> None:
        store = self.s3
        store.requests.append(f"{self.command} {self.path}")
        try:
            if store.status:
                raise Refused(
                    store.status, {503: "SlowDown", 301: "PermanentRedirect"}.get(store.status, "InternalError")
                )
            headers = {name.lower(): value for name, value in self.headers.items()}
            store.checked(self.command, self.path, headers)
            parts = urlsplit(self.path)
            bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
            if bucket not in {name for name, _ in store.objects}:
                raise Refused(404, "NoSuchBucket")
            if not key:
                return self._list(bucket, dict(parse_qsl(parts.query, keep_blank_values=True)))
            self._object(bucket, key, headers)
        except Refused as no:
            body = f"<?xml version='1.0'?><Error><Code>{no.code}</Code><Message>No.</Message></Error>".encode()
            self._send(no.status, body, {"content-type": "application/xml", **no.headers})

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        if query.get("list-type") != "2":
            raise Refused(400, "InvalidArgument")
        prefix, after = query.get("prefix", ""), query.get("continuation-token", query.get("start-after", ""))
        keys = sorted(key for name, key in self.s3.objects if name == bucket and key.startswith(prefix) and key > after)
        most = min(int(query.get("max-keys", "1000")), self.s3.page)
        page, more = keys[:most], len(keys) > most
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.s3.objects[bucket, key])}</Size>"
            f"<ETag>{escape(etag(self.s3.objects[bucket, key]))}</ETag></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="{_NAMESPACE}"><Name>{bucket}</Name>'
            f"<Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount><MaxKeys>{most}</MaxKeys>"
            f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{token}{found}</ListBucketResult>"
        )
        self._send(200, body.encode(), {"content-type": "application/xml"})

    def _object(self, bucket: str, key: str, headers: dict[str, str]) -> None:
        if self.command == "GET":
            self.s3.before_get()
        content = self.s3.objects.get((bucket, key))
        if content is None:
            raise Refused(404, "NoSuchKey")
        if key in self.s3.forbidden:
            raise Refused(403, "AccessDenied")
        if headers.get("if-match", etag(content)) not in (etag(content), "*"):
            raise Refused(412, "PreconditionFailed")
        about = {"etag": etag(content), "accept-ranges": "bytes", "last-modified": "Sat, 21 Nov 2026 10:00:00 GMT"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        if wanted is None:
            return self._send(200, content, about)
        self.s3.ranges.append(headers["range"])
        first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
        if first > last:
            raise Refused(416, "InvalidRange")
        about["content-range"] = f"bytes {first}-{last}/{len(content)}"
        self._send(206, content[first : last + 1], about)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.s3.cut:
            self.wfile.write(body[: self.s3.cut])
            self.close_connection = True
            return
        self.wfile.write(body)
