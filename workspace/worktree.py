"""A session's branch and its checkout: the only thing the Value Train ever writes to the user's repository.

History is only ever added to. Every commit carries the effect it carries out as a trailer, is made by a fixed author at
the time the effect was asked for, and so is found, or made again bit for bit the same, when a crash makes us repeat it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from workspace.git import AUTHOR_EMAIL, EFFECT, GitError, Repository, run_git
from workspace.patching import patched_tree
from workspace.scratch import scratch_folder

_UNSAFE = re.compile(r"(^|/)(\.{0,2}|\.git)(/|$)|[\\\x00-\x1f\x7f]", re.IGNORECASE)
"""Empty, `.`, `..` and `.git` as a part of a path (so also absolute ones), backslashes and control characters."""


@dataclass(frozen=True, slots=True)
class Worktree:
    """A branch of ours, from `base` on, checked out in `directory`. Made by `Worktree.create`; one caller at a time."""

    repository: Repository
    directory: Path
    branch: str
    base: str

    @classmethod
    def create(
        cls, repository: Repository, directory: Path, branch: str, base_commit: str, start: str = ""
    ) -> Worktree:
        """Make the branch at `base_commit` and check it out, or take up again what is there. Safe to repeat.

        A branch that goes on from another one of ours begins at `start`, a commit on that one.

        An existing branch is taken up only if all it holds beyond the base was made by us. A checkout that a crash left
        half-made is made anew; one that is whole is left as it is, edits by hand included (see `edited`).
        Raises GitError naming the branch, commit or directory that stands in the way.
        """
        repository.head_commit()
        for commit in (base_commit, start or base_commit):
            if not repository.has_commit(commit):
                raise GitError(
                    f"the repository {repository.path} lacks the base commit {commit[:12]}",
                    "fetch it, or start a new session from the current commit",
                )
        run_git(repository.path, "check-ref-format", f"refs/heads/{branch}")
        tree = cls(repository, Path(os.path.abspath(directory)), branch, base_commit)
        tip = repository.branches(branch).get(branch)
        if tip is None:
            repository.git("update-ref", "-m", "value-train: start", f"refs/heads/{branch}", start or base_commit, "")
        else:
            tree._check_ours(tip)
        if not tree._is_whole():
            tree._check_out()
        return tree

    def head(self) -> str:
        """The commit the branch stands on. Raises GitError if the branch is gone."""
        tip = self.repository.branches(self.branch).get(self.branch)
        if tip is None:
            raise GitError(
                f"the branch {self.branch} is gone from {self.repository.path}",
                "bring it back with `git branch` and the commit `valuetrain session show` names",
            )
        return tip

    def commit(
        self,
        files: Mapping[str, bytes],
        message: str,
        when: datetime,
        trailers: Mapping[str, str],
        *,
        below: str | None = None,
    ) -> str:
        """Add one commit that writes `files` (path within the repository → content) and return its SHA.

        With `below`, files under that folder which are not among `files` are removed: the folder is a projection.
        `trailers` should hold `Value-Train-Effect`: if the branch already has a commit for that effect, that one is
        returned and nothing is written. Same tip, files, message, time and trailers give the same SHA.
        The checkout is brought to the new commit; what was edited by hand there and is tracked is overwritten.
        Raises GitError, and leaves the branch as it was.
        """
        for path in (*files, *([below] if below else [])):
            _check_path(path)
        done = self.find(trailers.get(EFFECT, ""))
        if done:
            self._refresh()
            return done
        tip = self.head()
        try:
            with scratch_folder() as folder:
                tree = self._tree(files, folder, tip, below)
        except OSError as problem:
            remedy = (
                "free some space there" if problem.errno == errno.ENOSPC else "check the directory for temporary files"
            )
            raise GitError(f"the commit's files cannot be written: {problem}", remedy) from problem
        return self._append(tree, tip, message, when, trailers)

    def change(self, patch: bytes, keep: str, message: str, when: datetime, trailers: Mapping[str, str]) -> str:
        """Make the files outside the folder `keep` those of the base with `patch` applied, in one commit; its SHA.

        Repeating it for the same effect returns the first commit; if the files are so already, the branch's own.
        Raises GitError, and leaves the branch as it was.
        """
        _check_path(keep)
        done = self.find(trailers.get(EFFECT, ""))
        if done:
            self._refresh()
            return done
        tip = self.head()
        tree = patched_tree(self.repository, self.base, tip, patch, keep)
        if tree == self.repository.git("rev-parse", f"{tip}^{{tree}}"):
            return tip
        return self._append(tree, tip, message, when, trailers)

    def restore(self, commit: str, message: str, when: datetime, trailers: Mapping[str, str]) -> str:
        """Add one commit whose files equal those of `commit` (the base, or a commit of this branch); returns its SHA.

        Nothing is removed from history. Repeating it for the same effect returns the first commit. Raises GitError.
        """
        done = self.find(trailers.get(EFFECT, ""))
        if done:
            self._refresh()
            return done
        tip = self.head()
        if commit != self.base and commit not in self._own_commits(tip):
            raise GitError(
                f"the commit {commit[:12]} is not on the branch {self.branch}", "name a commit of this session's branch"
            )
        tree = self.repository.git("rev-parse", f"{commit}^{{tree}}")
        return self._append(tree, tip, message, when, trailers)

    def find(self, effect: str) -> str | None:
        """The commit on the branch that carries out `effect` (its trailer), or None."""
        if not effect:
            return None
        listed = self.repository.git(
            "log", "-z", f"--author={AUTHOR_EMAIL}", f"--format=%H%n%(trailers:key={EFFECT},valueonly)",
            f"{self.base}..refs/heads/{self.branch}",
        )  # fmt: skip
        for entry in listed.split("\0"):
            sha, _, values = entry.partition("\n")
            if effect in values.split("\n"):
                return sha
        return None

    def edited(self, below: str, commit: str | None = None) -> list[str]:
        """Files under the folder `below` that differ from `commit` (default: the branch): edited, added or deleted."""
        _check_path(below)
        against = commit or self.head()
        changed = run_git(
            self.directory, "diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", against, "--", below
        )
        added = run_git(self.directory, "ls-files", "-z", "--others", "--", below)
        return sorted({name for name in (changed + "\0" + added).split("\0") if name})

    def remove(self) -> None:
        """Delete the checkout. The branch and all its commits stay. Safe to repeat."""
        self.repository.git("worktree", "remove", "--force", "--force", os.fspath(self.directory), accept=(0, 128))
        shutil.rmtree(self.directory, ignore_errors=True)
        self.repository.git("worktree", "prune")

    def _own_commits(self, tip: str) -> list[str]:
        return self.repository.git("rev-list", tip, f"^{self.base}").split()

    def _check_ours(self, tip: str) -> None:
        """An existing branch must be the base plus commits of ours."""
        fork = self.repository.git("merge-base", self.base, tip, accept=(0, 1))
        added = self.repository.git("log", "-z", "--format=%h by %an: %s%x09%ae", tip, f"^{self.base}").split("\0")
        others = [entry.rpartition("\t") for entry in added if entry]
        named = next((what for what, _, email in others if email != AUTHOR_EMAIL), None)
        if fork != self.base or named:
            raise GitError(
                f"the branch {self.branch} already exists in {self.repository.path} with other content"
                + (f" (commit {named})" if named else f" (it does not contain the base commit {self.base[:12]})"),
                f"rename it, for example `git branch -m {self.branch} mine`, or delete it, and drive again",
            )

    def _is_whole(self) -> bool:
        """Whether the directory is a finished checkout of our branch. Raises GitError if it is something else."""
        if not self.directory.exists() or not any(self.directory.iterdir()):
            return False
        marker = self.directory / ".git"
        if not marker.is_file() or not self._belongs_here(marker):
            raise GitError(
                f"{self.directory} is in the way: it is not a checkout of {self.repository.path}",
                "move it elsewhere and drive again",
            )
        try:
            on = run_git(self.directory, "symbolic-ref", "--quiet", "HEAD", accept=(0, 1, 128))
            admin = Path(run_git(self.directory, "rev-parse", "--absolute-git-dir"))
        except GitError:
            return False
        whole = (admin / "index").is_file() and not (admin / "locked").exists()
        if on and on != f"refs/heads/{self.branch}":
            raise GitError(
                f"{self.directory} has {on.removeprefix('refs/heads/')} checked out instead of {self.branch}",
                f"run `git switch {self.branch}` there, or delete the directory, and drive again",
            )
        return whole and bool(on)

    def _belongs_here(self, marker: Path) -> bool:
        pointed = marker.read_text(errors="replace").removeprefix("gitdir:").strip()
        if not pointed:  # killed between creating and writing it
            return True
        return Path(pointed).resolve().is_relative_to(self.repository.git_directory() / "worktrees")

    def _check_out(self) -> None:
        """Make the checkout, after clearing away what a crash left of an earlier one."""
        self.remove()
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.repository.git("worktree", "add", "--quiet", os.fspath(self.directory), self.branch)
        except GitError as problem:
            raise GitError(
                f"the branch {self.branch} cannot be checked out in {self.directory}: {problem.problem}",
                problem.remedy or "check that directory, and `git worktree list`",
            ) from problem

    def _refresh(self) -> None:
        """Bring index and files of the checkout to the branch."""
        run_git(self.directory, "reset", "--hard", "--quiet", f"refs/heads/{self.branch}")

    def _tree(self, files: Mapping[str, bytes], scratch: Path, tip: str, below: str | None) -> str:
        """Write blobs and a tree: that of `tip` with `files`, and without what else lies under `below`."""
        where, environment = self.repository.path, {"GIT_INDEX_FILE": os.fspath(scratch / "index")}
        names = sorted(files)
        for number, name in enumerate(names):
            (scratch / str(number)).write_bytes(files[name])
        paths = "".join(f"{scratch / str(number)}\n" for number in range(len(names)))
        blobs = run_git(where, "hash-object", "-w", "--no-filters", "--stdin-paths", data=paths.encode()).split()
        gone = set()
        if below:
            listed = self.repository.git("ls-tree", "-r", "-z", "--name-only", tip, "--", f"{below}/").split("\0")
            gone = {name for name in listed if name and name not in files}
        lines = [f"100644 {blob}\t{name}" for blob, name in zip(blobs, names, strict=True)]
        lines += [f"0 {'0' * len(tip)}\t{name}" for name in sorted(gone)]
        run_git(where, "read-tree", tip, environment=environment)
        listing = "".join(f"{line}\0" for line in lines).encode("utf-8", "surrogateescape")
        run_git(where, "update-index", "-z", "--add", "--index-info", data=listing, environment=environment)
        tree = run_git(where, "write-tree", environment=environment)
        lost = run_git(where, "diff-tree", "-r", "-z", "--name-only", "--no-renames", "--diff-filter=D", tip, tree)
        if victims := {name for name in lost.split("\0") if name} - gone:  # a folder would replace the user's file
            raise GitError(f"the commit would delete {min(victims)} on {self.branch}", "move that file out of the way")
        return tree

    def _append(self, tree: str, tip: str, message: str, when: datetime, trailers: Mapping[str, str]) -> str:
        """Commit a tree on top of `tip` and move the branch, unless somebody else moved it meanwhile."""
        date = f"@{int(when.timestamp())} +0000"
        dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        text = message.strip() + "\n\n" + "".join(f"{key}: {_one_line(value)}\n" for key, value in trailers.items())
        where = self.repository.path
        made = run_git(where, "commit-tree", tree, "-p", tip, data=text.encode(), environment=dates)
        reason = f"value-train: {trailers.get(EFFECT, 'commit')}"
        run_git(where, "update-ref", "-m", reason, f"refs/heads/{self.branch}", made, tip, environment=dates)
        self._refresh()
        return made


def _check_path(path: str) -> None:
    if not path or _UNSAFE.search(path):
        raise GitError(f"not a path inside the repository: {path!r}", "use a plain relative path with `/`")


def _one_line(value: str) -> str:
    return " ".join(value.split())
