"""Pull requests as a reader sees them: the list, and one by itself."""

from __future__ import annotations

from typing import Any

from tests.github_server import shapes
from tests.github_server.routes import Call, Refusal, Reply, operation
from tests.github_server.state import Issue, Pull, Repository

REPO = "/repos/{owner}/{repo}"
PULL = f"{REPO}/pulls/{{pull_number}}"


def _side(repo: Repository, ref: str, owner: str, call: Call) -> dict[str, Any]:
    sha = repo.refs().get(f"refs/heads/{ref}", "0" * 40)
    told = shapes.repository(repo, call.actor, call.url)
    if owner != repo.owner.login:  # a fork
        told |= {"full_name": f"{owner}/{repo.name}", "fork": True}
    return {"label": f"{owner}:{ref}", "ref": ref, "sha": sha, "user": shapes.user(repo.owner, call.url), "repo": told}


def simple(repo: Repository, it: Issue, pull: Pull, call: Call) -> dict[str, Any]:
    """What the list tells of a pull request."""
    told = shapes.issue(repo, it, call.url)
    base = f"{call.url}/repos/{repo.full_name}"
    own = f"{base}/pulls/{it.number}"
    links = ("html", "issue", "comments", "review_comments", "review_comment", "commits", "statuses", "self")
    kept = (
        "id", "node_id", "html_url", "number", "state", "locked", "title", "user", "body", "labels", "milestone",
        "created_at", "updated_at", "closed_at", "assignee", "assignees", "author_association",
    )  # fmt: skip
    return {
        **{name: told[name] for name in kept},
        "url": own,
        "diff_url": f"{told['html_url']}.diff",
        "patch_url": f"{told['html_url']}.patch",
        "issue_url": f"{base}/issues/{it.number}",
        "commits_url": f"{own}/commits",
        "review_comments_url": f"{own}/comments",
        "review_comment_url": f"{base}/pulls/comments{{/number}}",
        "comments_url": f"{base}/issues/{it.number}/comments",
        "statuses_url": f"{base}/statuses/x",
        "merged_at": shapes.moment(pull.merged_at),
        "merge_commit_sha": pull.merge_commit,
        "requested_reviewers": [],
        "requested_teams": [],
        "head": _side(repo, pull.head_ref, pull.head_owner, call),
        "base": _side(repo, pull.base_ref, repo.owner.login, call),
        "_links": {name: {"href": own} for name in links},
        "auto_merge": None,
        "draft": pull.draft,
    }


@operation("get", f"{REPO}/pulls")
def list_pulls(call: Call) -> Reply:
    """Pull requests by state."""
    found = [
        simple(call.repository, it, it.pull, call)
        for it in call.repository.issues.values()
        if it.pull is not None and call.query.get("state", "open") in ("all", it.state)
    ]
    return Reply(found)


@operation("get", PULL)
def get_pull(call: Call) -> Reply:
    """One pull request."""
    it = call.repository.issues.get(int(call.path["pull_number"]))
    if it is None or it.pull is None:
        raise Refusal(404, "Not Found")
    figures = dict.fromkeys(
        ("comments", "review_comments", "commits", "additions", "deletions", "changed_files"), len(it.comments)
    )
    more = {
        "merged": it.pull.merged_at is not None,
        "mergeable": True,
        "rebaseable": None,
        "mergeable_state": "clean",
        "merged_by": None,
        "maintainer_can_modify": False,
    }
    return Reply(simple(call.repository, it, it.pull, call) | figures | more)
