"""Backfilled inputs past their days: found, shown, and removed with a line in a journal for each file.

A partition is no artifact: the record names it by its digest, and the same ticket makes it again. What a session was
started on is left alone, whatever its age. The journal is a chain: each line has the digest of the one before.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from agents.skill import SkillError
from agents.skills.feature.partitions import MANIFEST, WORK, digest, held, write_whole
from cli.errors import CliError
from cli.reading import Record
from schemas.envelope import StreamId
from schemas.session import WorkReported
from workspace.blobs import BlobError, Blobs

JOURNAL = "removed.jsonl"
_JOB = re.compile(r"[0-9a-f]{16}")
_FILE = re.compile(r"[\w.-]+\.parquet")
_FIRST = "0" * 64


@dataclass(frozen=True)
class Past:
    """A file past its days, or the unfinished work of a job (`file` is empty). `kept` says why it stays anyway."""

    job: str
    file: str
    rows: int
    bytes: int
    sha256: str
    personal: bool
    made: str
    days: int
    kept: str = ""

    @property
    def sentence(self) -> str:
        """For people."""
        what = f"{self.job}/{self.file}" if self.file else f"{self.job}: the pieces of a run that did not end"
        kind = "personal data, " if self.personal else ""
        text = f"{what}: {kind}{self.rows:,} rows, {self.bytes:,} bytes, made {self.made[:10]}, kept {self.days} days"
        return f"{text}; stays: {self.kept}" if self.kept else text


def past_their_days(root: Path, days: int, personal_days: int, now: datetime, used: dict[str, str]) -> list[Past]:
    """What is past its days below `root`, by job and file. `used` are digests with who refers to them.

    Raises CliError for a manifest that cannot be read.
    """
    found: list[Past] = []
    for directory in _jobs(root):
        path = directory / MANIFEST
        work = directory / WORK
        if work.is_dir():
            newest = max((each.stat().st_mtime for each in work.iterdir()), default=work.stat().st_mtime)
            made = datetime.fromtimestamp(newest, tz=now.tzinfo)
            if now - made > timedelta(days=personal_days):
                size = sum(each.stat().st_size for each in work.iterdir())
                found.append(Past(directory.name, "", 0, size, "", True, made.isoformat(), personal_days))
        if not path.exists():
            continue
        manifest = _manifest(path)
        made = datetime.fromisoformat(manifest["made"])
        for each in manifest["partitions"]:
            limit = min(personal_days if each["personal"] else days, int(manifest.get("keep_days") or days))
            if now - made > timedelta(days=limit):
                found.append(
                    Past(
                        directory.name, each["file"], each["rows"], each["bytes"], each["sha256"], each["personal"],
                        manifest["made"], limit, used.get(each["sha256"], ""),
                    )
                )  # fmt: skip
    return found


def remove(root: Path, found: list[Past], now: datetime) -> list[Past]:
    """Remove what is not kept, a line in the journal before each; returns what was removed. Raises CliError when the
    journal is not whole or a job is being worked on, OSError."""
    removed: list[Past] = []
    last = check_journal(root)
    for job in sorted({each.job for each in found if not each.kept}):
        try:
            with held(root, job):
                for each in (item for item in found if item.job == job and not item.kept):
                    last = _remove(root, each, now, last)
                    removed.append(each)
        except SkillError as problem:
            raise CliError(f"{problem}; {len(removed)} files were removed before") from problem
    return removed


def _remove(root: Path, each: Past, now: datetime, last: str) -> str:
    """Journal, file, manifest, in this order: a removal that was cut off is finished by the next, and is in the journal
    in any case."""
    directory = root / each.job
    path = directory / each.file
    if each.file and not path.exists():
        _drop(directory, each)
        return last
    line = {
        "time": now.isoformat(), "by": getpass.getuser(), "job": each.job, "file": each.file, "rows": each.rows,
        "bytes": each.bytes, "sha256": digest(path) if each.file else "", "expected": each.sha256,
        "reason": f"made {each.made}, kept {each.days} days", "before": last,
    }  # fmt: skip
    text = json.dumps(line, sort_keys=True)
    with (root / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write(text + "\n")
        journal.flush()
        os.fsync(journal.fileno())
    if each.file:
        path.unlink()
        _drop(directory, each)
    else:
        shutil.rmtree(directory / WORK)
    return hashlib.sha256(text.encode()).hexdigest()


def _drop(directory: Path, each: Past) -> None:
    """The manifest without the partition, which it lists as removed."""
    manifest = _manifest(directory / MANIFEST)
    gone = [item for item in manifest["partitions"] if item["file"] == each.file]
    manifest["partitions"] = [item for item in manifest["partitions"] if item["file"] != each.file]
    manifest["removed"] = [*manifest.get("removed", ()), *gone]
    write_whole(directory / MANIFEST, json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def check_journal(root: Path) -> str:
    """The digest of the journal's last line. Raises CliError naming the line that does not follow from the one before,
    after which nothing is removed."""
    last = _FIRST
    path = root / JOURNAL
    if not path.exists():
        return last
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            before = json.loads(line)["before"]
        except (ValueError, KeyError, TypeError):
            before = None
        if before != last:
            raise CliError(
                f"{path}: line {number} does not follow from the one before: it was changed, or lines are missing; "
                "nothing was removed: restore the file from a backup, or move it away and keep it"
            )
        last = hashlib.sha256(line.encode()).hexdigest()
    return last


def used_by(record: Record, blobs: Blobs) -> dict[str, str]:
    """Digests that the record's artifacts have, or name as the source of their rows, each with the session.

    Raises CliError when an artifact that may name one cannot be read: then nobody knows what is used.
    """
    found: dict[str, str] = {}
    for row in record.sessions():
        name = str(row["session"])
        stream = StreamId(record.tenant, "session", name)
        for envelope in record.store.read(stream, 0, record.store.version(stream)):
            if not isinstance(envelope.event, WorkReported):
                continue
            for ref in envelope.event.artifacts:
                found[ref.sha256] = f"it is an artifact of session {name}"
                if ref.name != "data-source.json" or ref.sealed:
                    continue
                try:
                    source = json.loads(blobs.read(ref.sha256))["sha256"]
                except (BlobError, OSError, ValueError, KeyError, TypeError) as problem:
                    raise CliError(
                        f"data-source.json of session {name} cannot be read ({str(problem)[:150]}): whether it was "
                        "made from a backfill is not known, so nothing is removed"
                    ) from problem
                found[str(source)] = f"session {name} was made from it"
    return found


def _jobs(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from sorted(each for each in root.iterdir() if each.is_dir() and _JOB.fullmatch(each.name))


def _manifest(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        datetime.fromisoformat(found["made"])
        for each in found["partitions"]:
            if not _FILE.fullmatch(each["file"]):
                raise ValueError(f"{each['file']!r} is no name of a partition")
            _ = int(each["rows"]), int(each["bytes"]), str(each["sha256"]), bool(each["personal"])
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise CliError(f"{path} cannot be read: {str(problem)[:150]}; remove the folder by hand") from problem
    return found
