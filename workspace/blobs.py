"""Artifacts by content: a file's name is the SHA-256 of its bytes, so it cannot be changed or mixed up unnoticed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import tempfile
import time
from pathlib import Path
from typing import IO

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20
_INCOMING = ".incoming-"

STRAY_SECONDS = 60.0
"""How long ago a draft was written to before it counts as left behind by a process that died. A living one holds a lock
on its draft as well, from a moment after it was made."""


class BlobError(Exception):
    """Base of what can go wrong with a blob. `problem` names it and the reason, `remedy` says what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


class BlobMissing(BlobError):
    """No blob with this digest is stored."""


class BlobCorrupt(BlobError):
    """The stored bytes no longer have the digest they are filed under."""


class BlobStorageFull(BlobError):
    """The disk or the quota is used up; nothing was stored."""


class Blobs:
    """A directory of immutable files, each filed under its SHA-256.

    Sealed blobs (hold-out labels) lie in `sealed/`, which only the owner may enter (0700); the others in `open/`.
    Whoever stages files for an agent asks for open blobs only, so a sealed digest alone opens nothing.
    Files are 0444: a skill that is handed the path itself cannot rewrite history by accident.
    Safe for several processes at once: equal content is equal, and a rename replaces a file by its equal.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, content: bytes | Path, *, sealed: bool = False) -> tuple[str, int]:
        """Store `content` (bytes, or the file at a path) durably; returns its SHA-256 and size in bytes.

        When this returns, the bytes and their name have reached the disk. Storing what is already there writes nothing,
        unless the stored copy is damaged: then it is replaced by the good one.
        Raises BlobStorageFull, and OSError for a path that cannot be read.
        """
        root = self._root(sealed)
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(dir=root, prefix=_INCOMING, delete=False) as temporary:
                try:
                    fcntl.flock(temporary, fcntl.LOCK_EX)  # goes with the process: see `sweep`
                    sha256, size = _copy(content, temporary)
                    temporary.flush()
                    os.fchmod(temporary.fileno(), 0o400 if sealed else 0o444)
                    os.fsync(temporary.fileno())
                    self._file(temporary.name, root / sha256[:2] / sha256, sha256)
                except BaseException:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(temporary.name)
                    raise
        except OSError as problem:
            if problem.errno in (errno.ENOSPC, errno.EDQUOT):
                raise BlobStorageFull(
                    f"no space left to store an artifact below {self.directory}",
                    "free some space there and drive again; nothing half-written was kept",
                ) from problem
            raise
        return sha256, size

    def sweep(self) -> int:
        """Remove the drafts of processes that died while storing something; how many there were.

        One that somebody is writing is left alone, and so is one that was written to in the last minute.
        """
        swept = 0
        for draft in [draft for root in map(self._root, (False, True)) for draft in root.glob(f"{_INCOMING}*")]:
            with contextlib.suppress(FileNotFoundError), draft.open("rb") as file:  # gone: stored, or swept elsewhere
                if time.time() - os.fstat(file.fileno()).st_mtime < STRAY_SECONDS:
                    continue
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                draft.unlink()
                swept += 1
        return swept

    def path(self, sha256: str, *, sealed: bool = False) -> Path:
        """The read-only file of a blob. Raises BlobMissing. Does not check the content: see `verify`."""
        path = self._location(sha256, sealed)
        if not path.is_file():
            raise BlobMissing(
                f"artifact {sha256[:12]}… is not stored in {path.parent.parent}",
                "restore the directory from a backup, or roll the session back to before the phase that made it",
            )
        return path

    def has(self, sha256: str, *, sealed: bool = False) -> bool:
        """Whether a blob with this digest is stored."""
        return self._location(sha256, sealed).is_file()

    def read(self, sha256: str, *, sealed: bool = False) -> bytes:
        """The blob's bytes, checked against the digest. Raises BlobMissing or BlobCorrupt."""
        content = self.path(sha256, sealed=sealed).read_bytes()
        self._check(sha256, hashlib.sha256(content).hexdigest(), sealed)
        return content

    def verify(self, sha256: str, *, sealed: bool = False) -> int:
        """Read the whole blob and compare; returns its size in bytes. Raises BlobMissing or BlobCorrupt."""
        path = self.path(sha256, sealed=sealed)
        self._check(sha256, _digest(path), sealed)
        return path.stat().st_size

    def _root(self, sealed: bool) -> Path:
        return self.directory / ("sealed" if sealed else "open")

    def _location(self, sha256: str, sealed: bool) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"not a SHA-256 in lower-case hexadecimal: {sha256!r}")
        return self._root(sealed) / sha256[:2] / sha256

    def _check(self, sha256: str, actual: str, sealed: bool) -> None:
        if actual != sha256:
            raise BlobCorrupt(
                f"artifact {sha256[:12]}… is damaged: its bytes now have the digest {actual[:12]}… "
                f"({self._location(sha256, sealed)})",
                "check the disk and restore the file from a backup; storing the original again repairs it",
            )

    def _file(self, temporary: str, final: Path, sha256: str) -> None:
        """Move a finished temporary file to its name. The rename is what makes it exist: all of it or nothing."""
        if final.is_file() and _digest(final) == sha256:
            os.unlink(temporary)
            return
        shelf = final.parent
        fresh = not shelf.is_dir()
        shelf.mkdir(mode=0o700, exist_ok=True)
        os.replace(temporary, final)
        _sync_directory(shelf)
        if fresh:
            _sync_directory(shelf.parent)


def _copy(content: bytes | Path, target: IO[bytes]) -> tuple[str, int]:
    """Write `content` to `target`; returns digest and size of what was written."""
    if isinstance(content, bytes):
        target.write(content)
        return hashlib.sha256(content).hexdigest(), len(content)
    digest, size = hashlib.sha256(), 0
    with content.open("rb") as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            size += target.write(chunk)
    return digest.hexdigest(), size


def _digest(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _sync_directory(directory: Path) -> None:
    """A rename is on the disk only once its directory is."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
