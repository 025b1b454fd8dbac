"""A file system that is really full: a small one in memory, mounted in a mount namespace of the test's own."""

from __future__ import annotations

import subprocess
import sys
import warnings
from contextlib import closing
from pathlib import Path

import pytest

from store import sqlite_backup
from store.port import Appended, StoreUnavailable
from store.sqlite import SqliteStore
from tests.conformance.store import ONE, append
from tests.store.child import ROOT
from workspace.blobs import Blobs, BlobStorageFull

MOUNT = 'mount -t tmpfs -o size=4m tmpfs "$1" && shift && exec "$@"'
IN_NAMESPACE = ["unshare", "--map-root-user", "--mount", "sh", "-c", MOUNT, "sh"]


def test_a_full_disk_loses_nothing_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    try:
        allowed = subprocess.run([*IN_NAMESPACE, place, "true"], capture_output=True, text=True, check=False)
        refusal = allowed.stderr if allowed.returncode else ""
    except FileNotFoundError as problem:
        refusal = str(problem)
    if refusal:
        warnings.warn(
            f"the kernel allows no mount namespace here ({refusal.strip()}): a full disk is tried only with a limit on "
            "the size of files (tests/store/test_crashes.py)",
            stacklevel=1,
        )
        return
    command = [*IN_NAMESPACE, place, sys.executable, "-m", "tests.integration.test_full_disk", place]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("kept "), done.stdout
    assert not list(place.iterdir()), "it was mounted for that process alone"


def _in_the_small_place(place: Path) -> int:
    """Fill the disk under a record, try everything that writes, make room, go on. How many events were acknowledged."""
    ballast, record, blobs = place / "ballast", place / "record.db", Blobs(place / "blobs")
    kept, _ = blobs.put(b"kept")
    with closing(SqliteStore.open(record)) as store:
        acknowledged = 0

        def fill() -> None:
            nonlocal acknowledged
            while True:
                store.append(append(ONE, acknowledged))
                acknowledged += 1

        store.append(append(ONE, 0))
        acknowledged = 1
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(bytes(8 << 20))
        with pytest.raises(StoreUnavailable, match="free space"):
            fill()
        before = sorted(p for p in place.rglob("*") if p.is_file())
        with pytest.raises(StoreUnavailable, match=r"backup\.db|cannot be read or written"):
            sqlite_backup.backup(record, place / "backup.db")
        with pytest.raises(BlobStorageFull):
            blobs.put(bytes(1 << 20))
        assert sorted(p for p in place.rglob("*") if p.is_file() and not p.name.endswith("-shm")) == [
            p for p in before if not p.name.endswith("-shm")
        ]
        assert len(list(store.read(ONE))) == acknowledged
        ballast.unlink()
        assert isinstance(store.append(append(ONE, acknowledged)), Appended)
        assert store.verify().findings == ()
    assert sqlite_backup.backup(record, place / "backup.db").events == acknowledged + 1
    assert blobs.read(kept) == b"kept"
    return acknowledged


if __name__ == "__main__":
    print("kept", _in_the_small_place(Path(sys.argv[1])))
