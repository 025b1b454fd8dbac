"""Named sources, as `sources.yaml` in the home describes them: where the rows are, who logs in, what may be read.

A ticket names a source and one of its items, and nothing else: which table, query or object that is, is decided here.
Secrets are not here either, only where they are: a file, or a variable of the environment.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from ingest.errors import SourceError
from schemas.values import Value

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
"""The name of a source or item, as tickets write it."""

Variable = Annotated[str, Field(pattern=r"^VALUETRAIN_SOURCE_[A-Z0-9_]{1,64}$")]
"""A variable that holds a secret. The beginning lets the other components be started without it."""

ENVIRONMENT = "VALUETRAIN_SOURCE_"
"""How the names of all such variables begin."""

DATABASES = ("postgresql", "mysql", "sqlite")


class Limits(Value):
    """The most that is read of one item; beyond it nothing is delivered at all."""

    rows: Annotated[int, Field(gt=0)] = 5_000_000
    bytes: Annotated[int, Field(gt=0)] = 200_000_000
    """Of the values (SQL), or of the objects (S3)."""
    seconds: Annotated[float, Field(gt=0, le=3600)] = 300.0
    """From the connection to the last row."""


class SqlItem(Value):
    """A table or view, or a query that the source's owner wrote."""

    name: Name
    table: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    schema_name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    query: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("name a `table` (or view), or write a `query`, and not both")
        if self.schema_name is not None and self.table is None:
            raise ValueError("`schema_name` is for a `table`; a `query` names it itself")
        return self

    @property
    def shown(self) -> str:
        """What it reads, for people."""
        if self.table is None:
            return "a query"
        return f"table {self.schema_name}.{self.table}" if self.schema_name else f"table {self.table}"


class SqlSource(Value):
    """A database: PostgreSQL, MySQL or a SQLite file, by its SQLAlchemy URL without user and password."""

    name: Name
    url: str
    user: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    password_file: Path | None = None
    password_env: Variable | None = None
    tls: Literal["verify", "none"] | None = None
    """`none` sends rows and login in plain text; left out: `verify`, except on this machine."""
    tls_ca: Path | None = None
    """Whom to trust, in PEM; left out: whom this machine trusts."""
    items: Annotated[tuple[SqlItem, ...], Field(min_length=1)]
    limits: Limits = Limits()

    @field_validator("url")
    @classmethod
    def _without_login(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError as problem:
            raise ValueError("is no URL; write it like postgresql://HOST:PORT/DATABASE") from problem
        database, _, driver = parts.scheme.partition("+")
        if database not in DATABASES or driver not in ("", "psycopg", "pymysql"):
            raise ValueError("must begin with postgresql://, mysql:// or sqlite:///")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must hold no user and no password: write `user` and `password_file`")
        if parts.query or parts.fragment:
            raise ValueError("must hold nothing after `?` or `#`: what can be set has fields of its own")
        if database == "sqlite":
            if parts.hostname or not parts.path.startswith("/") or len(parts.path) < 2:
                raise ValueError("names no file; write sqlite:///FILE, or sqlite:////FILE from the root")
        elif not parts.hostname or len(parts.path) < 2:
            raise ValueError("names no host or no database; write it like postgresql://HOST:PORT/DATABASE")
        return url

    @model_validator(mode="after")
    def _login_fits(self) -> Self:
        if self.password_file is not None and self.password_env is not None:
            raise ValueError("the password comes from `password_file` or `password_env`, not from both")
        login = (self.user, self.password_file, self.password_env, self.tls, self.tls_ca)
        if self.database == "sqlite" and any(value is not None for value in login):
            raise ValueError("`url` is a file, which has no login: leave out user, password and tls")
        if self.database != "sqlite" and self.user is None:
            raise ValueError("`user` is missing: name who logs in, best somebody who may only read")
        if self.tls == "none" and self.tls_ca is not None:
            raise ValueError("`tls_ca` says whom to trust, and `tls: none` trusts everybody: leave one out")
        _unique(item.name for item in self.items)
        return self

    @property
    def kind(self) -> Literal["sql"]:
        """What sort of source it is."""
        return "sql"

    @property
    def database(self) -> str:
        """`postgresql`, `mysql` or `sqlite`."""
        return urlsplit(self.url).scheme.partition("+")[0]

    @property
    def verified(self) -> bool:
        """Whether the connection is encrypted and the server's certificate checked."""
        return self.tls == "verify" or (self.tls is None and not loopback(urlsplit(self.url).hostname or ""))

    @property
    def file(self) -> str:
        """The path of a SQLite file, as it is written."""
        return unquote(urlsplit(self.url).path[1:])

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self.url


class S3Item(Value):
    """One object, or all Parquet objects below a folder, which together are one table."""

    name: Name
    key: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    folder: Annotated[str, Field(min_length=1, max_length=1000, pattern=r"/$")] | None = None
    format: Literal["csv", "parquet"] | None = None
    """Left out: by the end of `key`."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.key is None) == (self.folder is None):
            raise ValueError("name the `key` of an object, or a `folder` of Parquet objects, and not both")
        if self.folder is not None and self.format == "csv":
            raise ValueError("a `folder` holds Parquet objects: leave `format` out, or name the `key` of a CSV object")
        if self.key is not None and self.format is None and not self.key.lower().endswith((".csv", ".parquet")):
            raise ValueError("`key` ends neither in .csv nor in .parquet: say which `format` it has")
        return self

    @property
    def stored(self) -> Literal["csv", "parquet"]:
        """What the objects hold."""
        if self.format is not None:
            return self.format
        return "csv" if self.key is not None and self.key.lower().endswith(".csv") else "parquet"

    @property
    def shown(self) -> str:
        """What it reads, for people."""
        return f"object {self.key}" if self.key is not None else f"objects below {self.folder}"


class S3Source(Value):
    """A bucket of an object store that speaks S3."""

    name: Name
    endpoint: str
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")] = "us-east-1"
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    prefix: Annotated[str, Field(max_length=500)] = ""
    """Every key begins with it."""
    path_style: bool = True
    """`https://HOST/BUCKET/KEY` instead of `https://BUCKET.HOST/KEY`."""
    plain_http: bool = False
    """Allow `http://` to another machine, where keys stay secret and rows do not."""
    access_key_file: Path | None = None
    access_key_env: Variable | None = None
    secret_key_file: Path | None = None
    secret_key_env: Variable | None = None
    session_token_file: Path | None = None
    session_token_env: Variable | None = None
    tls_ca: Path | None = None
    """As with databases."""
    items: Annotated[tuple[S3Item, ...], Field(min_length=1)]
    limits: Limits = Limits()

    @field_validator("endpoint")
    @classmethod
    def _an_endpoint(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError as problem:
            raise ValueError("is no URL; write it like https://HOST:PORT") from problem
        host = parts.hostname or ""
        if parts.scheme not in ("https", "http") or not re.fullmatch(r"[A-Za-z0-9.-]+|[0-9a-fA-F:.]+", host):
            raise ValueError("must be like https://HOST or https://HOST:PORT")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must hold no user and no password: name `access_key_file` and `secret_key_file`")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("must be like https://HOST:PORT and hold no path: write `bucket` and `prefix`")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _keys_and_way(self) -> Self:
        for name in ("access_key", "secret_key", "session_token"):
            given = [getattr(self, f"{name}_{where}") for where in ("file", "env")]
            if None not in given:
                raise ValueError(f"`{name}_file` and `{name}_env` say the same twice: leave one out")
            if given == [None, None] and name != "session_token":
                raise ValueError(f"`{name}_file` is missing: name the file, or the variable by `{name}_env`")
        parts = urlsplit(self.endpoint)
        if parts.scheme == "http" and not (self.plain_http or loopback(parts.hostname or "")):
            raise ValueError("`endpoint` must begin with https://; `plain_http: true` sends rows in plain text")
        _unique(item.name for item in self.items)
        return self

    @property
    def kind(self) -> Literal["s3"]:
        """What sort of source it is."""
        return "s3"

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.endpoint}/{self.bucket}/{self.prefix}"


Source = SqlSource | S3Source
Item = SqlItem | S3Item


class Sources(Value):
    """All named sources."""

    sql: tuple[SqlSource, ...] = ()
    s3: tuple[S3Source, ...] = ()

    @model_validator(mode="after")
    def _names(self) -> Self:
        _unique(source.name for source in self.all)
        return self

    @property
    def all(self) -> tuple[Source, ...]:
        """Those of every kind."""
        return (*self.sql, *self.s3)

    def source(self, name: str) -> Source:
        """The source called `name`. Raises SourceError."""
        found = next((source for source in self.all if source.name == name), None)
        if found is None:
            raise SourceError(f"there is no source {name[:80]!r}", _hint(name, [s.name for s in self.all], "sources"))
        return found

    def find(self, target: str) -> tuple[Source, Item]:
        """The source and the item that `NAME/ITEM` means. Raises SourceError with the nearest names."""
        name, _, wanted = target.partition("/")
        source = self.source(name)
        items: tuple[Item, ...] = source.items
        item = next((item for item in items if item.name == wanted), None)
        if item is None:
            what = f"source {name} has no item {wanted[:80]!r}" if wanted else f"source:{name} names no item"
            raise SourceError(what, _hint(wanted, [each.name for each in items], "items"))
        return source, item


def loopback(host: str) -> bool:
    """Whether a connection to `host` stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unique(names: object) -> None:
    seen: set[object] = set()
    for name in names:  # type: ignore[attr-defined]
        if name in seen:
            raise ValueError(f"the name {name} is given twice: rename one")
        seen.add(name)


def _hint(name: str, known: list[str], what: str) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"its {what} are {', '.join(known[:20])}" if known else "name it in sources.yaml (docs/operations.md)"
