"""Loading the rows a ticket names: the one place where data enters the train.

Everything a user can get wrong is refused here as an InputError that names the file, column or line and what to do.
Data is data: a cell that looks like a formula or a command is text.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agents.skill import InputError
from agents.skills.data import database, files, packaged, refills, tables
from agents.skills.shapes import Kind, SourceSpec
from schemas.ticket import Ticket

if TYPE_CHECKING:
    import pandas as pd

MIN_ROWS = 30
MAX_MISSING_TARGET = 0.2
"""Share of rows without a target that may be dropped; more is a broken target."""

KNOWN = (
    "a CSV or Parquet file below an allowed root",
    "sql:PATH/TABLE of a SQLite file below an allowed root",
    "source:NAME/ITEM of a source that this installation names",
    f"sklearn:{'|'.join(packaged.SKLEARN)}",
    f"statsmodels:{'|'.join(packaged.STATSMODELS)}",
    "synthetic:refills",
)


@dataclass(frozen=True)
class Loaded:
    """Rows ready for use.

    `frame` holds every column of the source, the target `target` (if one was asked for) among them without missing
    values, in typed columns (see `tables.typed`) and with index 0..n-1. `dropped` rows had no target. `source.rows`
    counts all rows read.
    """

    frame: pd.DataFrame
    source: SourceSpec
    target: str
    warnings: tuple[str, ...]
    dropped: int

    @property
    def dropped_reason(self) -> str:
        """Why rows were dropped, or an empty string."""
        return f"target {self.target!r} is missing" if self.dropped else ""


@dataclass(frozen=True)
class _Raw:
    """A source as it was read, before anything of the ticket but `data` is looked at."""

    frame: pd.DataFrame
    kind: Kind
    uri: str
    shown: str
    sha256: str
    size: int
    description: str
    warnings: list[str]


def load(ticket: Ticket, roots: Sequence[Path], max_data_bytes: int) -> Loaded:
    """Read the source `ticket.data` and check `target`, `groups` and `time` against it.

    Raises InputError for everything about source and columns that cannot be used; see the module's docstring.
    """
    raw = _read(ticket, roots, max_data_bytes)
    frame, warnings = tables.typed(raw.frame, raw.shown)
    names = [str(name) for name in frame.columns]
    target = _target_name(ticket, names, raw.shown)
    for field, name in (("groups", ticket.groups), ("time", ticket.time)):
        if name is not None:
            _check_column(field, name, target, names, raw.shown)
    for name in ticket.sensitive:
        _check_column("sensitive", name, target, names, raw.shown)
    if len(names) < 2:
        raise InputError(f"{raw.shown} has no column besides the target {target!r}", "add columns to predict it from")
    kept, more = _with_target(frame, target, raw.shown)
    return Loaded(kept, _source(raw, frame, ticket), target, (*raw.warnings, *warnings, *more), len(frame) - len(kept))


def load_rows(ticket: Ticket, roots: Sequence[Path], max_data_bytes: int) -> Loaded:
    """Read the source `ticket.data` for no model in particular: every row stays, and `target` is empty.

    The ticket's `target`, `groups` and `time` need not be there, but a column it names must exist. Raises InputError
    for everything about source and columns that cannot be used.
    """
    raw = _read(ticket, roots, max_data_bytes)
    frame, warnings = tables.typed(raw.frame, raw.shown)
    names = [str(name) for name in frame.columns]
    for field, name in (("target", ticket.target), ("groups", ticket.groups), ("time", ticket.time)):
        if name is not None and name not in names:
            raise InputError(f"{raw.shown} has no column {name!r}, the ticket's `{field}`", _nearest(name, names))
    return Loaded(frame, _source(raw, frame, ticket), "", (*raw.warnings, *warnings), 0)


def _source(raw: _Raw, frame: pd.DataFrame, ticket: Ticket) -> SourceSpec:
    return SourceSpec(
        uri=raw.shown if Path(raw.uri).is_absolute() else raw.uri,
        kind=raw.kind,
        rows=len(frame),
        columns=tuple(map(str, frame.columns)),
        sha256=raw.sha256,
        bytes=raw.size,
        synthetic=raw.kind == "synthetic",
        description=raw.description,
        group_column=ticket.groups,
        time_column=ticket.time,
        snapshot=ticket.snapshot,
    )


def _read(ticket: Ticket, roots: Sequence[Path], max_data_bytes: int) -> _Raw:
    if not ticket.data or not ticket.data.strip():
        raise InputError("the ticket names no data", f"add `data:` with {_either(KNOWN)}")
    data = ticket.data.strip()
    scheme, _, name = data.partition(":")
    if ticket.data_scheme == "file":
        return _file(data, roots, max_data_bytes)
    if scheme == "sql":
        return _table(data, name, roots, max_data_bytes)
    if scheme == "source":
        return _snapshot(ticket, data, roots, max_data_bytes)
    if scheme == "sklearn" and name in packaged.SKLEARN:
        frame, description = packaged.load_sklearn(name)
        return _packaged(frame, "sklearn", data, description)
    if scheme == "statsmodels" and name in packaged.STATSMODELS:
        frame, description = packaged.load_statsmodels(name, ticket.target)
        return _packaged(frame, "statsmodels", data, description)
    if data == "synthetic:refills":
        return _packaged(refills.generate()[0], "synthetic", data, refills.DESCRIPTION)
    raise InputError(f"there is no data source {data!r}", f"use {_either(KNOWN)}")


def _file(data: str, roots: Sequence[Path], max_data_bytes: int) -> _Raw:
    file = files.locate(data, roots)
    content = files.read(file, max_data_bytes)
    kind: Literal["csv", "parquet"] = "parquet" if file.kind == "parquet" else "csv"
    if kind == "parquet":
        frame, warnings = tables.read_parquet(content, file.shown, max_data_bytes)
    else:
        frame, warnings = tables.read_csv(content, file.shown)
    digest = hashlib.sha256(content).hexdigest()
    return _Raw(frame, kind, data, file.shown, digest, len(content), f"File {file.shown} of the requester.", warnings)


def _snapshot(ticket: Ticket, data: str, roots: Sequence[Path], max_data_bytes: int) -> _Raw:
    """The rows of a named source, as they were stored when the session began."""
    snapshot = ticket.snapshot
    if snapshot is None:
        raise InputError(
            f"nobody fetched {data!r}: only a session gets rows of a named source",
            "for a skill on its own, `valuetrain source fetch NAME/ITEM -o FILE` and name that file",
        )
    file = files.locate(f"{snapshot.sha256}.{snapshot.format}", roots, what="snapshot")
    content = files.read(replace(file, shown=data), max_data_bytes)
    if (digest := hashlib.sha256(content).hexdigest()) != snapshot.sha256:
        raise InputError(f"the snapshot of {data!r} is damaged (sha256 {digest[:12]})", "restore the artifact")
    if snapshot.format == "parquet":
        frame, warnings = tables.read_parquet(content, data, max_data_bytes)
    else:
        frame, warnings = tables.read_csv(content, data)
    taken = snapshot.taken.strftime("%Y-%m-%d %H:%M:%S UTC")
    description = f"Item {snapshot.item} of the source {snapshot.source}, as it was at {taken}."
    return _Raw(frame, snapshot.kind, data, data, snapshot.sha256, snapshot.size, description, warnings)


def _table(data: str, name: str, roots: Sequence[Path], max_data_bytes: int) -> _Raw:
    """A table's digest is that of its canonical CSV: other tables of the file may change."""
    frame, shown, warnings = database.read_table(name, roots, max_data_bytes)
    content = frame.to_csv(index=False, lineterminator="\n").encode()
    digest = hashlib.sha256(content).hexdigest()
    description = f"Table or view {shown} of the requester."
    return _Raw(frame, "sqlite", data, shown, digest, len(content), description, warnings)


def _packaged(
    frame: pd.DataFrame, kind: Literal["sklearn", "statsmodels", "synthetic"], data: str, description: str
) -> _Raw:
    """A packaged or generated set; its digest is that of its canonical CSV (comma, line feed, no index)."""
    content = frame.to_csv(index=False, lineterminator="\n").encode()
    return _Raw(frame, kind, data, data, hashlib.sha256(content).hexdigest(), len(content), description, [])


def _target_name(ticket: Ticket, names: list[str], shown: str) -> str:
    target = (ticket.target or "").strip()
    if not target:
        raise InputError("the ticket names no target", f"add `target:` with one of {_some(names)}")
    if target not in names:
        raise InputError(f"{shown} has no column {target!r}, the target", _nearest(target, names))
    return target


def _check_column(field: str, name: str, target: str, names: list[str], shown: str) -> None:
    if name not in names:
        raise InputError(f"{shown} has no column {name!r}, the ticket's `{field}`", _nearest(name, names))
    if name == target:
        raise InputError(f"`{field}` and `target` both name {name!r}", f"name another column as `{field}`")


def _with_target(frame: pd.DataFrame, target: str, shown: str) -> tuple[pd.DataFrame, list[str]]:
    """The rows that have a target, and a warning if that is not all of them."""
    missing = int(frame[target].isna().sum())
    share = missing / len(frame) if len(frame) else 0.0
    if share > MAX_MISSING_TARGET:
        raise InputError(
            f"target {target!r} is missing in {missing:,} of {len(frame):,} rows ({share:.0%}) of {shown}",
            f"fill it, or leave those rows out; up to {MAX_MISSING_TARGET:.0%} are dropped with a warning",
        )
    kept = frame[frame[target].notna()].reset_index(drop=True)
    if len(kept) < MIN_ROWS:
        raise InputError(
            f"{shown} has {len(kept)} rows with a target, fewer than {MIN_ROWS}", "give more rows: so few test nothing"
        )
    if kept[target].nunique() < 2:
        raise InputError(
            f"target {target!r} is always {str(kept[target].iloc[0])[:40]!r}", "give rows of at least two outcomes"
        )
    if not missing:
        return kept, []
    return kept, [f"{shown}: {missing:,} row(s) ({share:.1%}) without target {target!r} were dropped"]


def _nearest(name: str, names: list[str]) -> str:
    """`did you mean …` with up to ten names, the most similar first."""
    folded = {other.lower(): other for other in names}
    close = [folded[key] for key in difflib.get_close_matches(name.lower(), list(folded), n=3, cutoff=0.5)]
    ordered = close + [other for other in names if other not in close]
    return (f"did you mean {close[0]!r}? " if close else "") + f"its columns are {_some(ordered)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(name[:60] for name in names[:10]) + more


def _either(choices: Iterable[str]) -> str:
    *first, last = choices
    return f"{', '.join(first)} or {last}"
