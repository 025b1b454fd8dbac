"""The files of a checkout, for a model: nothing outside of it is read or written, nothing protected is written."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from workspace.changes import LARGEST_FILE
from workspace.protected import is_protected
from workspace.sandbox.port import Contact

MOST_LISTED = 500
_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Never through a link that was put there a moment ago; never waiting for the other end of a pipe."""
_NOISE = frozenset({"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", "node_modules"})


class ToolError(Exception):
    """What a tool could not do; the model is told, and may try something else. `contacts` are the hosts it reached or
    tried to."""

    def __init__(self, reason: str, contacts: tuple[Contact, ...] = ()) -> None:
        super().__init__(reason)
        self.contacts = contacts


class ToolRefused(ToolError):
    """What a tool may not do, whoever asks. It is recorded."""


class Files:
    """The files below `root`. Nothing else may run there meanwhile."""

    def __init__(self, root: Path, reserved: str) -> None:
        """`reserved` is the folder, relative to `root`, in which only the train writes."""
        self.root = root.resolve()
        self._reserved = reserved

    def read(self, path: str) -> str:
        """The text of a file; what is no UTF-8 is replaced. Raises ToolError."""
        place = self._place(path)
        try:
            with os.fdopen(os.open(place, os.O_RDONLY | _OPEN), "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise ToolError(f"{path} is no file: use list_files")
                if found.st_size > LARGEST_FILE:
                    raise ToolError(f"{path} has {found.st_size:,} bytes, more than {LARGEST_FILE:,}: search in it")
                return file.read().decode("utf-8", "replace")
        except OSError as problem:
            raise ToolError(f"{path} cannot be read: {problem.strerror}") from problem

    def write(self, path: str, text: str) -> int:
        """Write a file and the directories above it; its size in bytes. Raises ToolError, ToolRefused."""
        place = self._writable(path)
        data = text.encode("utf-8", "surrogatepass")
        if len(data) > LARGEST_FILE:
            raise ToolRefused(f"{path} would have {len(data):,} bytes, more than {LARGEST_FILE:,}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | _OPEN, 0o644), "wb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise ToolError(f"{path} is no file")
                file.truncate()
                file.write(data)
        except OSError as problem:
            raise ToolError(f"{path} cannot be written: {problem.strerror}") from problem
        return len(data)

    def delete(self, path: str) -> None:
        """Delete a file, or a link itself. Raises ToolError, ToolRefused."""
        above, name = posixpath.split(posixpath.normpath(path))
        place = self._place(above) / name
        self._check_writable(path, place)
        try:
            place.unlink()
        except OSError as problem:
            raise ToolError(f"{path} cannot be deleted: {problem.strerror}") from problem

    def listed(self, path: str) -> list[str]:
        """The files below a directory, at most MOST_LISTED and a line that says how many more. Raises ToolError."""
        place = self._place(path)
        if not place.is_dir():
            raise ToolError(f"{path or '.'} is no directory")
        names = list(self._names(place))
        more = len(names) - MOST_LISTED
        return names[:MOST_LISTED] + ([f"… and {more} more: name a directory below"] if more > 0 else [])

    def relative(self, path: str) -> str:
        """`path` as it stands below the root, for a command that runs there. Raises ToolError, ToolRefused."""
        return self._place(path).relative_to(self.root).as_posix()

    def _names(self, place: Path) -> Iterator[str]:
        for where, folders, files in os.walk(place):
            folders[:] = sorted(name for name in folders if name not in _NOISE)
            here = Path(where)
            for name in sorted([*files, *(each for each in folders if (here / each).is_symlink())]):
                file = here / name
                leads = " (a symbolic link)" if file.is_symlink() else ""
                yield file.relative_to(self.root).as_posix() + leads

    def _place(self, path: str) -> Path:
        """Where `path` is in the end, links followed. Raises ToolRefused for what lies outside."""
        if "\0" in path:
            raise ToolError("a path holds no zero byte")
        if path.startswith("/") and Path(path).is_relative_to(self.root):
            path = os.path.relpath(path, self.root)
        lexical = posixpath.normpath(path or ".")
        if lexical.startswith(("/", "../")) or lexical == "..":
            raise ToolRefused(f"{path!r} leads out of the repository")
        try:
            place = (self.root / lexical).resolve()
        except (OSError, RuntimeError) as problem:
            raise ToolError(f"{path!r} cannot be found: {problem}") from problem
        if not place.is_relative_to(self.root):
            raise ToolRefused(f"{path!r} is a symbolic link that leads out of the repository")
        return place

    def _writable(self, path: str) -> Path:
        place = self._place(path)
        self._check_writable(path, place)
        if place == self.root or place.is_dir():
            raise ToolError(f"{path!r} is a directory")
        return place

    def _check_writable(self, path: str, place: Path) -> None:
        for name in (posixpath.normpath(path), place.relative_to(self.root).as_posix()):
            if is_protected(name):
                raise ToolRefused(f"{path!r} is protected: it decides how the repository itself is run")
            if PurePosixPath(name).is_relative_to(self._reserved):
                raise ToolRefused(f"{path!r} lies in the ticket's folder, which the train writes")
