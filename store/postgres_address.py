"""Where a PostgreSQL record is, from its URL; and what may be said about that: never the password."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from store.port import StoreError

_SECRETS = ("password", "sslpassword")

# A server that is away must be noticed, not waited for as long as the kernel likes (two hours by default).
_DEFAULTS: Mapping[str, Any] = {
    "connect_timeout": 5,  # seconds, as the next three
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # milliseconds
    "fallback_application_name": "valuetrain",
    "client_encoding": "utf8",
}


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """How to reach the record's database: libpq's parameters, and `where` to name it in messages, without secrets."""

    parameters: Mapping[str, Any]
    where: str

    def scrub(self, problem: BaseException) -> str:
        """What `problem` says, in one line and without secrets."""
        text = " ".join(str(problem).split())
        for name in _SECRETS:
            if secret := str(self.parameters.get(name) or ""):
                text = text.replace(secret, "***")
        return text


def parse(url: str) -> Address:
    """The address in a URL `postgresql://[user[:password]@][host[:port]][/database][?setting=value&…]`.

    What is left out comes from libpq's own places: `PGPASSWORD`, a password file, a service file. Raises StoreError,
    without a word of the URL: a password with a character that should have been encoded may turn up in any part of it.
    """
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if scheme not in ("postgresql", "postgres"):
        raise StoreError("the record's URL must begin with postgresql://")
    if rest.count("@") > 1 or "@" in rest.removeprefix(authority) or re.search(r"#|\s|%(?![0-9A-Fa-f]{2})", rest):
        raise StoreError(
            "the record's URL cannot be understood: in its user, password and database name, write each of "
            "@ : / ? # % and white space as % and two hex digits (@ is %40)"
        )
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        given = None
    # Outside the handler, so that libpq's own words are not even chained to this error. A port that is no number may
    # be the password of a URL whose host was forgotten.
    if given is None or not re.fullmatch(r"[0-9,]*", str(given.get("port", ""))):
        raise StoreError("the record's URL cannot be understood; it is postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    return Address({**_DEFAULTS, **{k: v for k, v in given.items() if v is not None}}, _describe(given))


def _describe(given: Mapping[str, object]) -> str:
    user = f"{given['user']}@" if "user" in given else ""
    port = f":{given['port']}" if "port" in given else ""
    database = f"/{given['dbname']}" if "dbname" in given else ""
    return f"postgresql://{user}{given.get('host', '')}{port}{database}"
