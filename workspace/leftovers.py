"""Working directories of attempts: each is held by a lock for as long as the attempt's process lives.

A lock ends with its process, whatever ends that. So a directory that nobody holds is one whose holder is proven dead or
done, and goes, except where an attempt failed: what is in there is kept for people to look at. A conversation with a
model, and what a skill had computed, wait there for the next holder of their phase, who takes them over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

FAILED = "why-it-failed.txt"
CONVERSATION = "planner"
"""The folder of a conversation that goes on when its holder has died."""
KEPT = "kept"
"""The folder of what skills had computed, from which they go on."""
YOUNG = 60.0
"""Seconds in which a directory whose name begins with a dot may be one that is about to be held."""


@contextlib.contextmanager
def held(directory: Path) -> Iterator[Path]:
    """Make `directory` and hold it while the context is open. It gets its name when it is held, so nobody finds it
    unheld before. Where it cannot be made, whoever writes into it will say so."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            shutil.rmtree(directory, ignore_errors=True)
            coming = directory.with_name(f".{directory.name}")
            coming.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(coming, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            with contextlib.suppress(OSError):  # a file system without locks: nobody can take it for abandoned either
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            coming.rename(directory)
        yield directory


def keep(directory: Path, reason: str) -> None:
    """Keep the directory of an attempt that failed, if there is one. Raises OSError."""
    if directory.is_dir():
        (directory / FAILED).write_text(f"{reason}\n", "utf-8")


def clear_dead(attempts: Path) -> tuple[Path, ...]:
    """Remove what attempts below `attempts` (a folder for each session) left behind that nobody holds; what was
    removed. What cannot be removed stays for the next time."""
    found = [path for path in attempts.glob("*/*") if path.is_dir() and not path.is_symlink()]
    return tuple(path for path in sorted(found) if _removed(path))


def _removed(directory: Path) -> bool:
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        stack.callback(os.close, descriptor)
        coming = directory.name.startswith(".") and time.time() - os.fstat(descriptor).st_mtime < YOUNG
        if coming or any((directory / name).exists() for name in (FAILED, CONVERSATION, KEPT)):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
        return not directory.exists()
    return False
