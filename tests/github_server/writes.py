"""What is written to issues: labels, assignees and comments."""

from __future__ import annotations

from tests.github_server import shapes
from tests.github_server.issues import ISSUE, the_issue
from tests.github_server.routes import Call, Refusal, Reply, operation
from tests.github_server.state import Comment, Issue

REPO = "/repos/{owner}/{repo}"
COMMENT = f"{REPO}/issues/comments/{{comment_id}}"
MOST = 65_536
"""Characters of a comment."""


@operation("post", f"{ISSUE}/labels")
def add_labels(call: Call) -> Reply:
    """Add labels to those that are there; one the repository does not have is made."""
    call.needs("triage")
    it = the_issue(call)
    for name in call.body["labels"] if isinstance(call.body, dict) else call.body:
        call.state.label(it, name, call.actor.login)
    return Reply([shapes.label(name, call.url) for name in it.labels])


@operation("delete", f"{ISSUE}/labels/{{name}}")
def remove_label(call: Call) -> Reply:
    """Take one label away."""
    call.needs("triage")
    it = the_issue(call)
    if call.path["name"] not in it.labels:
        raise Refusal(404, "Label does not exist")
    call.state.unlabel(it, call.path["name"], call.actor.login)
    return Reply([shapes.label(name, call.url) for name in it.labels])


@operation("post", f"{ISSUE}/assignees")
def add_assignees(call: Call) -> Reply:
    """Add people; GitHub passes over those who cannot be assigned, without a word."""
    it = the_issue(call)
    if call.repository.may(call.actor, "triage"):
        for login in call.body["assignees"]:
            person = call.state.account(login)
            if person.kind == "User" and call.repository.may(person, "triage") and person not in it.assignees:
                it.assignees.append(person)
                call.state.event(it, "assigned", call.actor, assignee=person)
    return Reply(shapes.issue(call.repository, it, call.url), 201)


@operation("delete", f"{ISSUE}/assignees")
def remove_assignees(call: Call) -> Reply:
    """Take people off."""
    call.needs("triage")
    it = the_issue(call)
    for person in [each for each in it.assignees if each.login in call.body["assignees"]]:
        it.assignees.remove(person)
        call.state.event(it, "unassigned", call.actor, assignee=person)
    return Reply(shapes.issue(call.repository, it, call.url))


def the_comment(call: Call) -> tuple[Issue, Comment]:
    """The comment the path names, and what it is on. Raises Refusal (404)."""
    for it in call.repository.issues.values():
        for comment in it.comments:
            if comment.id == int(call.path["comment_id"]):
                return it, comment
    raise Refusal(404, "Not Found")


@operation("post", f"{ISSUE}/comments")
def comment(call: Call) -> Reply:
    """A new comment."""
    it, body = the_issue(call), _text(call)
    if it.locked:
        call.needs("write")
    made = call.state.comment(it, body, call.actor.login)
    return Reply(shapes.comment(call.repository, it, made, call.url), 201)


@operation("get", COMMENT)
def get_comment(call: Call) -> Reply:
    """One comment."""
    it, found = the_comment(call)
    return Reply(shapes.comment(call.repository, it, found, call.url))


@operation("patch", COMMENT)
def edit_comment(call: Call) -> Reply:
    """Its author may edit it, and who may write."""
    it, found = the_comment(call)
    if found.author is not call.actor:
        call.needs("write")
    found.body, found.updated = _text(call), call.state.now()
    call.state.touch(it)
    return Reply(shapes.comment(call.repository, it, found, call.url))


def _text(call: Call) -> str:
    text: str = call.body["body"]
    if not text.strip() or len(text) > MOST:
        raise Refusal(422, "Validation Failed")
    return text
