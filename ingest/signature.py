"""AWS Signature Version 4: how a request to an object store proves who sends it, without its secret key. Pure.

As published at https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

EMPTY = hashlib.sha256(b"").hexdigest()
"""The digest of a request without a body."""

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Keys:
    """Who asks. Never shown."""

    access: str
    secret: str
    token: str = ""

    def __repr__(self) -> str:
        return "Keys()"


def encoded(path: str) -> str:
    """A path as it stands in request and signature: everything but letters, digits, `-._~` and `/` is escaped."""
    return quote(path, safe="/-._~")


def query_string(query: Sequence[tuple[str, str]]) -> str:
    """A query in the order and with the escapes that the signature wants."""
    pairs = sorted((quote(name, safe="-._~"), quote(value, safe="-._~")) for name, value in query)
    return "&".join(f"{name}={value}" for name, value in pairs)


def signed(
    method: str,
    path: str,
    query: Sequence[tuple[str, str]],
    headers: Mapping[str, str],
    keys: Keys,
    region: str,
    at: datetime,
) -> dict[str, str]:
    """The headers to send (those given, of which `host` is one, and the signature's own) for a request without a body.

    `path` is not escaped yet; `at` is the time in UTC.
    """
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    every = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    every |= {"x-amz-date": stamp, "x-amz-content-sha256": EMPTY}
    if keys.token:
        every["x-amz-security-token"] = keys.token
    names = ";".join(sorted(every))
    lines = "".join(f"{name}:{every[name]}\n" for name in sorted(every))
    request = "\n".join((method, encoded(path), query_string(query), lines, names, EMPTY))
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = "\n".join((_ALGORITHM, stamp, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{keys.secret}".encode()
    for part in (stamp[:8], region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    proof = hmac.new(key, text.encode(), "sha256").hexdigest()
    authorization = f"{_ALGORITHM} Credential={keys.access}/{scope},SignedHeaders={names},Signature={proof}"
    return every | {"authorization": authorization}
