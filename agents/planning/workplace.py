"""Where an attempt's conversation keeps its files: taken over from a run of the same attempt that was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from workspace.checkout import CleanCheckout
from workspace.leftovers import CONVERSATION

_DONE = "ready"


@dataclass
class Workplace:
    """`attempt` is the attempt's directory, `PHASE-ATTEMPT-LEASE`. What an earlier holder, or an attempt that was lost,
    left in one of the same phase is taken over; an attempt that ended for a reason leaves nothing to take (`close`)."""

    attempt: Path
    phase: str

    @cached_property
    def directory(self) -> Path:
        """The conversation's own directory. A dead holder's is moved, never shared: should he live after all, what he
        does next fails."""
        own = self.attempt / CONVERSATION
        if not own.exists():
            self.attempt.mkdir(parents=True, exist_ok=True, mode=0o700)
            for other in self._others():
                with contextlib.suppress(OSError):  # he had none, or another took it
                    os.rename(other / CONVERSATION, own)
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

    def close(self) -> None:
        """Nothing goes on from here: what is there is kept for people only."""
        own = self.attempt / CONVERSATION
        if own.exists():
            shutil.rmtree(self.attempt / "planner-ended", ignore_errors=True)
            os.rename(own, self.attempt / "planner-ended")

    def _others(self) -> list[Path]:
        """Directories of the same phase, the newest lease first: leases only grow."""
        found = []
        for place in self.attempt.parent.glob(f"{self.phase}-*-*"):
            attempt, _, lease = place.name.removeprefix(f"{self.phase}-").partition("-")
            if place != self.attempt and attempt.isdigit() and lease.isdigit():
                found.append((int(lease), place))
        return [place for _, place in sorted(found, reverse=True)]
