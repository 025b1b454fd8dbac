"""What an attempt's conversation came to so far, on the disk: an agent that was killed goes on where it was.

One JSON document a line, in the order in which things happened: replies of the model and observations of tools. It lies
beside the files the tools work on and dies with them. It is not the record: that is the gateway's and the store's.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Awaitable, Callable
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

    @property
    def goes_on(self) -> bool:
        """Whether there is anything left of an earlier run that was not asked for yet."""
        return self._at < len(self._entries)

    async def once(self, kind: str, make: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """The next entry, of `kind`: from the journal if it is there, else made and written down."""
        if self.goes_on:
            entry = self._entries[self._at]
            if entry.get("kind") == kind:
                self._at += 1
                found: dict[str, Any] = entry["value"]
                return found
            del self._entries[self._at :]  # it went another way after all: from here on it is new
            self._rewrite()
        value = await make()
        self._entries.append({"kind": kind, "value": value})
        self._at = len(self._entries)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self._entries[-1]) + "\n")
        return value

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
