"""Working directories of attempts, each under the lease it works by: `PHASE-ATTEMPT-LEASE` in the session's directory.

Who is given a lease knows that every older one of the phase is dead: its holder may be gone or stand still, but the
conductor takes no report of it any more. What such a holder left behind goes then. The directories of attempts that
failed are kept, for people to look at.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

FAILED = "why-it-failed.txt"
_NAME = re.compile(r"(?P<phase>[a-z][a-z0-9-]*)-(?P<attempt>[0-9]+)-(?P<lease>[0-9]+)")


def place_of(session: Path, phase: str, attempt: int, lease: int) -> Path:
    """The directory of one attempt below that of its session."""
    return session / f"{phase}-{attempt}-{lease}"


def keep(directory: Path, reason: str) -> None:
    """Keep the directory of an attempt that failed, if there is one. Raises OSError."""
    if directory.is_dir():
        (directory / FAILED).write_text(f"{reason}\n", "utf-8")


def clear_dead(session: Path, phase: str, lease: int) -> tuple[Path, ...]:
    """Remove what older leases of the phase left behind, now that `lease` was given; what was removed. What cannot be
    removed stays for the next time."""
    gone = []
    with contextlib.suppress(FileNotFoundError):
        for directory in sorted(session.iterdir()):
            found = _NAME.fullmatch(directory.name)
            if found is None or found["phase"] != phase or int(found["lease"]) >= lease or directory.is_symlink():
                continue
            if not (directory / FAILED).exists():
                shutil.rmtree(directory, ignore_errors=True)
                if not directory.exists():
                    gone.append(directory)
    return tuple(gone)
