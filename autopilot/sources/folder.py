"""A folder as a backlog: one Markdown file with front matter for each ticket."""

from __future__ import annotations

import hashlib
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import anyio.to_thread

from autopilot.frontmatter import TicketError, parse_ticket
from autopilot.plainyaml import MAX_BYTES
from autopilot.sources.port import BacklogError, Entry, Snapshot

_HOW = "put a Markdown file for each ticket there (docs/tickets.md describes it; `valuetrain init` writes a first one)"
_Known = dict[tuple[str, int, int, int], Entry | str]


class FolderBacklog:
    """Tickets from the `*.md` files below a directory.

    `README.md`, and files and folders that begin with `.` or `_`, are ignored. What has not changed since the last
    snapshot is not parsed again.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._known: _Known = {}

    @property
    def name(self) -> str:
        """`folder:` and the path as it was given."""
        return f"folder:{self.directory}"

    async def snapshot(self) -> Snapshot:
        """See `Backlog.snapshot`. Reads in a thread."""
        return await anyio.to_thread.run_sync(self.read)

    def read(self) -> Snapshot:
        """The same, blocking. Raises BacklogError."""
        if not self.directory.exists():
            raise BacklogError(f"there is no backlog folder {self.directory}; make it, then {_HOW}")
        if not self.directory.is_dir():
            raise BacklogError(f"{self.directory} is a file, not a backlog folder; name the folder it lies in")
        fresh: _Known = {}
        by_number: dict[int, list[Entry]] = {}
        unreadable = {}
        for path in self._files():
            name = path.relative_to(self.directory).as_posix()
            found = self._look(path, name, fresh)
            if isinstance(found, str):
                unreadable[name] = found
            else:
                by_number.setdefault(found.ticket.id, []).append(found)
        self._known = fresh
        entries = {}
        for number, same in sorted(by_number.items()):
            if len(same) == 1:
                entries[number] = same[0]
                continue
            names = [entry.source for entry in same]
            for name in names:
                others = ", ".join(other for other in names if other != name)
                unreadable[name] = f"`id` {number} is also the id of {others}; give each ticket a number of its own"
        empty = not entries and not unreadable
        hint = f"the backlog folder {self.directory} holds no ticket; {_HOW}" if empty else ""
        return Snapshot(self.name, entries, dict(sorted(unreadable.items())), hint)

    def _files(self) -> list[Path]:
        """Candidate files, sorted; linked directories are not entered."""
        found = []

        def refuse(problem: OSError) -> None:
            raise BacklogError(f"{problem.filename} cannot be read ({problem.strerror}); check who may read it")

        for where, folders, files in os.walk(self.directory, onerror=refuse):
            folders[:] = [folder for folder in folders if folder[0] not in "._"]
            for file in files:
                if file.lower().endswith(".md") and file.lower() != "readme.md" and file[0] not in "._":
                    found.append(Path(where, file))
        return sorted(found)

    def _look(self, path: Path, name: str, fresh: _Known) -> Entry | str:
        """The ticket in a file, or why there is none."""
        try:
            if not path.resolve(strict=True).is_relative_to(self.directory.resolve()):
                return "is a link that leads out of the backlog folder; put the file itself there"
            state = path.stat()
            if not stat.S_ISREG(state.st_mode):
                return "is not a plain file; replace it by one"
            if state.st_size > MAX_BYTES:
                return f"is larger than {MAX_BYTES // 1000} kB; keep data out of the ticket and name its file"
            key = (name, state.st_ino, state.st_size, state.st_mtime_ns)
            if key not in self._known:
                self._known[key] = self._parse(path, name, state.st_mtime)
            fresh[key] = self._known[key]
            return fresh[key]
        except FileNotFoundError:
            return "leads nowhere; remove the link or put the file back"
        except (OSError, RuntimeError) as problem:  # RuntimeError: links in a circle
            why = problem.strerror if isinstance(problem, OSError) else problem
            return f"cannot be read ({why}); check the file and who may read it"

    def _parse(self, path: Path, name: str, edited: float) -> Entry | str:
        raw = path.read_bytes()
        try:
            ticket = parse_ticket(raw.decode("utf-8"), name)
        except UnicodeDecodeError as problem:
            line = raw.count(b"\n", 0, problem.start) + 1
            return f"line {line}: is not UTF-8 text; save the file as UTF-8"
        except TicketError as problem:
            return problem.reason
        return Entry(ticket, hashlib.sha256(raw).hexdigest(), datetime.fromtimestamp(edited, UTC), name)
