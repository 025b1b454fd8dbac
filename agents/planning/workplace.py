"""Where an attempt's conversation keeps its files: taken over from a run of the same attempt that was killed."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from agents.leftovers import take_over
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
        return take_over(self.attempt, self.phase, CONVERSATION)

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
