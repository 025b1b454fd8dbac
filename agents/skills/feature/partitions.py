"""Backfilled inputs on the disk: pieces while the work lasts, then one Parquet file a window, and a manifest.

A piece is what one part of the source became, sorted by window, with a note beside it that is written last: a run that
was killed finds whole pieces or none, and goes on behind them. What a piece holds depends on the source's rows, the
definitions and the code alone, all of which are in the job's key; so do the partitions' bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.skill import SkillError

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "manifest.json"
ROW = "__row__"
WINDOW = "__window__"
WORK = ".work"
PERSONAL = ".personal"
"""Personal inputs lie in a file of their own beside the others, so that they can be removed earlier."""


@dataclass(frozen=True)
class Partition:
    """One file: its window, name, rows, bytes and digest, and whether its columns are personal data."""

    window: str
    file: str
    rows: int
    bytes: int
    sha256: str
    personal: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return vars(self) | {}


@dataclass
class Job:
    """The directory of one backfill, held by one run at a time."""

    directory: Path
    taken: int = 0
    """How many pieces of a killed run were there."""

    def manifest(self) -> dict[str, Any] | None:
        """The manifest of a job that was finished and whose partitions are all there as it says, else None."""
        try:
            found: dict[str, Any] = json.loads((self.directory / MANIFEST).read_text("utf-8"))
            whole = all(digest(self.directory / p["file"]) == p["sha256"] for p in found["partitions"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if whole and not found.get("removed") else None

    def piece(self, number: int) -> dict[str, Any] | None:
        """What the note of piece `number` says, if a run finished it."""
        note = self._work / f"{number:08d}.json"
        if not note.exists():
            return None
        found: dict[str, Any] = json.loads(note.read_text("utf-8"))
        self.taken += 1
        return found

    def keep(self, number: int, rows: pd.DataFrame, note: dict[str, Any]) -> dict[str, Any]:
        """Write piece `number`: `rows` with their window and place, one row group a window. Raises OSError."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._work.mkdir(exist_ok=True)
        path = self._work / f"{number:08d}.parquet"
        groups: dict[str, list[int]] = {}
        table = pa.Table.from_pandas(rows.drop(columns=WINDOW), preserve_index=False)
        draft = path.with_suffix(".new")
        with pq.ParquetWriter(draft, table.schema) as writer:
            order = rows[WINDOW].to_numpy()
            for place, window in enumerate(sorted(set(order))):
                part = table.filter(pa.array(order == window))
                writer.write_table(part, row_group_size=max(1, part.num_rows))
                groups[window] = [place, part.num_rows]
        _settle(draft, path)
        found = note | {"windows": groups}
        write_whole(path.with_suffix(".json"), json.dumps(found))
        return found

    def gather(self, windows: dict[str, list[int]], personal: Sequence[str]) -> Iterator[Partition]:
        """The partitions, made from the pieces that have rows of each window, one window after the other."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for window in sorted(windows):
            rows = 0
            writers: dict[bool, pq.ParquetWriter] = {}
            try:
                for number in windows[window]:
                    place = json.loads((self._work / f"{number:08d}.json").read_text("utf-8"))["windows"][window][0]
                    with pq.ParquetFile(self._work / f"{number:08d}.parquet") as file:
                        part: pa.Table = file.read_row_group(place)
                    rows += part.num_rows
                    for private, names in _divided(part.column_names, personal).items():
                        if private not in writers:
                            path = self.directory / f"{_file(window, private)}.new"
                            writers[private] = pq.ParquetWriter(path, part.select(names).schema)
                        writers[private].write_table(part.select(names))
            finally:
                for writer in writers.values():
                    writer.close()
            for private in sorted(writers):
                path = self.directory / _file(window, private)
                os.replace(path.with_name(f"{path.name}.new"), path)  # the manifest's digest says whether it is whole
                yield Partition(window, path.name, rows, path.stat().st_size, digest(path), private)

    def finish(self, manifest: dict[str, Any]) -> None:
        """Write the manifest and remove the pieces. Raises OSError."""
        write_whole(self.directory / MANIFEST, json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False) + "\n")
        shutil.rmtree(self._work, ignore_errors=True)

    @property
    def _work(self) -> Path:
        return self.directory / WORK


@contextmanager
def held(root: Path, key: str) -> Iterator[Job]:
    """The job `key` below `root`, for this run alone; a run that dies lets go of it. Raises SkillError when another run
    has it, OSError when the directory cannot be made."""
    directory = root / key
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SkillError(f"another run works on backfill {key}", "wait for it; this one is tried again") from None
        yield Job(directory)


def read_window(directory: Path, partitions: Sequence[Partition], most: int) -> pd.DataFrame:
    """At most about `most` rows of one window, spread evenly, with the columns of all its files."""
    import pandas as pd
    import pyarrow.parquet as pq

    parts = []
    for partition in partitions:
        step = max(1, partition.rows // most)
        taken = []
        start = 0
        with pq.ParquetFile(directory / partition.file) as file:
            for batch in file.iter_batches(batch_size=20_000):
                frame = batch.to_pandas()
                taken.append(frame.iloc[-start % step :: step])
                start += len(frame)
        parts.append(pd.concat(taken, ignore_index=True).drop(columns=ROW))
    whole: pd.DataFrame = pd.concat(parts, axis=1)
    return whole


def digest(path: Path) -> str:
    """The SHA-256 of a file. Raises OSError."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _divided(names: Sequence[str], personal: Sequence[str]) -> dict[bool, list[str]]:
    """The columns of the two files of a window: others, and personal ones; each has the row's place."""
    private = [name for name in names if name in personal]
    plain = [name for name in names if name not in personal and name != ROW]
    found = {False: [ROW, *plain]} if plain else {}
    return found | ({True: [ROW, *private]} if private else {})


def _file(window: str, private: bool) -> str:
    return f"{window}{PERSONAL if private else ''}.parquet"


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all. Raises OSError."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(text, "utf-8")
    _settle(draft, path)


def _settle(draft: Path, path: Path) -> None:
    """Make the draft the file, whole or not at all, also when the machine stops."""
    descriptor = os.open(draft, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(draft, path)
