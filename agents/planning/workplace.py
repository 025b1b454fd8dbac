"""Where an attempt's conversation keeps its files: taken over from a run of the same attempt that was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from workspace.checkout import CleanCheckout

_DONE = "ready"


@dataclass
class Workplace:
    """`directory` is the attempt's, whose name ends with its lease; others of the same attempt begin with `name`."""

    attempt: Path
    name: str

    @cached_property
    def directory(self) -> Path:
        """The conversation's own directory. A dead holder's is moved, never shared: should he live after all, what he
        does next fails."""
        own = self.attempt / "planner"
        if not own.exists():
            self.attempt.mkdir(parents=True, exist_ok=True, mode=0o700)
            for other in self._others():
                with contextlib.suppress(OSError):  # he had none, or another took it
                    os.rename(other / "planner", own)
                    break
        own.mkdir(exist_ok=True, mode=0o700)
        return own

    def checkout(self, repository: Path, commit: str) -> CleanCheckout:
        """The files of `commit`, as an earlier run of the attempt left them. Raises GitError."""
        place = self.directory / "checkout"
        ready = place / _DONE
        if ready.is_file() and ready.read_text("utf-8") == commit:
            return CleanCheckout(place / "tree", commit, place / "git")
        shutil.rmtree(place, ignore_errors=True)
        made = CleanCheckout.create(repository, commit, place)
        ready.write_text(commit, "utf-8")
        return made

    def _others(self) -> list[Path]:
        """Directories of the same attempt under earlier leases, the newest first."""
        found = []
        for place in self.attempt.parent.glob(f"{self.name}-*"):
            lease = place.name.removeprefix(f"{self.name}-")
            if place != self.attempt and lease.isdigit():
                found.append((int(lease), place))
        return [place for _, place in sorted(found, reverse=True)]
