"""Git to a server: what is there, and pushes that never overwrite what others put there.

The token is given to git in its environment, for this one address only: it is in no argument, URL or file, and no
credential helper, redirect or rewritten address of the user's settings takes part.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from workspace.cloning import login_environment
from workspace.git import GitError, Repository, run_git
from workspace.protected import is_protected

PUSH_SECONDS = 600.0
_REJECTED = re.compile(r"\[(?:remote )?rejected\]|pre-receive hook declined|not found")
_LOCKED_OUT = re.compile(r"Authentication failed|could not read Username|error: 40[13]\b|Permission to ")


class RemoteAway(GitError):
    """The server cannot be reached, or broke the connection: whether it did something shows when it is looked at."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A git repository at a server over HTTP. `secret` gives the token at this moment; it is never kept."""

    url: str
    secret: Callable[[], str] = field(repr=False)

    def heads(self, where: Repository, pattern: str) -> dict[str, str]:
        """The branches there whose name is `pattern` (`*` matches anything), and their commits. Raises GitError."""
        listed = self._git(where, "ls-remote", "--refs", self.url, f"refs/heads/{pattern}")
        pairs = (line.split("\t", 1) for line in listed.splitlines())
        return {name.removeprefix("refs/heads/"): commit for commit, name in pairs}

    def has(self, where: Repository, commit: str, branch: str) -> bool:
        """Whether `commit` is on `branch` there; fetches what of it is not here. Raises GitError."""
        tip = self.heads(where, branch).get(branch)
        if tip is None:
            raise GitError(f"{self.url} has no branch {branch}", "push a first commit there")
        if not where.has_commit(tip):
            flags = ("--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--quiet")
            self._git(where, "fetch", *flags, self.url, f"refs/heads/{branch}")
        return is_ancestor(where, commit, tip)

    def push(self, where: Repository, commit: str, branch: str) -> None:
        """Make `branch` there hold `commit`, adding to it and nothing else. Safe to repeat.

        Raises GitError when somebody else's commits are on it, or the server refuses; RemoteAway when it is not known.
        """
        there = self.heads(where, branch).get(branch)
        if there is not None and self._holds(where, there, commit):
            return
        if there is not None and not (where.has_commit(there) and is_ancestor(where, there, commit)):
            raise GitError(
                f"{branch} at {self.url} stands on {there[:12]}, which is not ours: somebody pushed to it",
                "move those commits to a branch of their own, put the branch back, and retry",
            )
        self._push(where, branch, f"{commit}:refs/heads/{branch}", there or "")

    def create(self, where: Repository, commit: str, branch: str, before: str = "") -> str:
        """Make `branch` there stand on `commit` if it stands on `before` (nowhere, when empty), in one step that only
        one of several can do. What it stands on afterwards. Raises GitError, RemoteAway."""
        there = self.heads(where, branch).get(branch, "")
        if there == before:
            try:
                # No `+`: git would push over what somebody else put there since we looked, whatever the lease says.
                self._push(where, branch, f"{commit}:refs/heads/{branch}", before)
            except RemoteAway:
                raise
            except GitError:
                if self.heads(where, branch).get(branch, "") == before:
                    raise  # nobody was faster: the server refuses
        return self.heads(where, branch).get(branch, "")

    def delete(self, where: Repository, branch: str, commit: str) -> None:
        """Delete `branch` there while it stands on `commit`. Safe to repeat. Raises GitError when it does not."""
        if branch in self.heads(where, branch):
            self._push(where, branch, f":refs/heads/{branch}", commit)

    def _holds(self, where: Repository, tip: str, commit: str) -> bool:
        return tip == commit or (where.has_commit(tip) and is_ancestor(where, commit, tip))

    def _push(self, where: Repository, branch: str, refspec: str, before: str) -> None:
        lease = f"--force-with-lease=refs/heads/{branch}:{before}"
        self._git(where, "push", "--no-verify", "--no-signed", lease, self.url, refspec)

    def _git(self, where: Repository, *arguments: str) -> str:
        secret = self.secret()
        try:
            return run_git(
                where.path, *arguments, environment=login_environment(self.url, secret), seconds=PUSH_SECONDS
            )
        except GitError as problem:
            said = problem.problem.replace(secret, "***")
            if _LOCKED_OUT.search(said):
                remedy = "the token needs to read and write contents of this repository"
                raise GitError(said, remedy) from None
            if _REJECTED.search(said):
                raise GitError(said, "see the rules for branches at the server") from None
            raise RemoteAway(said, "check the server and the network") from None


def is_ancestor(where: Repository, commit: str, tip: str) -> bool:
    """Whether `tip` is `commit` or was made after it. Raises GitError when one of them is not here."""
    return where.git("merge-base", commit, tip, accept=(0, 1)) == where.git("rev-parse", f"{commit}^{{commit}}")


def guard(where: Repository, base: str, tip: str, largest: int) -> None:
    """Raises GitError when what is to be pushed, any commit of it, writes what no change of the train may write, or
    holds a file of more than `largest` bytes. Looks at every commit: what a later one takes out would still be sent."""
    touched = where.git("log", "-z", "--format=", "--name-only", "--no-renames", f"{base}..{tip}").split("\0")
    if wrong := sorted({path.strip("\n") for path in touched if is_protected(path.strip("\n"))}):
        raise GitError(
            f"{wrong[0]!r} on the branch is protected: it decides how the repository itself is run",
            "make that change yourself, in a pull request of your own",
        )
    listed = where.git("rev-list", "--objects", tip, f"^{base}")
    named = dict(line.partition(" ")[::2] for line in listed.splitlines())
    sizes = run_git(
        where.path, "cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)",
        data="".join(f"{name}\n" for name in named).encode(),
    )  # fmt: skip
    for line in sizes.splitlines():
        name, kind, size = line.split(" ")
        if kind == "blob" and int(size) > largest:
            raise GitError(
                f"{named[name]!r} on the branch has {int(size):,} bytes, more than {largest:,}",
                "keep it out of the artifacts, or raise `max_pushed_bytes` in policy.yaml",
            )


def lone_commit(where: Repository, text: str, message: str, when: datetime) -> str:
    """A commit without parents that holds one file, README.md. The same arguments give the same commit, always."""
    blob = run_git(where.path, "hash-object", "-w", "--stdin", "--no-filters", data=text.encode())
    tree = run_git(where.path, "mktree", data=f"100644 blob {blob}\tREADME.md\n".encode())
    date = f"@{int(when.timestamp())} +0000"
    dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    return run_git(where.path, "commit-tree", tree, data=message.encode(), environment=dates)
