"""Reading a data file a ticket names, without being led anywhere else or into reading too much."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.skill import InputError

SUFFIXES = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet", ".pq": "parquet"}


@dataclass(frozen=True)
class DataFile:
    """A file that may be read: its real path, its name for people (relative to its root), and its kind."""

    path: Path
    shown: str
    kind: str


def locate(
    data: str, roots: Sequence[Path], suffixes: Mapping[str, str] = SUFFIXES, what: str = "data file"
) -> DataFile:
    """The file `data` names, below one of `roots` after every symbolic link is followed, of a kind in `suffixes`.

    A relative path is looked up below each root in turn. Raises InputError when it lies outside the roots (said before
    anything is said about its existence), does not exist, is not a plain file, or is of a kind we do not read.
    """
    if not roots:
        raise InputError(f"{what} {data!r} cannot be read: no root is allowed", "start with a folder of tickets")
    allowed = [root.resolve() for root in roots]
    places = [Path(data)] if Path(data).is_absolute() else [root / data for root in allowed]
    found: Path | None = None
    for place in places:
        real = _real(place, f"{what} {data!r}")
        root = next((root for root in allowed if real.is_relative_to(root)), None)
        if root is None:
            raise InputError(
                f"{what} {data!r} lies outside the allowed roots ({', '.join(map(str, roots))})",
                "put the file below one of them, or add its folder to the roots",
            )
        if real.exists():
            found = real
            return _checked(found, found.relative_to(root).as_posix(), data, suffixes)
    near = _similar(Path(data).name, places, suffixes)
    parent = Path(data).parent.as_posix()
    near = near if parent == "." else f"{parent}/{near}" if near else ""
    hint = f"did you mean {near}" if near else f"put it below {', '.join(map(str, roots))}"
    raise InputError(f"{what} {data!r} does not exist", hint)


def read(file: DataFile, max_bytes: int) -> bytes:
    """All bytes of `file`. Raises InputError before reading anything if it is empty or larger than `max_bytes`.

    The file is opened without following a link and looked at through the open descriptor, so that what was checked is
    what is read.
    """
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise InputError(f"{file.shown} cannot be opened: {reason}", "make the file readable") from problem
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{file.shown} is not a plain file", "name a CSV or Parquet file")
        if status.st_size == 0:
            raise InputError(f"{file.shown} is empty", "name a file with a header and rows")
        if status.st_size > max_bytes:
            raise InputError(
                f"{file.shown} has {status.st_size:,} bytes, more than the {max_bytes:,} allowed",
                "take a sample of the rows, or raise max_data_bytes",
            )
        data = opened.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise InputError(f"{file.shown} grew while it was read", "name a file nobody writes to")
    return data


def _real(place: Path, what: str) -> Path:
    """The path with every link followed; missing parts are kept."""
    try:
        return place.resolve()
    except (OSError, RuntimeError, ValueError) as problem:
        raise InputError(f"{what} cannot be resolved: {problem}", "name a plain path") from problem


def _checked(real: Path, shown: str, data: str, suffixes: Mapping[str, str]) -> DataFile:
    mode = real.stat().st_mode
    if stat.S_ISDIR(mode):
        raise InputError(f"{data!r} is a directory", f"name one file in it, one of {', '.join(suffixes)}")
    if not stat.S_ISREG(mode):
        raise InputError(f"{data!r} is a device, pipe or socket", "name a plain file")
    kind = suffixes.get(real.suffix.lower())
    if kind is None:
        raise InputError(
            f"{shown} ends in {real.suffix or 'no suffix'}, which is no kind of file we read",
            "export it as .csv (UTF-8) or .parquet" if suffixes is SUFFIXES else f"name one of {', '.join(suffixes)}",
        )
    return DataFile(real, shown, kind)


def _similar(name: str, places: Sequence[Path], suffixes: Mapping[str, str]) -> str:
    """The file of a kind we read nearest in name next to where `name` was looked for, or an empty string."""
    beside = {
        path.name
        for place in places
        if place.parent.is_dir()
        for path in place.parent.iterdir()
        if path.suffix.lower() in suffixes
    }
    return next(iter(difflib.get_close_matches(name, sorted(beside), n=1, cutoff=0.5)), "")
