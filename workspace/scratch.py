"""Temporary directories that outlive their process only until another one of ours wants one."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "value-train-scratch-"
YOUNG = 60.0
"""Seconds after its last change in which a directory that nobody holds may be one whose process is about to hold it."""


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty directory of one's own where temporary files go, removed at the end.

    One whose process was killed, or that something still writes into, stays; the next process that asks for one removes
    it. Raises OSError when none can be made.
    """
    _sweep_once()
    made = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
    with made as name, contextlib.ExitStack() as held:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
        held.callback(os.close, descriptor)
        with contextlib.suppress(OSError):  # a file system without locks: then nobody can take it for abandoned either
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield Path(name)


def sweep() -> None:
    """Remove the directories of processes that are gone: ours, not held, not young. What cannot be removed stays."""
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(entry.path)


@functools.cache
def _sweep_once() -> None:
    sweep()


def _remove_if_abandoned(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = os.fstat(descriptor)
        if found.st_uid == os.geteuid() and time.time() - found.st_mtime > YOUNG:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)
