"""What a change does to a tree of files, as git sees it, and what no change may do."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass

from workspace.protected import is_protected

LARGEST_BINARY = 500_000
"""Bytes of a file that is no text. Nobody can review it."""
LARGEST_FILE = 2_000_000
"""Bytes of any file a change writes."""
MOST_FILES = 300
"""How many files one change may touch."""
_LINK, _SUBMODULE = "120000", "160000"


@dataclass(frozen=True, slots=True)
class Changed:
    """One file. `status` is git's letter (`A`, `M`, `D`, `T`); modes are octal, `000000` for none. `size` is in bytes
    (0 when it is gone); `added` and `removed` are lines, 0 where it is `binary`. `link` is where a symbolic link
    leads."""

    path: str
    status: str
    mode_before: str
    mode: str
    size: int
    added: int
    removed: int
    binary: bool
    link: str | None = None


def read_changes(git: Callable[..., str], base: str, tree: str) -> tuple[Changed, ...]:
    """The files in which `tree` differs from `base`, by path. `git` runs git where both are known. Raises GitError."""
    fields = git("diff-tree", "-r", "-z", "--raw", "--no-renames", "--full-index", base, tree).split("\0")
    counts = {}
    for line in git("diff-tree", "-r", "-z", "--numstat", "--no-renames", "--no-commit-id", base, tree).split("\0"):
        if line.count("\t") >= 2:
            added, removed, path = line.split("\t", 2)
            counts[path] = added, removed
    found = []
    for raw, path in zip(fields[::2], fields[1::2], strict=False):
        before, mode, _, blob, status = raw.lstrip(":").split(" ")
        added, removed = counts.get(path, ("0", "0"))
        there = status != "D" and mode != _SUBMODULE
        found.append(
            Changed(
                path=path,
                status=status,
                mode_before=before,
                mode=mode,
                size=int(git("cat-file", "-s", blob)) if there else 0,
                added=0 if added == "-" else int(added),
                removed=0 if removed == "-" else int(removed),
                binary=added == "-",
                link=git("cat-file", "blob", blob) if mode == _LINK and there else None,
            )
        )
    return tuple(sorted(found, key=lambda each: each.path))


def refusals(changes: tuple[Changed, ...], reserved: str) -> list[str]:
    """Why these changes may not be made, one sentence each; empty if they may. `reserved` is a folder of the train's
    own."""
    found = []
    if not changes:
        found.append("the patch changes nothing")
    if len(changes) > MOST_FILES:
        found.append(f"it touches {len(changes)} files, more than {MOST_FILES}: make several changes of it")
    for each in changes:
        name = repr(each.path)
        if is_protected(each.path):
            found.append(f"{name} is protected: it decides how the repository itself is run")
        if each.path == reserved or each.path.startswith(f"{reserved}/"):
            found.append(f"{name} lies in the ticket's folder, which the train writes")
        if _SUBMODULE in (each.mode, each.mode_before):
            found.append(f"{name} is a submodule, whose content nobody here can review")
        if each.link is not None and _leads_out(each.path, each.link):
            found.append(f"{name} is a symbolic link that leads out of the repository")
        if each.binary and each.size > LARGEST_BINARY:
            found.append(f"{name} is no text and has {each.size:,} bytes, more than {LARGEST_BINARY:,}")
        elif each.size > LARGEST_FILE:
            found.append(f"{name} has {each.size:,} bytes, more than {LARGEST_FILE:,}")
    return found


def _leads_out(path: str, target: str) -> bool:
    reached = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return target.startswith("/") or reached == ".." or reached.startswith("../")
