"""Reactions to comments."""

from __future__ import annotations

from tests.github_server import shapes
from tests.github_server.issues import REPO
from tests.github_server.routes import Call, Refusal, Reply, operation
from tests.github_server.state import Comment, Issue

COMMENT = f"{REPO}/issues/comments/{{comment_id}}"


def the_comment(call: Call) -> tuple[Issue, Comment]:
    """The comment the path names, and what it is on. Raises Refusal (404)."""
    number = int(call.path["comment_id"])
    for issue in call.repository.issues.values():
        for comment in issue.comments:
            if comment.id == number:
                return issue, comment
    raise Refusal(404, "Not Found")


@operation("get", f"{COMMENT}/reactions")
def list_reactions(call: Call) -> Reply:
    """A comment's reactions."""
    _, comment = the_comment(call)
    return Reply([_reaction(number, account, content, call) for number, account, content in comment.reactions])


@operation("post", f"{COMMENT}/reactions")
def create_reaction(call: Call) -> Reply:
    """One's reaction; 200 for one that is there, as at GitHub."""
    _, comment = the_comment(call)
    content = call.body["content"]
    for number, account, given in comment.reactions:
        if account is call.actor and given == content:
            return Reply(_reaction(number, account, given, call))
    number = next(call.state.ids)
    comment.reactions.append((number, call.actor, content))
    return Reply(_reaction(number, call.actor, content, call), 201)


def _reaction(number: int, account: object, content: str, call: Call) -> dict[str, object]:
    return {
        "id": number,
        "node_id": shapes.node("REA", number),
        "user": shapes.user(account, call.url),  # type: ignore[arg-type]
        "content": content,
        "created_at": shapes.moment(call.state.now()),
    }
