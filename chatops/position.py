"""How far comments were heard, remembered on disk: a crash costs a repeat, which does nothing twice."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

OVERLAP = timedelta(seconds=60)
"""How far back each look goes: GitHub may list a comment a moment after a younger one."""


class BadPosition(Exception):
    """The file cannot be used; the message says what to do."""


@dataclass(slots=True)
class Position:
    """Comments changed up to `until` were heard, and those in `heard` (number to the time of their last change)."""

    path: Path
    until: datetime
    heard: dict[int, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, start: datetime) -> Position:
        """What was remembered, or to begin at `start`. Raises BadPosition."""
        try:
            content = json.loads(path.read_text("utf-8"))
            until = datetime.fromisoformat(content["until"]).astimezone(UTC)
            return cls(path, until, {int(number): str(changed) for number, changed in content["heard"].items()})
        except FileNotFoundError:
            return cls(path, start)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise BadPosition(
                f"{path} cannot be read ({problem}); remove it: comments are then heard again from the oldest open "
                f"session on, and what was done is not done twice"
            ) from problem

    @property
    def since(self) -> datetime:
        """Where the next look begins."""
        return self.until - OVERLAP

    def knows(self, number: int, changed: datetime) -> bool:
        """Whether the comment was heard as it is."""
        return self.heard.get(number) == changed.isoformat()

    def note(self, number: int, changed: datetime, *, reached: bool) -> None:
        """The comment was heard; `reached`: and all that changed before it. On disk when this returns."""
        self.heard[number] = changed.isoformat()
        if reached and changed > self.until:
            self.until = changed
            self.heard = {each: when for each, when in self.heard.items() if datetime.fromisoformat(when) >= self.since}
        write(self.path, {"until": self.until.isoformat(), "heard": self.heard})


def write(path: Path, content: object) -> None:
    """Replace the file with `content` as JSON: whole or not at all, whatever happens meanwhile. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    with open(new, "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
