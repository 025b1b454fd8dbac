"""What a change may not do to a repository that the train works in: the rules of the hooks and of CI.

Two trees are compared: before and after. Ticket folders are projections of the record, so by hand nothing in them can
become truer: ticked items stay ticked, what is finished stays as it is, what the manifest names is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from workspace.folder import LARGEST_COMMITTED
from workspace.git import GitError, Repository, run_git

FOLDER = re.compile(r"tickets/(?P<name>[a-z0-9][a-z0-9-]*_(?P<ticket>[0-9]+))/(?P<file>.+)")
BRANCH = re.compile(r"phase/[a-z0-9][a-z0-9-]*_(?P<ticket>[0-9]+)-[A-Za-z0-9][A-Za-z0-9-]*")
_ITEM = re.compile(r"- \[(?P<tick>[ xX])\] `(?P<id>[a-z][a-z0-9-]{1,60})`(?P<rest>.*)")
_PHASE = re.compile(r"## (?P<phase>[a-z][a-z0-9-]{1,40})\b")
REQUIRED = ("ACTIVE_SESSION.md", "checklist.md", "ticket.yml", "artifacts/manifest.json")
"""What every ticket folder holds."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: the rule (`branch`, `size`, `ticket`), where, why, and what to do."""

    rule: str
    where: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class _Blob:
    sha: str
    size: int


class Tree:
    """The files of a commit or of what is staged."""

    def __init__(self, repository: Repository, tree: str) -> None:
        """`tree` is anything git knows a tree by. Raises GitError."""
        self._repository = repository
        self.files: dict[str, _Blob] = {}
        listed = repository.git("ls-tree", "-r", "-l", "-z", "--full-tree", tree)
        for line in filter(None, listed.split("\0")):
            about, path = line.split("\t", 1)
            _, kind, sha, size = about.split()
            if kind == "blob":
                self.files[path] = _Blob(sha, int(size))

    def read(self, path: str) -> bytes | None:
        """A file's bytes; None when there is none. Raises GitError."""
        blob = self.files.get(path)
        if blob is None:
            return None
        text = self._repository.git("cat-file", "blob", blob.sha).encode("utf-8", "surrogateescape")
        return text + b"\n" * (blob.size - len(text))  # the last newline is taken off by who runs git


def staged(repository: Repository) -> str:
    """The tree of what is staged, in a hook of what is about to be committed. Raises GitError, for a merge that is not
    resolved too."""
    index = os.environ.get("GIT_INDEX_FILE", "") or repository.git("rev-parse", "--git-path", "index")
    with TemporaryDirectory() as folder:  # a copy: the commit under way holds the lock of its own
        copy = Path(folder) / "index"
        copy.write_bytes((repository.path / index).read_bytes())
        return run_git(repository.path, "write-tree", environment={"GIT_INDEX_FILE": str(copy)})


def since(repository: Repository, base: str) -> str:
    """The commit where the branch left `base`. Raises GitError when there is none."""
    if base.startswith("-"):
        raise GitError(f"{base!r} is no revision", "name a branch or commit, for example origin/main")
    return repository.git("merge-base", base, "HEAD")


def branch_of(repository: Repository) -> str:
    """The branch that is checked out; "" when none is. Raises GitError."""
    return repository.git("symbolic-ref", "--quiet", "--short", "HEAD", accept=(0, 1))


def check(before: Tree, after: Tree, branch: str, largest: int = LARGEST_COMMITTED) -> list[Finding]:
    """Everything that is wrong with the change from `before` to `after` on `branch` ("" for none), in order of rule and
    path. Raises GitError."""
    changed = sorted(path for path in {*before.files, *after.files} if before.files.get(path) != after.files.get(path))
    return [*_branch(branch, changed), *_sizes(after, changed, largest), *_tickets(before, after, changed)]


def _branch(branch: str, changed: list[str]) -> Iterator[Finding]:
    if not branch:
        return
    name = BRANCH.fullmatch(branch)
    if branch.startswith("phase/") and name is None:
        remedy = "rename it: `phase/delivery_12-k7m2p` is stage, ticket, and a token of its own"
        yield Finding("branch", branch, "is no name of a session's branch", remedy)
    for ticket in sorted({found["ticket"] for path in changed if (found := FOLDER.fullmatch(path))}, key=int):
        if name is not None and name["ticket"] != ticket:
            yield Finding(
                "branch", branch, f"changes the folder of ticket {ticket}, whose branch it is not",
                "take that change out: only a ticket's own branch writes its folder",
            )  # fmt: skip


def _sizes(after: Tree, changed: list[str], largest: int) -> Iterator[Finding]:
    for path in changed:
        blob = after.files.get(path)
        if blob is not None and blob.size > largest:
            yield Finding(
                "size", path, f"has {blob.size:,} bytes, and at most {largest:,} go into git",
                "keep it in the artifact store or in Git LFS; what was committed once stays in every clone",
            )  # fmt: skip


def _tickets(before: Tree, after: Tree, changed: list[str]) -> Iterator[Finding]:
    folders: dict[str, list[str]] = {}
    for path in changed:
        if found := FOLDER.fullmatch(path):
            folders.setdefault(f"tickets/{found['name']}", []).append(path)
    for folder, paths in sorted(folders.items()):
        if _status(before, folder) == "completed":
            reason = f"its session is completed, so the folder is finished, and {len(paths)} files of it are changed"
            yield Finding("ticket", folder, f"{reason} ({paths[0]})", "take the change back; a new ticket begins anew")
            continue
        yield from _ticked(before, after, folder)
        if any(path.startswith(f"{folder}/") for path in after.files):
            yield from _complete(after, folder)


def _ticked(before: Tree, after: Tree, folder: str) -> Iterator[Finding]:
    path = f"{folder}/checklist.md"
    now = {key for key, (ticked, _) in _items(after.read(path)).items() if ticked}
    for key, (ticked, _) in _items(before.read(path)).items():
        if ticked and key not in now:
            remedy = "tick it again: what was done was done; a rollback is what takes a phase back"
            yield Finding("ticket", path, f"{'/'.join(key)} was ticked and no longer is", remedy)


def _complete(after: Tree, folder: str) -> Iterator[Finding]:
    restore = "restore it from the session's branch: the folder is written from the record, never by hand"
    if missing := [name for name in REQUIRED if f"{folder}/{name}" not in after.files]:
        yield Finding("ticket", folder, f"{', '.join(missing)} is missing", restore)
        return
    try:
        manifest: Any = json.loads(after.read(f"{folder}/artifacts/manifest.json") or b"")
        entries = [(str(e["path"]), str(e["sha256"])) for e in manifest["artifacts"] if e["committed"]]
    except (ValueError, KeyError, TypeError) as problem:
        yield Finding("ticket", f"{folder}/artifacts/manifest.json", f"cannot be read ({problem})", restore)
        return
    for name, digest in entries:
        path = f"{folder}/artifacts/{name}"
        content = after.read(path)
        if content is None:
            yield Finding("ticket", path, "is named in the manifest and missing", restore)
        elif hashlib.sha256(content).hexdigest() != digest:
            yield Finding("ticket", path, f"is not what the manifest names ({digest[:12]})", restore)
    if _status(after, folder) == "completed":
        items = _items(after.read(f"{folder}/checklist.md"))
        for key in (key for key, (ticked, required) in items.items() if required and not ticked):
            reason = f"the session is completed, and the required item {'/'.join(key)} is not ticked"
            yield Finding("ticket", f"{folder}/checklist.md", reason, restore)


def _items(content: bytes | None) -> dict[tuple[str, str], tuple[bool, bool]]:
    """Whether each item (by phase and id) is ticked, and whether it is required."""
    found: dict[tuple[str, str], tuple[bool, bool]] = {}
    phase = ""
    for line in (content or b"").decode("utf-8", "replace").splitlines():
        if heading := _PHASE.match(line):
            phase = heading["phase"]
        elif item := _ITEM.fullmatch(line):
            found[phase, item["id"]] = item["tick"] != " ", "(optional)" not in item["rest"]
    return found


def _status(tree: Tree, folder: str) -> str:
    """The session's status, as the head of ACTIVE_SESSION.md says; "" when nothing there can be read."""
    content = (tree.read(f"{folder}/ACTIVE_SESSION.md") or b"").decode("utf-8", "replace")
    parts = content.split("---\n", 2)
    if len(parts) < 3 or parts[0]:
        return ""
    try:
        head = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return ""
    return str(head.get("status", "")) if isinstance(head, dict) else ""


HOOKS = {
    "pre-commit": "exec valuetrain check --staged\n",
    "pre-push": 'exec valuetrain check --base "${VALUETRAIN_BASE:-origin/HEAD}"\n',
}
MARK = "# made by valuetrain hooks install\n"


def install_hooks(repository: Repository) -> list[Path]:
    """Write the hooks; the paths. Raises GitError for one that is there and not ours: nothing is overwritten."""
    scopes = ("--local", "--global")  # asked for by scope: our own calls of git run no hooks
    named = (
        repository.git("config", scope, "--type=path", "--get", "core.hooksPath", accept=(0, 1)) for scope in scopes
    )
    chosen = next(filter(None, named), "")
    folder = repository.path / (chosen or Path(repository.git("rev-parse", "--git-common-dir")) / "hooks")
    wanted = {folder / name: f"#!/bin/sh\n{MARK}{body}" for name, body in HOOKS.items()}
    for path in wanted:
        if path.exists() and MARK not in path.read_text("utf-8", "replace"):
            raise GitError(
                f"{path} is there and is not ours", f"call `{HOOKS[path.name].split('exec ')[1].strip()}` from it"
            )
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in wanted.items():
        path.write_text(text, "utf-8")
        path.chmod(0o755)
    return list(wanted)
