"""Git, safely: the user's repository is read, and written only by adding commits on branches of our own.

A thin wrapper over the git command line (2.30 or newer): no shell, no prompt, no hook, no inherited `GIT_*` variable, a
time limit on every call. Commits (see `workspace.worktree`) are made with plumbing: blobs, a tree from a private index,
`commit-tree`, `update-ref` with the expected old value. So they need no lock the user may hold, and come out bit for
bit the same when they are made again.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

AUTHOR_NAME, AUTHOR_EMAIL = "AgenticOps Value Train", "value-train@localhost"
EFFECT = "Value-Train-Effect"
"""The trailer by which a commit is found again when its effect is carried out a second time."""

_SAFE = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.pager=cat", "core.editor=false", "core.askPass=",
    "commit.gpgSign=false", "tag.gpgSign=false", "gc.auto=0", "maintenance.auto=false", "advice.detachedHead=false",
    "core.fsync=objects,reference", "core.quotePath=false", "i18n.commitEncoding=UTF-8", "i18n.logOutputEncoding=UTF-8",
)  # fmt: skip
_LOCK = re.compile(r"Unable to create '(?P<path>[^']+\.lock)': File exists")
_OUR_LOCK = re.compile(r"/worktrees/[^/]+/[A-Za-z_]+\.lock$|/refs/heads/phase/[^/]+\.lock$")
_STALE_SECONDS = 2.0

_REMEDIES = (
    ("not a git repository", "name a directory inside a git repository, or run `git init` there"),
    ("dubious ownership", "run `git config --global --add safe.directory` with that directory, if you trust it"),
    ("No space left on device", "free some space on that disk and drive again"),
    ("Disk quota exceeded", "free some space on that disk and drive again"),
    ("Permission denied", "check who owns the files below the repository's .git directory"),
    ("bad object", "the repository lacks that commit: fetch it, or check the repository with `git fsck`"),
    ("unknown revision", "the repository lacks that commit: fetch it, or check the repository with `git fsck`"),
    ("exists; cannot create", "rename the branch that is in the way: `git branch -m` it to another name"),
    ("cannot lock ref", "another program holds or moved this branch: let it finish and drive again"),
)


class GitError(Exception):
    """Git cannot do what was asked. `problem` names what and why, `remedy` says what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


def branch_name(ticket: int, token: str, stage: str = "delivery") -> str:
    """The branch of a session: `phase/<stage>_<ticket>-<token>`, for example `phase/delivery_12-k7m2p`.

    One branch carries the whole trip, so the stage is the pipeline's (`delivery`), not the single phase's: a gate binds
    to a commit on it, and a pull request needs one branch. The token is the session's own, so that another attempt at
    the ticket never meets the results of an earlier one (a reused branch name brings them back).
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", stage) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", token):
        raise ValueError(f"stage and token must be letters, digits and hyphens: {stage!r}, {token!r}")
    return f"phase/{stage}_{ticket}-{token}"


def claim_branch(ticket: int) -> str:
    """The branch whose existence at a forge means that the ticket is taken: the same for every Auto-Pilot, and named so
    that each backlog source sees that the ticket is served."""
    return f"phase/claim_{ticket}"


def ticket_folder(ticket: int, stage: str = "delivery") -> str:
    """Where a ticket's files lie on its branch: `tickets/delivery_12`."""
    return f"tickets/{stage}_{ticket}"


def run_git(
    directory: Path,
    *arguments: str,
    data: bytes | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float = 60.0,
    accept: Sequence[int] = (0,),
) -> str:
    """Run git in `directory` and return what it printed, decoded, without the final newline.

    Raises GitError with git's own words and a remedy for every exit status not in `accept`. A lock file a killed git
    left behind in what is ours is removed once it has not changed for two seconds, and the call repeated.
    """
    tries = 3
    while True:
        done = _call(directory, arguments, data, environment, seconds)
        if done.returncode in accept:
            return done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")
        said = done.stderr.decode(errors="replace").strip()
        lock = _LOCK.search(said)
        tries -= 1
        if not (tries and lock and _clear_stale(directory / lock["path"], directory)):
            raise _refusal(directory, arguments[0], said, lock["path"] if lock else None)


def _refusal(directory: Path, command: str, said: str, lock: str | None) -> GitError:
    remedy = next((remedy for mark, remedy in _REMEDIES if mark.lower() in said.lower()), "")
    if lock is not None:
        remedy = f"if no other git is running there, delete {lock}"
    lines = [line for line in said.splitlines() if not line.startswith("hint:")]
    return GitError(f"git {command} in {directory}: {' '.join(lines)[:500] or 'failed'}", remedy)


def _call(
    directory: Path,
    arguments: Sequence[str],
    data: bytes | None,
    environment: Mapping[str, str] | None,
    seconds: float,
) -> subprocess.CompletedProcess[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "VALUETRAIN_"))}
    clean |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    clean |= {"GIT_AUTHOR_NAME": AUTHOR_NAME, "GIT_AUTHOR_EMAIL": AUTHOR_EMAIL}
    clean |= {"GIT_COMMITTER_NAME": AUTHOR_NAME, "GIT_COMMITTER_EMAIL": AUTHOR_EMAIL}
    settings = [part for setting in _SAFE for part in ("-c", setting)]
    try:
        return subprocess.run(
            ["git", "--no-pager", *settings, *arguments],
            cwd=directory,
            env=clean | dict(environment or {}),
            input=data if data is not None else b"",
            capture_output=True,
            timeout=seconds,
            start_new_session=True,  # Ctrl-C in the terminal must not tear a commit
        )
    except FileNotFoundError as problem:
        if not directory.is_dir():
            raise GitError(f"there is no directory {directory}", "check the path") from problem
        raise GitError("git is not installed, or not on PATH", "install git 2.30 or newer") from problem
    except NotADirectoryError as problem:
        raise GitError(f"{directory} is not a directory", "check the path") from problem
    except subprocess.TimeoutExpired as problem:
        raise GitError(
            f"git {arguments[0]} in {directory} did not end within {seconds:g} s",
            "check whether the disk is slow or another program holds the repository",
        ) from problem
    except OSError as problem:
        remedy = "free some space" if problem.errno == errno.ENOSPC else "check the machine"
        raise GitError(f"git could not be started: {problem}", remedy) from problem


def _clear_stale(lock: Path, directory: Path) -> bool:
    """Wait until a lock is released, or remove it if it is stale and ours. Whether to try again.

    Ours are the index and HEAD of the linked checkout git was run in, and the branches `phase/…`. Any other lock may
    belong to the user's own git and is never touched; nor is one of another repository: a server's words come by the
    same way, and its lock may be another push's.
    """
    ours = _OUR_LOCK.search(lock.as_posix()) is not None and _inside(lock, directory)
    first = _stamp(lock)
    deadline = time.monotonic() + _STALE_SECONDS
    while time.monotonic() < deadline:
        if _stamp(lock) != first:
            return True
        time.sleep(0.02)
    if ours:
        lock.unlink(missing_ok=True)
    return ours


def _inside(lock: Path, directory: Path) -> bool:
    """Whether `lock` lies in the repository that git works on in `directory`."""
    asked = _call(directory, ("rev-parse", "--git-common-dir"), None, None, 60.0)
    home = directory / os.fsdecode(asked.stdout).removesuffix("\n")
    return asked.returncode == 0 and lock.resolve().is_relative_to(home.resolve())


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_mtime_ns, state.st_ino


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the user's git says they are; empty strings where it does not say."""

    name: str
    email: str


@dataclass(frozen=True, slots=True)
class Repository:
    """The user's repository, read only. `path` is any directory inside it."""

    path: Path

    def git(self, *arguments: str, accept: Sequence[int] = (0,)) -> str:
        """Run git here. Raises GitError."""
        return run_git(self.path, *arguments, accept=accept)

    def is_repository(self) -> bool:
        """Whether `path` lies in a git repository that may be used. Raises GitError if git is missing."""
        try:
            return bool(self.git("rev-parse", "--git-dir"))
        except GitError as problem:
            if "not a git repository" in problem.problem or "directory" in problem.problem:
                return False
            raise

    def git_directory(self) -> Path:
        """The directory that holds objects and branches, shared by all worktrees. Raises GitError."""
        return (self.path / self.git("rev-parse", "--git-common-dir")).resolve()

    def head_commit(self) -> str:
        """The commit HEAD stands on. Raises GitError if there is none yet."""
        self.git("rev-parse", "--git-dir")
        try:
            return self.git("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        except GitError:
            raise GitError(
                f"the repository {self.path} has no commit yet",
                "make a first one there, for example `git commit --allow-empty -m Start`",
            ) from None

    def has_commit(self, commit: str) -> bool:
        """Whether the repository holds this commit."""
        return self.git("cat-file", "-t", commit, accept=(0, 128)) == "commit"

    def branches(self, pattern: str = "*") -> dict[str, str]:
        """Local branches matching the pattern (`phase/*`), with the commit each stands on."""
        listed = self.git("for-each-ref", "--format=%(refname:short)%09%(objectname)", f"refs/heads/{pattern}")
        return dict(line.split("\t") for line in listed.splitlines())

    def dirty_files(self) -> list[str]:
        """Tracked files with changes that are not committed, sorted. Untracked files do not count."""
        listed = self.git("status", "--porcelain=v1", "-z", "--untracked-files=no", "--no-renames")
        return sorted(entry[3:] for entry in listed.split("\0") if entry)

    def in_progress(self) -> str | None:
        """`merge`, `rebase`, `cherry-pick`, `revert` or `bisect` if one is under way here, else None."""
        directory = self.path / self.git("rev-parse", "--git-dir")
        marks = {
            "MERGE_HEAD": "merge", "rebase-merge": "rebase", "rebase-apply": "rebase",
            "CHERRY_PICK_HEAD": "cherry-pick", "REVERT_HEAD": "revert", "BISECT_LOG": "bisect",
        }  # fmt: skip
        return next((name for mark, name in marks.items() if (directory / mark).exists()), None)

    def identity(self) -> Identity:
        """The user's default name and e-mail address."""
        return Identity(
            self.git("config", "--get", "user.name", accept=(0, 1)),
            self.git("config", "--get", "user.email", accept=(0, 1)),
        )


def git_version() -> tuple[int, int]:
    """Major and minor version of the git on PATH. Raises GitError if there is none."""
    said = run_git(Path.cwd(), "version")
    match = re.search(r"(\d+)\.(\d+)", said)
    if match is None:
        raise GitError(f"git says it is {said!r}", "install git 2.30 or newer")
    return int(match[1]), int(match[2])
