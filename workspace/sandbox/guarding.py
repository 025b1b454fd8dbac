"""What a run may write: its directories, and what is protected in them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from workspace.protected import is_protected


class Guard:
    """The directories of one run, checked and resolved; it remembers what is protected there.

    What exists can be mounted read-only. What does not exist yet cannot: if the command makes it, `close` takes it away
    again and says so.
    """

    def __init__(self, command: Sequence[str], cwd: Path, writable: Sequence[Path]) -> None:
        """Raises ValueError for an empty command or a directory that does not exist."""
        if not command:
            raise ValueError("there is no command to run")
        for place in (cwd, *writable):
            if not place.is_dir():
                raise ValueError(f"{place} is no directory")
        self.cwd = cwd.resolve()
        self.writable = tuple(dict.fromkeys(place.resolve() for place in writable))
        self.protected = self._found()

    def close(self) -> tuple[str, ...]:
        """Remove what is protected and was not there before; its paths, relative to their directory."""
        before = set(self.protected)
        made = [path for path in self._found() if path not in before]
        for path in made:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        return tuple(self._shown(path) for path in made)

    def _found(self) -> tuple[Path, ...]:
        """Every protected file or directory below the writable directories; nothing below those."""
        found: list[Path] = []
        for root in self.writable:
            for where, folders, files in os.walk(root):
                here = Path(where)
                guarded = [name for name in folders if is_protected(name)]
                found += [here / name for name in (*guarded, *files) if is_protected(name)]
                folders[:] = [name for name in folders if name not in guarded]
        return tuple(sorted(found))

    def _shown(self, path: Path) -> str:
        root = next(root for root in self.writable if path.is_relative_to(root))
        return path.relative_to(root).as_posix()
