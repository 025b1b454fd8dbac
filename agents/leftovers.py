"""What an attempt leaves for the next one of its phase: taken over if its holder was killed, never shared with him."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def take_over(attempt: Path, phase: str, name: str) -> Path:
    """The attempt's own folder `name`, made if need be. `attempt` is its directory, `PHASE-ATTEMPT-LEASE`.

    What an earlier holder, or an attempt that was lost, left in one of the same phase becomes its content. A dead
    holder's is moved: should he live after all, what he does next fails.
    """
    own = attempt / name
    if not own.exists():
        attempt.mkdir(parents=True, exist_ok=True, mode=0o700)
        for other in _others(attempt, phase):
            with contextlib.suppress(OSError):  # he had none, or another took it
                os.rename(other / name, own)
                break
    own.mkdir(exist_ok=True, mode=0o700)
    return own


def _others(attempt: Path, phase: str) -> list[Path]:
    """Directories of the same phase, the newest lease first: leases only grow."""
    found = []
    for place in attempt.parent.glob(f"{phase}-*-*"):
        number, _, lease = place.name.removeprefix(f"{phase}-").partition("-")
        if place != attempt and number.isdigit() and lease.isdigit():
            found.append((int(lease), place))
    return [place for _, place in sorted(found, reverse=True)]
