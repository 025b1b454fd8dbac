"""What the stand-in knows: accounts, repositories (real bare ones on disk), issues, pull requests, comments."""

from __future__ import annotations

import subprocess
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

ROLES = ("none", "read", "triage", "write", "maintain", "admin")
CLASSIC = {"none": "none", "read": "read", "triage": "read", "write": "write", "maintain": "write", "admin": "admin"}
"""The `permission` of the permission endpoint, which knows four; `role_name` has the exact one."""
_GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "GitHub",
    "GIT_AUTHOR_EMAIL": "noreply@example.org",
    "GIT_COMMITTER_NAME": "GitHub",
    "GIT_COMMITTER_EMAIL": "noreply@example.org",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
}


@dataclass(slots=True)
class Account:
    """A user or a bot, and the token it logs in with."""

    login: str
    id: int
    token: str
    kind: str = "User"
    remaining: int = 5000


@dataclass(slots=True)
class Comment:
    """A comment on an issue or pull request. `reactions` are (reaction id, login, content)."""

    id: int
    author: Account
    body: str
    created: datetime
    updated: datetime
    reactions: list[tuple[int, Account, str]] = field(default_factory=list)
    app: str = ""
    """The app through which it was written, with its author's permission."""


@dataclass(slots=True)
class Event:
    """A line of an issue's timeline: `labeled`, `unlabeled`, `assigned`, `cross-referenced` …"""

    id: int
    kind: str
    actor: Account
    created: datetime
    label: str = ""
    assignee: Account | None = None
    source: int = 0
    """The number of the issue or pull request that referred to this one."""


@dataclass(slots=True)
class Pull:
    """What a pull request has besides what an issue has. `head_owner` differs from the repository's for a fork."""

    head_ref: str
    base_ref: str
    head_owner: str
    draft: bool = False
    merged_at: datetime | None = None
    merge_commit: str | None = None
    closed_head: str | None = None
    """The head's commit when it was closed, for when the branch is gone."""
    reviews: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Issue:
    """An issue or, with `pull`, a pull request."""

    id: int
    number: int
    title: str
    body: str | None
    author: Account
    created: datetime
    updated: datetime
    labels: list[str] = field(default_factory=list)
    assignees: list[Account] = field(default_factory=list)
    state: str = "open"
    state_reason: str | None = None
    locked: bool = False
    closed: datetime | None = None
    closed_by: Account | None = None
    blocked_by: list[int] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    pull: Pull | None = None
    edits: list[tuple[datetime, Account]] = field(default_factory=list)


@dataclass(slots=True)
class Repository:
    """A repository: its bare git repository, who may do what, its issues."""

    id: int
    owner: Account
    name: str
    path: Path
    default_branch: str = "main"
    private: bool = False
    roles: dict[str, str] = field(default_factory=dict)
    issues: dict[int, Issue] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """`OWNER/NAME`."""
        return f"{self.owner.login}/{self.name}"

    def role(self, account: Account) -> str:
        """What the account may do here."""
        if account is self.owner:
            return "admin"
        return self.roles.get(account.login, "none" if self.private else "read")

    def may(self, account: Account, role: str) -> bool:
        """Whether it has that role or a higher one."""
        return ROLES.index(self.role(account)) >= ROLES.index(role)

    def git(self, *arguments: str, text: str | None = None) -> str:
        """Run git in the bare repository; its output. Raises subprocess.CalledProcessError."""
        done = subprocess.run(
            ["git", "-C", str(self.path), *arguments], input=text, capture_output=True, text=True, env=_GIT, check=True
        )
        return done.stdout.strip()

    def refs(self, prefix: str = "refs/") -> dict[str, str]:
        """All refs below a prefix, and the commits they point to."""
        listed = self.git("for-each-ref", "--format=%(refname) %(objectname)")
        pairs = (line.split(" ", 1) for line in listed.splitlines())
        return {name: sha for name, sha in pairs if name.startswith(prefix)}

    def commit(self, files: dict[str, str], message: str = "Change", branch: str | None = None) -> str:
        """Put files (path to text) on a branch as a new commit; its id."""
        ref = f"refs/heads/{branch or self.default_branch}"
        refs = self.refs()
        parent = refs.get(ref) or refs.get(f"refs/heads/{self.default_branch}")
        tree: dict[str, str] = {}
        if parent:
            for line in self.git("ls-tree", "-r", parent).splitlines():
                what, name = line.split("\t", 1)
                tree[name] = what
        for name, text in files.items():
            tree[name] = f"100644 blob {self.git('hash-object', '-w', '--stdin', text=text)}"
        index = {"GIT_INDEX_FILE": str(self.path / f"index.{threading.get_ident()}")}
        listing = "".join(f"{what.split(' ')[0]} {what.split(' ')[2]}\t{name}\n" for name, what in tree.items())
        for command, given in (("read-tree --empty", ""), ("update-index --index-info", listing)):
            subprocess.run(
                ["git", "-C", str(self.path), *command.split()], input=given, text=True, check=True, env=_GIT | index
            )
        root = subprocess.run(
            ["git", "-C", str(self.path), "write-tree"], capture_output=True, text=True, check=True, env=_GIT | index
        ).stdout.strip()
        made = self.git("commit-tree", root, "-m", message, *(("-p", parent) if parent else ()))
        self.git("update-ref", ref, made)
        return made


class State:
    """Everything, behind one lock: a test may arrange things while the server answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self.accounts: dict[str, Account] = {}
        self.repositories: dict[str, Repository] = {}
        self.installations: dict[int, tuple[Account, str]] = {}
        """By installation id: the account its tokens act as, and the app's public key (PEM)."""
        self.ids = count(1001)
        self.late = 0.0
        """Seconds by which the stand-in's clock is ahead of the machine's."""

    def now(self) -> datetime:
        """The time, in whole seconds as GitHub has it."""
        return datetime.fromtimestamp(int(datetime.now(UTC).timestamp() + self.late), UTC)

    def account(self, login: str, *, kind: str = "User") -> Account:
        """The account of that login, made on first use. Its token is `token-of-LOGIN`."""
        with self.lock:
            if login not in self.accounts:
                self.accounts[login] = Account(login, next(self.ids), f"token-of-{login}", kind)
            return self.accounts[login]

    def by_token(self, token: str) -> Account | None:
        """Whose token that is."""
        with self.lock:
            return next((account for account in self.accounts.values() if account.token == token), None)

    def repository(self, full_name: str, *, private: bool = False, **roles: str) -> Repository:
        """A new repository with one commit; `roles` are logins and what they may do."""
        owner, name = full_name.split("/")
        path = self.folder / owner / f"{name}.git"
        subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", str(path)], check=True, env=_GIT)
        with self.lock:
            made = Repository(next(self.ids), self.account(owner), name, path, private=private)
            made.git("config", "http.receivepack", "true")
            for login, role in roles.items():
                made.roles[self.account(login).login] = role
            self.repositories[full_name.lower()] = made
            made.commit({"README.md": f"# {name}\n"}, "First commit")
        return made

    def issue(
        self,
        repository: Repository,
        title: str = "A ticket",
        body: str | None = None,
        *,
        author: str = "alice",
        labels: tuple[str, ...] = (),
        labeller: str | None = None,
        pull: Pull | None = None,
    ) -> Issue:
        """A new issue, or pull request when `pull` is given."""
        with self.lock:
            number, now = max(repository.issues, default=0) + 1, self.now()
            made = Issue(next(self.ids), number, title, body, self.account(author), now, now, pull=pull)
            repository.issues[number] = made
            for label in labels:
                self.label(made, label, labeller or author)
            return made

    def touch(self, issue: Issue) -> None:
        """It was changed now."""
        issue.updated = self.now()

    def event(self, issue: Issue, kind: str, actor: Account, **more: Any) -> Event:
        """A new line of the timeline; touches the issue."""
        with self.lock:
            made = Event(next(self.ids), kind, actor, self.now(), **more)
            issue.events.append(made)
            self.touch(issue)
            return made

    def edit(self, issue: Issue, body: str | None, by: str) -> None:
        """Change an issue's text, as that login."""
        with self.lock:
            issue.body = body
            issue.edits.append((self.now(), self.account(by)))
            self.touch(issue)

    def label(self, issue: Issue, label: str, by: str) -> None:
        """Set a label, as that login."""
        with self.lock:
            if label not in issue.labels:
                issue.labels.append(label)
                self.event(issue, "labeled", self.account(by), label=label)

    def unlabel(self, issue: Issue, label: str, by: str) -> None:
        """Take a label away, as that login."""
        with self.lock:
            if label in issue.labels:
                issue.labels.remove(label)
                self.event(issue, "unlabeled", self.account(by), label=label)

    def comment(self, issue: Issue, body: str, by: str) -> Comment:
        """Comment on an issue, as that login."""
        with self.lock:
            now = self.now()
            made = Comment(next(self.ids), self.account(by), body, now, now)
            issue.comments.append(made)
            self.touch(issue)
            return made

    def close(self, issue: Issue, by: str, reason: str = "completed") -> None:
        """Close an issue, as that login."""
        with self.lock:
            issue.state, issue.state_reason = "closed", reason
            issue.closed, issue.closed_by = self.now(), self.account(by)
            self.event(issue, "closed", self.account(by))
