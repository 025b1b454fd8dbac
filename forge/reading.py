"""What is read from GitHub, as values of our own: issues, labels, pull requests, branches, permissions, files."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

from forge.client import Account, GitHub
from forge.errors import ForgeError, NotFound

ROLES = ("none", "read", "triage", "write", "maintain", "admin")


@dataclass(frozen=True, slots=True)
class Issue:
    """An issue, or what the issue endpoints tell of a pull request. `author` is None when the account is gone;
    `dependencies` counts the issues it is blocked by, None on servers that do not say; `repository` is
    `OWNER/REPO`."""

    number: int
    title: str
    body: str
    author: Account | None
    labels: tuple[str, ...]
    assignees: tuple[Account, ...]
    state: str
    locked: bool
    created: datetime
    updated: datetime
    url: str
    pull: bool
    dependencies: int | None
    repository: str


@dataclass(frozen=True, slots=True)
class Pull:
    """A pull request. `head_repository` is `OWNER/REPO`, None when the fork is gone."""

    number: int
    title: str
    body: str
    author: Account | None
    state: str
    draft: bool
    merged: bool
    head_ref: str
    head_sha: str
    head_repository: str | None
    base_ref: str
    labels: tuple[str, ...]
    url: str
    node_id: str


@dataclass(frozen=True, slots=True)
class Change:
    """A label set or taken away, or a new title. `by` is None when the account is gone."""

    kind: Literal["labeled", "unlabeled", "renamed"]
    label: str
    by: Account | None
    when: datetime


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment on an issue or pull request."""

    id: int
    issue: int
    author: Account | None
    body: str
    created: datetime
    updated: datetime
    url: str


def account(told: dict[str, Any] | None) -> Account | None:
    """An account as GitHub tells it; None for one that is gone."""
    return None if told is None else Account(told["login"], told["id"], told.get("type") == "Bot")


def moment(text: str) -> datetime:
    """A time as GitHub writes it."""
    return datetime.fromisoformat(text)


def as_issue(told: dict[str, Any]) -> Issue:
    """An issue as GitHub tells it."""
    summary = told.get("issue_dependencies_summary")
    labels = (label if isinstance(label, str) else label.get("name") for label in told["labels"])
    return Issue(
        number=told["number"],
        title=told["title"],
        body=told.get("body") or "",
        author=account(told["user"]),
        labels=tuple(label for label in labels if label),
        assignees=tuple(found for each in told.get("assignees") or () if (found := account(each)) is not None),
        state=told["state"],
        locked=told["locked"],
        created=moment(told["created_at"]),
        updated=moment(told["updated_at"]),
        url=told["html_url"],
        pull="pull_request" in told,
        dependencies=None if summary is None else summary["total_blocked_by"],
        repository="/".join(told["repository_url"].split("/")[-2:]),
    )


def as_pull(told: dict[str, Any]) -> Pull:
    """A pull request as GitHub tells it."""
    head = told["head"]
    return Pull(
        number=told["number"],
        title=told["title"],
        body=told.get("body") or "",
        author=account(told["user"]),
        state=told["state"],
        draft=bool(told.get("draft")),
        merged=bool(told.get("merged_at")),
        head_ref=head["ref"],
        head_sha=head["sha"],
        head_repository=(head.get("repo") or {}).get("full_name"),
        base_ref=told["base"]["ref"],
        labels=tuple(label["name"] for label in told["labels"]),
        url=told["html_url"],
        node_id=told["node_id"],
    )


def as_comment(told: dict[str, Any]) -> Comment:
    """A comment as GitHub tells it."""
    return Comment(
        id=told["id"],
        issue=int(told["issue_url"].rsplit("/", 1)[1]),
        author=account(told["user"]),
        body=told.get("body") or "",
        created=moment(told["created_at"]),
        updated=moment(told["updated_at"]),
        url=told["html_url"],
    )


def issues(github: GitHub, *, state: str = "open", since: datetime | None = None) -> Iterator[tuple[Issue, ...]]:
    """Issues and pull requests page by page, the one changed longest ago first; with `since` those changed at that
    moment or later. An unchanged page is given as an empty one; asking for it costs nothing of the hourly limit."""
    parameters = {"state": state, "sort": "updated", "direction": "asc"}
    if since is not None:
        parameters["since"] = since.strftime("%Y-%m-%dT%H:%M:%SZ")
    for answer in github.pages("issues", parameters, conditional=since is not None):
        yield tuple(as_issue(told) for told in answer.body) if answer.changed else ()


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of an issue's text; `by` is None when the account is gone."""

    by: Account | None
    when: datetime


_EDITS = """query($owner: String!, $name: String!, $number: Int!) {
  repository(owner: $owner, name: $name) {
    issue(number: $number) {
      userContentEdits(first: 100) {
        totalCount
        nodes { editedAt editor { login ... on User { databaseId } ... on Bot { databaseId } } }
      }
    }
  }
}"""


def edits(github: GitHub, number: int) -> tuple[Edit, ...]:
    """Who changed the issue's text and when; REST does not tell this, GraphQL does. Of more than 100 changes the newest
    100, and one by nobody for the rest, at the time of the oldest of these."""
    owner, name = github.repository.split("/")
    data = github.graphql(_EDITS, {"owner": owner, "name": name, "number": number}, write=False)
    told = (data.get("repository") or {}).get("issue")
    if told is None:
        raise NotFound(f"{github.repository} has no issue {number} that GraphQL tells of")
    found = []
    for node in told["userContentEdits"]["nodes"]:
        who = node["editor"]
        by = Account(who["login"], who.get("databaseId") or 0) if who else None
        found.append(Edit(by, moment(node["editedAt"])))
    if told["userContentEdits"]["totalCount"] > len(found) and found:
        found.append(Edit(None, min(edit.when for edit in found)))
    return tuple(found)


def issue(github: GitHub, number: int) -> Issue:
    """One issue. Raises NotFound."""
    return as_issue(github.get(f"issues/{number}").body)


def blocked_by(github: GitHub, number: int) -> tuple[Issue, ...]:
    """The issues that must be closed before this one, as its dependencies say."""
    return tuple(as_issue(told) for told in github.rows(f"issues/{number}/dependencies/blocked_by"))


def changes(github: GitHub, number: int) -> tuple[Change, ...]:
    """Who set and took away the issue's labels and changed its title, oldest first."""
    return tuple(
        Change(told["event"], (told.get("label") or {}).get("name", ""), account(told["actor"]), _created(told))
        for told in github.rows(f"issues/{number}/events")
        if told["event"] in ("labeled", "unlabeled", "renamed")
    )


def _created(told: dict[str, Any]) -> datetime:
    return moment(told["created_at"])


def pull(github: GitHub, number: int) -> Pull:
    """One pull request. Raises NotFound."""
    return as_pull(github.get(f"pulls/{number}").body)


def pulls(github: GitHub, *, state: str = "open", head: str | None = None) -> Iterator[Pull]:
    """Pull requests; `head` is `OWNER:BRANCH`."""
    parameters = {"state": state} | ({"head": head} if head else {})
    return (as_pull(told) for told in github.rows("pulls", parameters))


def branches(github: GitHub, prefix: str = "") -> dict[str, str]:
    """The commits of all branches whose name begins so; unchanged ones cost nothing of the hourly limit."""
    answer = github.get(f"git/matching-refs/heads/{quote(prefix)}", conditional=True)
    return {told["ref"].removeprefix("refs/heads/"): told["object"]["sha"] for told in answer.body}


def role(github: GitHub, login: str) -> str:
    """What a user may do in the repository: `admin`, `maintain`, `write`, `triage`, `read` or `none`.

    Raises NotAllowed when the credentials may not ask: a token needs write access for it, an App reads metadata.
    """
    try:
        told = github.get(f"collaborators/{quote(login, safe='')}/permission").body
    except NotFound:
        return "none"
    exact = str(told.get("role_name"))
    return exact if exact in ROLES else str(told["permission"])  # an organisation's own roles have names of their own


def default_branch(github: GitHub) -> str:
    """The branch that pull requests go to."""
    return str(github.get("").body["default_branch"])


def comments(github: GitHub, since: datetime | None = None) -> Iterator[Comment]:
    """Comments on all issues and pull requests that were written or edited at that moment or later, oldest first."""
    parameters = {"sort": "updated", "direction": "asc"}
    if since is not None:
        parameters["since"] = since.strftime("%Y-%m-%dT%H:%M:%SZ")
    return (as_comment(told) for told in github.rows("issues/comments", parameters))


def comments_on(github: GitHub, number: int) -> Iterator[Comment]:
    """The comments on one issue or pull request, oldest first."""
    return (as_comment(told) for told in github.rows(f"issues/{number}/comments"))


def file_at(github: GitHub, path: str, ref: str) -> bytes:
    """The bytes of a file at a branch or commit. Raises NotFound; ForgeError for what is no file of at most 1 MB."""
    told = github.get(f"contents/{quote(path)}", {"ref": ref}).body
    if not isinstance(told, dict) or told.get("type") != "file" or told.get("encoding") != "base64":
        raise ForgeError(f"{path} at {ref} of {github.repository} is no plain file of at most 1 MB")
    return b64decode(told["content"])
