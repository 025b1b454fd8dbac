"""What people say on issues and pull requests, who they are there, and how they are answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from forge.client import Account, GitHub
from forge.errors import NotFound
from forge.reading import account, moment

_MARK = "<!-- valuetrain:answer:{} -->"


@dataclass(frozen=True, slots=True)
class Remark:
    """A comment somebody made. `author` is None when the account is gone; `by_program`: an app wrote it, perhaps with
    that person's permission. `created` and `updated` are in whole seconds."""

    id: int
    issue: int
    author: Account | None
    by_program: bool
    body: str
    created: datetime
    updated: datetime

    @property
    def edited(self) -> bool:
        """Whether it was changed after it was written; not seen when that was within the same second."""
        return self.updated != self.created


@dataclass(frozen=True, slots=True)
class Standing:
    """What the account that has a login now may do in the repository: `admin`, `maintain`, `write`, `triage`, `read` or
    `none`."""

    id: int
    role: str


def as_remark(told: dict[str, Any]) -> Remark:
    """A comment as GitHub tells it. Raises KeyError, ValueError or TypeError for anything else."""
    user = told["user"]
    return Remark(
        id=int(told["id"]),
        issue=int(told["issue_url"].rsplit("/", 1)[1]),
        author=account(user),
        by_program=told.get("performed_via_github_app") is not None or (user or {}).get("type") != "User",
        body=told.get("body") or "",
        created=moment(told["created_at"]),
        updated=moment(told["updated_at"]),
    )


def remarks(github: GitHub, since: datetime) -> Iterator[Remark]:
    """Comments on all issues and pull requests that were written or edited at that moment or later, oldest first. One
    that did not change since the same question was asked last costs nothing of the hourly limit."""
    parameters = {"sort": "updated", "direction": "asc", "since": since.strftime("%Y-%m-%dT%H:%M:%SZ")}
    for answer in github.pages("issues/comments", parameters, conditional=True):
        yield from map(as_remark, answer.body)


def remark(github: GitHub, number: int) -> Remark | None:
    """One comment as it is now; None when it was deleted."""
    try:
        return as_remark(github.get(f"issues/comments/{number}").body)
    except NotFound:
        return None


def standing(github: GitHub, login: str) -> Standing:
    """Who has this login now, and what they may do in the repository. Raises NotAllowed when the credentials may not
    ask: a token needs write access for it, an App reads metadata."""
    try:
        told = github.get(f"collaborators/{quote(login, safe='')}/permission").body
    except NotFound:
        return Standing(0, "none")
    return Standing(int((told.get("user") or {}).get("id", 0)), str(told.get("role_name") or told["permission"]))


def react(github: GitHub, comment: int, reaction: str) -> None:
    """Give a comment our reaction. Doing it again changes nothing: GitHub answers with the one that is there."""
    github.send("POST", f"issues/comments/{comment}/reactions", {"content": reaction})


def answer(github: GitHub, issue: int, comment: int, text: str) -> int:
    """Answer a comment, once: the id of our comment, which may be there already. Raises Ambiguous when that is not
    known; calling again looks first."""
    mark = _MARK.format(comment)
    for answered in github.pages(f"issues/{issue}/comments"):
        for told in answered.body:
            if (told.get("user") or {}).get("id") == github.me.id and (told.get("body") or "").startswith(mark):
                return int(told["id"])
    made = github.send("POST", f"issues/{issue}/comments", {"body": f"{mark}\n{text}"})
    return int(made["id"])
