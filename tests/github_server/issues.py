"""Issues: listing and reading, comments to read, dependencies, events and timeline, and who edits text and state."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.github_server import shapes
from tests.github_server.routes import Call, Refusal, Reply, graphql, operation
from tests.github_server.state import Issue

REPO = "/repos/{owner}/{repo}"
ISSUE = f"{REPO}/issues/{{issue_number}}"


def the_issue(call: Call) -> Issue:
    """The issue the path names. Raises Refusal (404)."""
    found = call.repository.issues.get(int(call.path["issue_number"]))
    if found is None:
        raise Refusal(404, "Not Found")
    return found


def since(call: Call) -> datetime | None:
    """The moment `since` names."""
    return datetime.fromisoformat(call.query["since"]) if "since" in call.query else None


@operation("get", f"{REPO}/issues")
def list_issues(call: Call) -> Reply:
    """Issues and pull requests, by state, labels and time of change."""
    query, start = call.query, since(call)
    wanted = {name.lower() for name in query.get("labels", "").split(",") if name}
    found = [
        it
        for it in call.repository.issues.values()
        if query.get("state", "open") in ("all", it.state)
        and (start is None or it.updated >= start)
        and wanted <= {name.lower() for name in it.labels}
    ]
    key = {"created": "created", "updated": "updated"}[query.get("sort", "created")]
    descending = query.get("direction", "desc") == "desc"
    found.sort(key=lambda it: (getattr(it, key), it.number), reverse=descending)
    return Reply([shapes.issue(call.repository, it, call.url) for it in found])


@operation("get", ISSUE)
def get_issue(call: Call) -> Reply:
    """One issue."""
    return Reply(shapes.issue(call.repository, the_issue(call), call.url))


@operation("patch", ISSUE)
def update_issue(call: Call) -> Reply:
    """Its title, body and state; the author may do that, and who may triage."""
    it = the_issue(call)
    if it.author is not call.actor:
        call.needs("triage")
    changes: dict[str, Any] = call.body or {}
    if unknown := set(changes) - {"title", "body", "state", "state_reason"}:
        raise Refusal(422, f"this stand-in does not set {', '.join(sorted(unknown))} here")
    it.title = changes.get("title", it.title)
    if "body" in changes:
        call.state.edit(it, changes["body"], call.actor.login)
    if changes.get("state") == "closed" and it.state == "open":
        call.state.close(it, call.actor.login, changes.get("state_reason") or "completed")
    elif changes.get("state") == "open" and it.state == "closed":
        it.state, it.closed, it.closed_by, it.state_reason = "open", None, None, "reopened"
        call.state.event(it, "reopened", call.actor)
    call.state.touch(it)
    return Reply(shapes.issue(call.repository, it, call.url))


@operation("get", f"{ISSUE}/comments")
def list_comments(call: Call) -> Reply:
    """An issue's comments, oldest first."""
    it, start = the_issue(call), since(call)
    found = [each for each in it.comments if start is None or each.updated >= start]
    return Reply([shapes.comment(call.repository, it, each, call.url) for each in found])


@operation("get", f"{REPO}/issues/comments")
def list_all_comments(call: Call) -> Reply:
    """Comments of all issues, by time."""
    start, key = since(call), {"created": "created", "updated": "updated"}[call.query.get("sort", "created")]
    found = [
        (each, it)
        for it in call.repository.issues.values()
        for each in it.comments
        if start is None or each.updated >= start
    ]
    descending = call.query.get("direction", "asc" if "sort" not in call.query else "desc") == "desc"
    found.sort(key=lambda pair: (getattr(pair[0], key), pair[0].id), reverse=descending)
    return Reply([shapes.comment(call.repository, it, each, call.url) for each, it in found])


@operation("get", f"{ISSUE}/dependencies/blocked_by")
def blocked_by(call: Call) -> Reply:
    """The issues that must be closed first."""
    repo = call.repository
    found = [repo.issues[number] for number in the_issue(call).blocked_by if number in repo.issues]
    return Reply([shapes.issue(repo, it, call.url) for it in found])


@operation("get", f"{ISSUE}/events")
def events(call: Call) -> Reply:
    """What happened to an issue, without comments and references."""
    it = the_issue(call)
    own = [each for each in it.events if each.kind != "cross-referenced"]
    return Reply([shapes.event(call.repository, it, each, call.url) for each in own])


@operation("get", f"{ISSUE}/timeline")
def timeline(call: Call) -> Reply:
    """What happened to an issue, with references."""
    it = the_issue(call)
    return Reply([shapes.event(call.repository, it, each, call.url) for each in it.events])


@graphql("userContentEdits")
def edits(call: Call) -> Reply:
    """Who changed an issue's text and when, which REST does not tell. The newest first."""
    asked = call.body["variables"]
    repo = call.state.repositories.get(f"{asked['owner']}/{asked['name']}".lower())
    it = repo.issues.get(asked["number"]) if repo else None
    if it is None:
        error = {"type": "NOT_FOUND", "message": "Could not resolve to an Issue"}
        return Reply({"data": {"repository": None}, "errors": [error]})
    nodes = [
        {"editedAt": shapes.moment(when), "editor": {"login": by.login, "databaseId": by.id}}
        for when, by in reversed(it.edits)
    ]
    told = {"userContentEdits": {"totalCount": len(nodes), "nodes": nodes[:100]}}
    return Reply({"data": {"repository": {"issue": told}}})
