"""What is written to GitHub, so that doing it again changes nothing: look for what is ours, then the call.

Texts of ours begin with a hidden marker, which counts only where the author is our own login: whoever copies it into a
text of theirs is not taken for us. A call whose answer was lost raises Ambiguous; whoever repeats it looks first.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import quote, urlsplit

from forge.client import GitHub
from forge.errors import ForgeError, NotFound, Refused
from forge.reading import Comment, Issue, Pull, as_comment, as_pull, comments_on, pull, pulls

LONGEST = 60_000
"""Characters of a comment or a pull request's text; GitHub takes 65,536."""
_READY = "mutation($pull: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $pull}) { clientMutationId } }"
_DRAFT = "mutation($pull: ID!) { convertPullRequestToDraft(input: {pullRequestId: $pull}) { clientMutationId } }"


def marker(kind: str, name: str) -> str:
    """The hidden first line of a text of ours."""
    return f"<!-- valuetrain:{kind}:{name} -->"


def _marked(github: GitHub, author: object, body: str, mark: str) -> bool:
    return author == github.me and body.startswith(mark)


def _text(mark: str, text: str) -> str:
    whole = f"{mark}\n{text}"
    return whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}\n\n… shortened."


def our_comment(github: GitHub, issue: int, kind: str, name: str) -> Comment | None:
    """Our comment with this marker, or None."""
    mark = marker(kind, name)
    return next((c for c in comments_on(github, issue) if _marked(github, c.author, c.body, mark)), None)


def put_comment(github: GitHub, issue: int, kind: str, name: str, text: str, *, known: int = 0) -> Comment:
    """Write our comment, or bring the one that is there up to date. `known` is its id, which spares looking for it."""
    body = _text(marker(kind, name), text)
    there = _comment(github, known) if known else None
    if there is None or there.issue != issue or not _marked(github, there.author, there.body, marker(kind, name)):
        there = our_comment(github, issue, kind, name)
    if there is None:
        return as_comment(github.send("POST", f"issues/{issue}/comments", {"body": body}))
    if there.body == body:
        return there
    return as_comment(github.send("PATCH", f"issues/comments/{there.id}", {"body": body}))


def _comment(github: GitHub, number: int) -> Comment | None:
    try:
        return as_comment(github.get(f"issues/comments/{number}").body)
    except NotFound:  # somebody deleted it
        return None


def set_labels(github: GitHub, now: Issue, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
    """Add and take away labels of an issue that is as `now` says; those of others stay."""
    if wanted := [label for label in add if label not in now.labels]:
        github.send("POST", f"issues/{now.number}/labels", {"labels": wanted})
    for label in remove:
        if label not in now.labels:
            continue
        with suppress(NotFound):  # somebody was faster
            github.send("DELETE", f"issues/{now.number}/labels/{quote(label, safe='')}")


def assign_us(github: GitHub, now: Issue) -> None:
    """Put us among the issue's assignees. GitHub does not take the bot of an App: then the label has to do."""
    if not github.me.bot and github.me not in now.assignees:
        github.send("POST", f"issues/{now.number}/assignees", {"assignees": [github.me.login]})


def unassign_us(github: GitHub, now: Issue) -> None:
    """Take us off the issue; other people stay."""
    if github.me in now.assignees:
        github.send("DELETE", f"issues/{now.number}/assignees", {"assignees": [github.me.login]})


def our_pull(github: GitHub, branch: str, name: str) -> Pull | None:
    """Our pull request from `branch` with this marker, open or closed, or None."""
    owner = github.repository.partition("/")[0]
    found = pulls(github, state="all", head=f"{owner}:{branch}")
    mark = marker("pull", name)
    return next((p for p in found if p.head_ref == branch and _marked(github, p.author, p.body, mark)), None)


def put_pull(github: GitHub, branch: str, base: str, name: str, title: str, text: str) -> Pull:
    """Open our draft pull request, or bring the text of the one that is there up to date."""
    body = _text(marker("pull", name), text)
    there = our_pull(github, branch, name)
    if there is None:
        wanted = {"title": title, "head": branch, "base": base, "body": body, "draft": True}
        return as_pull(github.send("POST", "pulls", wanted))
    if there.state != "open" or there.body == body:
        return there
    return as_pull(github.send("PATCH", f"pulls/{there.number}", {"body": body}))


def end_draft(github: GitHub, number: int) -> Pull:
    """Let the pull request be reviewed and merged. Raises Refused when it is closed."""
    there = pull(github, number)
    if there.merged:
        return there
    if there.state != "open":
        raise Refused(f"pull request {number} of {github.repository} is closed: reopen it", 409)
    if there.draft:
        github.graphql(_READY, {"pull": there.node_id}, write=True)
    return there


def begin_draft(github: GitHub, number: int) -> None:
    """Make an open pull request a draft again."""
    there = pull(github, number)
    if there.state == "open" and not there.draft:
        github.graphql(_DRAFT, {"pull": there.node_id}, write=True)


def close_pull(github: GitHub, number: int) -> Pull:
    """Close the pull request if it is open; what it was before. One that is merged stays so."""
    there = pull(github, number)
    if there.state == "open":
        github.send("PATCH", f"pulls/{number}", {"state": "closed"})
    return there


def said_at(github: GitHub, commit: str) -> str:
    """The first line of a commit's message; "" when it cannot be read."""
    try:
        return str(github.get(f"commits/{commit}").body["commit"]["message"]).split("\n", 1)[0]
    except (ForgeError, KeyError, TypeError):
        return ""


def clone_url(github: GitHub) -> str:
    """Where git pushes to. Raises ForgeError when the server names another host than its own: it gets our token."""
    told = str(github.get("").body["clone_url"])
    there, here = urlsplit(told), urlsplit(github.base_url)
    own = (here.hostname or "").removeprefix("api.")
    if there.scheme != here.scheme or there.hostname not in (own, here.hostname) or there.port != here.port:
        raise ForgeError(f"{github.base_url} names {there.netloc} for git, which is another server: it gets no token")
    return told
