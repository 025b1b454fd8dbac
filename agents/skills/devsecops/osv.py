"""An advisory database in the OSV format (https://ossf.github.io/osv-schema/), read from a file and asked offline.

Which file it is, the settings say: a ZIP of JSON records as OSV publishes for each ecosystem (`all.zip`), or one JSON
file with a list of records. How old it is follows from its newest record, so copying or touching the file does not
make it younger.
"""

from __future__ import annotations

import json
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from agents.skill import InputError
from agents.skills.devsecops.distributions import normalised

MAX_BYTES = 2_000_000_000
MAX_RECORD = 5_000_000
ECOSYSTEM = "PyPI"
_REMEDY = "fetch the database anew, and name it in the setting `advisories`"


@dataclass(frozen=True)
class Hit:
    """An advisory that is about a version in use. `fixed` are versions from which on it is repaired."""

    advisory: str
    aliases: tuple[str, ...]
    name: str
    version: str
    severity: str
    summary: str
    fixed: tuple[str, ...]


@dataclass(frozen=True)
class Database:
    """The records about Python distributions, by normalised name."""

    newest: datetime
    """When the newest record was last changed."""
    records: int
    _by_name: Mapping[str, Sequence[Mapping[str, Any]]]

    def age_days(self, now: datetime) -> float:
        """Days since the newest record."""
        return (now - self.newest).total_seconds() / 86400.0

    def about(self, name: str, version: str) -> list[Hit]:
        """The advisories about this version, one for each flaw. Raises ValueError when it is no version (PEP 440)."""
        from packaging.version import Version

        asked, found, seen = Version(version), [], set[str]()
        for record in self._by_name.get(normalised(name), ()):
            affected = [each for each in _affected(record) if normalised(each["package"]["name"]) == normalised(name)]
            known = {str(record["id"]), *map(str, record.get("aliases") or ())}
            if known & seen or not any(_holds(each, asked, version) for each in affected):
                continue
            seen |= known
            fixed = sorted(
                {
                    event["fixed"]
                    for each in affected
                    for events in _ranges(each)
                    for event in events
                    if "fixed" in event
                }
            )
            found.append(
                Hit(
                    str(record["id"]), tuple(sorted(known - {str(record["id"])})), name, version, _severity(record),
                    str(record.get("summary") or record.get("details") or "")[:300], tuple(fixed),
                )
            )  # fmt: skip
        return found


def read_database(path: Path, now: datetime) -> Database:
    """The database in `path`. Raises InputError when it cannot be read, is empty, or has records of the future."""
    by_name: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    newest, count = None, 0
    try:
        for record in _records(path):
            count += 1
            changed = datetime.fromisoformat(str(record["modified"]))
            if changed.tzinfo is None:
                raise ValueError(f"{record['id']} has a date without a zone")
            newest = changed if newest is None else max(newest, changed)
            if record.get("withdrawn") is None:
                for name in {normalised(each["package"]["name"]) for each in _affected(record)}:
                    by_name[name].append(record)
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError, RecursionError) as problem:
        reason = f"{type(problem).__name__}: {str(problem)[:200]}"
        raise InputError(f"advisory database {path.name} cannot be read: {reason}", _REMEDY) from problem
    if newest is None:
        raise InputError(f"advisory database {path.name} has no record", _REMEDY)
    if newest > now + timedelta(days=1):
        raise InputError(f"advisory database {path.name} has a record of {newest:%Y-%m-%d}, in the future", _REMEDY)
    return Database(newest, count, by_name)


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    if not zipfile.is_zipfile(path):
        found = json.loads(path.read_bytes())
        if not isinstance(found, list):
            raise ValueError("it is neither a ZIP of records nor a JSON list of them")
        yield from found
        return
    left = MAX_BYTES
    with zipfile.ZipFile(path) as packed:
        for info in packed.infolist():
            if not info.filename.endswith(".json"):
                continue
            left -= info.file_size
            if info.file_size > MAX_RECORD or left < 0:
                raise ValueError(f"{info.filename[:80]} is too large")
            with packed.open(info) as member:
                yield json.loads(member.read(info.file_size))


def _affected(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        each
        for each in record.get("affected") or ()
        if str((each.get("package") or {}).get("ecosystem", "")).partition(":")[0] == ECOSYSTEM
    ]


def _ranges(affected: Mapping[str, Any]) -> list[list[Mapping[str, str]]]:
    return [each["events"] for each in affected.get("ranges") or () if each.get("type") in ("ECOSYSTEM", "SEMVER")]


def _holds(affected: Mapping[str, Any], asked: Any, text: str) -> bool:
    """Whether the version is one of those listed, or within a range, as the schema's own rule has it."""
    from packaging.version import InvalidVersion, Version

    if text in (affected.get("versions") or ()):
        return True

    def place(event: Mapping[str, str]) -> Any:
        value = next(iter(event.values()))
        return Version("0.dev0") if value == "0" else Version(value)

    for events in _ranges(affected):
        inside = False
        try:
            for event in sorted(events, key=place):
                if "introduced" in event:
                    inside = inside or asked >= place(event)
                elif "fixed" in event:
                    inside = inside and asked < place(event)
                elif "last_affected" in event:
                    inside = inside and asked <= place(event)
        except InvalidVersion:
            inside = not affected.get("versions")  # it cannot be told: better named than passed over
        if inside:
            return True
    return False


def _severity(record: Mapping[str, Any]) -> str:
    named = (record.get("database_specific") or {}).get("severity")
    scores = [str(each.get("score")) for each in record.get("severity") or ()]
    return str(named or (scores[0] if scores else "not stated"))[:80]
