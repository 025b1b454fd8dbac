"""A clean tree of one commit, apart from the user's repository: its files, and git's own beside them, not in them.

The objects are the repository's (read through git's alternates), everything else is new: no hook, no filter and no
setting of the repository takes part, and whatever runs in the tree finds no `.git` to write to.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workspace.changes import Changed, read_changes
from workspace.git import GitError, Repository, run_git


@dataclass(frozen=True, slots=True)
class CleanCheckout:
    """Made by `create`. `tree` is the directory with the files; `base` the commit they are those of."""

    tree: Path
    base: str
    _git: Path

    @classmethod
    def create(cls, repository: Path, commit: str, directory: Path) -> CleanCheckout:
        """Write the files of `commit` into a new directory below `directory`. Raises GitError."""
        source = Repository(repository)
        if not source.has_commit(commit):
            raise GitError(f"the repository {repository} lacks the commit {commit[:12]}", "fetch it, or start anew")
        tree, git = directory / "tree", directory / "git"
        tree.mkdir(parents=True)
        run_git(directory, "init", "--quiet", "--bare", "--template=", os.fspath(git))
        (git / "objects" / "info").mkdir(parents=True, exist_ok=True)
        objects = source.git_directory() / "objects"
        (git / "objects" / "info" / "alternates").write_text(f"{objects}\n", "utf-8")
        made = cls(tree, commit, git)
        made._run("config", "core.bare", "false")
        made._run("read-tree", commit)
        made._run("checkout-index", "--all", "--force", "--index")
        return made

    def apply(self, patch: bytes) -> None:
        """Apply a unified diff to files and index: all of it or nothing. Raises GitError with git's own words."""
        self._run("apply", "--index", "--whitespace=nowarn", "-", data=patch)

    def take_in(self) -> None:
        """Let the index hold what was changed in the files. Raises GitError."""
        self._run("add", "--all", ".")

    def changes(self) -> tuple[Changed, ...]:
        """How the index differs from the base. Raises GitError."""
        return read_changes(self._run, self.base, self._run("write-tree"))

    def diff(self) -> bytes:
        """The same as a patch that `apply` takes. Raises GitError."""
        options = ("--cached", "--binary", "--full-index", "--no-color", "--no-renames", "--no-ext-diff")
        text = self._run("diff", *options, "--no-textconv", self.base)
        return (text + "\n").encode("utf-8", "surrogateescape") if text else b""

    def read(self, path: str, *, base: bool = False) -> str | None:
        """The text of a file in the index, or in the base; None where it is not. What is no UTF-8 is replaced. Raises
        GitError."""
        try:
            text = self._run("cat-file", "blob", f"{self.base if base else ':0'}:{path}")
        except GitError as problem:
            if "does not exist" in problem.problem or "not in" in problem.problem:
                return None
            raise
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def files(self, *, base: bool = False) -> tuple[str, ...]:
        """The paths of all files in the index, or in the base. Raises GitError."""
        listed = self._run("ls-tree", "-r", "-z", "--name-only", self.base) if base else self._run("ls-files", "-z")
        return tuple(name for name in listed.split("\0") if name)

    def _run(self, *arguments: str, data: bytes | None = None, accept: Sequence[int] = (0,)) -> str:
        where = {"GIT_DIR": os.fspath(self._git), "GIT_WORK_TREE": os.fspath(self.tree)}
        return run_git(self.tree, *arguments, data=data, environment=where, accept=accept)
