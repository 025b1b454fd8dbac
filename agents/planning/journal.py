"""What tools gave in an attempt's conversation so far, on the disk: an agent that was killed goes on where it was.

One JSON document a line, in the order in which things happened. The model's replies are not in it: the record has them,
and gives them to whoever asks the same again. The same is asked only if every observation is the same to the byte, and
what a command prints (times, addresses) never is twice: that is what this is for. It lies beside the files the tools
work on and dies with them.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any


class Journal:
    """The lines of one conversation; `path` may hold those of an attempt that was killed."""

    def __init__(self, path: Path, task: str) -> None:
        """`task` is a digest of what the model was told to do: a journal of another task is not believed."""
        self._path, self._at = path, 1
        known, first = _lines(path), {"task": task}
        self._entries: list[dict[str, Any]] = known if known and known[0] == first else [dict(first)]
        self._rewrite()  # without a torn last line, which would become the beginning of the next one

    def next_is(self, kind: str, of: str) -> dict[str, Any] | None:
        """What an earlier run wrote down next, if it was of `kind` and about `of` (a digest of what was asked)."""
        if self._at >= len(self._entries):
            return None
        entry = self._entries[self._at]
        if (entry.get("kind"), entry.get("of")) != (kind, of):
            return None
        self._at += 1
        value: dict[str, Any] = entry["value"]
        return value

    def add(self, kind: str, of: str, value: dict[str, Any]) -> None:
        """Write down what happened. Had an earlier run gone another way from here on, that is forgotten."""
        if self._at < len(self._entries):
            del self._entries[self._at :]
            self._rewrite()
        self._entries.append({"kind": kind, "of": of, "value": value})
        self._at = len(self._entries)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self._entries[-1]) + "\n")

    def _rewrite(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".new")
        draft.write_text("".join(json.dumps(each) + "\n" for each in self._entries), "utf-8")
        os.replace(draft, self._path)


def _lines(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text("utf-8", "replace").split("\n")[:-1]:
            try:
                found.append(json.loads(line))
            except ValueError:
                break  # torn by a crash: what comes after it belongs to nothing
    return found
