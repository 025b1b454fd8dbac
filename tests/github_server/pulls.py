"""Pull requests: listing, opening, editing, merging, and the two GraphQL mutations for drafts."""

from __future__ import annotations

import re
import subprocess
from typing import Any

from tests.github_server import shapes
from tests.github_server.routes import Call, Refusal, Reply, operation, plain
from tests.github_server.state import Issue, Pull, Repository

REPO = "/repos/{owner}/{repo}"
PULL = f"{REPO}/pulls/{{pull_number}}"
_CLOSES = re.compile(r"\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?):? #(\d+)", re.IGNORECASE)
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def head_of(repo: Repository, it: Issue) -> str:
    """The commit its head stands on, or stood on when it was closed."""
    if it.pull is None:
        raise Refusal(404, "Not Found")
    return repo.refs().get(f"refs/heads/{it.pull.head_ref}") or it.pull.closed_head or "0" * 40


def simple(repo: Repository, it: Issue, call: Call) -> dict[str, Any]:
    """What lists tell of a pull request."""
    if it.pull is None:
        raise Refusal(404, "Not Found")
    url, pull = call.url, it.pull
    base = f"{url}/repos/{repo.full_name}"
    own, html = f"{base}/pulls/{it.number}", f"{url}/{repo.full_name}/pull/{it.number}"
    of_issue = shapes.issue(repo, it, url)
    refs = repo.refs()

    def side(ref: str, sha: str) -> dict[str, Any]:
        told = shapes.repository(repo, call.actor, url)
        return {
            "label": f"{repo.owner.login}:{ref}", "ref": ref, "sha": sha, "user": shapes.user(repo.owner, url),
            "repo": told,
        }  # fmt: skip

    sha = head_of(repo, it)
    links = {
        "self": own, "html": html, "issue": of_issue["url"], "comments": of_issue["comments_url"],
        "review_comments": f"{own}/comments", "review_comment": f"{base}/pulls/comments{{/number}}",
        "commits": f"{own}/commits", "statuses": f"{base}/statuses/{sha}",
    }  # fmt: skip
    names = ("id", "node_id", "number", "title", "body", "user", "labels", "state", "locked", "assignee", "assignees",
             "milestone", "created_at", "updated_at", "closed_at", "author_association",
             "active_lock_reason")  # fmt: skip
    return {
        **{name: of_issue[name] for name in names},
        "url": own,
        "html_url": html,
        "diff_url": f"{html}.diff",
        "patch_url": f"{html}.patch",
        "issue_url": of_issue["url"],
        "commits_url": links["commits"],
        "review_comments_url": links["review_comments"],
        "review_comment_url": links["review_comment"],
        "comments_url": links["comments"],
        "statuses_url": links["statuses"],
        "merged_at": shapes.moment(pull.merged_at),
        "merge_commit_sha": pull.merge_commit,
        "requested_reviewers": [],
        "requested_teams": [],
        "head": side(pull.head_ref, sha),
        "base": side(pull.base_ref, refs[f"refs/heads/{pull.base_ref}"]),
        "_links": {name: {"href": link} for name, link in links.items()},
        "auto_merge": None,
        "draft": pull.draft,
    }


def whole(repo: Repository, it: Issue, call: Call) -> dict[str, Any]:
    """What a pull request's own address tells of it."""
    merged = it.pull is not None and it.pull.merged_at is not None
    return simple(repo, it, call) | {
        "merged": merged,
        "mergeable": None if it.state == "closed" else True,
        "rebaseable": None,
        "mergeable_state": "draft" if it.pull and it.pull.draft else "clean",
        "merged_by": shapes.user(it.closed_by, call.url) if merged and it.closed_by else None,
        "comments": len(it.comments),
        "review_comments": 0,
        "maintainer_can_modify": False,
        **dict.fromkeys(("commits", "additions", "deletions", "changed_files"), 1),
    }


def the_pull(call: Call) -> Issue:
    """The pull request the path names. Raises Refusal (404)."""
    found = call.repository.issues.get(int(call.path["pull_number"]))
    if found is None or found.pull is None:
        raise Refusal(404, "Not Found")
    return found


@operation("get", f"{REPO}/pulls")
def list_pulls(call: Call) -> Reply:
    """Pull requests by state, head and base, newest first."""
    repo, query = call.repository, call.query
    found = []
    for it in sorted(repo.issues.values(), key=lambda each: -each.number):
        if it.pull is None or query.get("state", "open") not in ("all", it.state):
            continue
        if query.get("head", "") not in ("", f"{it.pull.head_owner}:{it.pull.head_ref}"):
            continue
        if query.get("base", it.pull.base_ref) == it.pull.base_ref:
            found.append(simple(repo, it, call))
    return Reply(found)


@operation("get", PULL)
def get_pull(call: Call) -> Reply:
    """One pull request."""
    return Reply(whole(call.repository, the_pull(call), call))


@operation("post", f"{REPO}/pulls")
def open_pull(call: Call) -> Reply:
    """A new pull request between two branches of the repository; one that is open for them already is refused."""
    call.needs("write")
    repo, wanted = call.repository, call.body
    head, base = wanted["head"].rpartition(":")[2], wanted["base"]
    refs = repo.refs("refs/heads/")
    for name, branch in (("head", head), ("base", base)):
        if f"refs/heads/{branch}" not in refs:
            raise _invalid(f"{name} does not exist", name)
    if any(
        it.pull and it.state == "open" and (it.pull.head_ref, it.pull.base_ref) == (head, base)
        for it in repo.issues.values()
    ):
        raise _invalid(f"A pull request already exists for {repo.owner.login}:{head}.")
    try:
        if not repo.git("rev-list", f"{base}..{head}"):
            raise _invalid(f"No commits between {base} and {head}")
        repo.git("merge-base", base, head)
    except subprocess.CalledProcessError:
        raise _invalid(f"The {head} branch has no history in common with {base}") from None
    pull = Pull(head, base, repo.owner.login, draft=bool(wanted.get("draft")))
    made = call.state.issue(repo, wanted["title"], wanted.get("body"), author=call.actor.login, pull=pull)
    _cross_reference(call, made)
    return Reply(whole(repo, made, call), 201)


def _invalid(message: str, field: str = "base") -> Refusal:
    errors = [{"resource": "PullRequest", "field": field, "code": "custom", "message": message}]
    return Refusal(422, "Validation Failed", errors=errors)


def _closed_by(text: str | None) -> list[int]:
    """The issues whose closing words are in the text; words in code do not count."""
    return [int(number) for number in _CLOSES.findall(_CODE.sub("", text or ""))]


def _cross_reference(call: Call, pull: Issue) -> None:
    for number in _closed_by(pull.body):
        if number in call.repository.issues:
            call.state.event(call.repository.issues[number], "cross-referenced", call.actor, source=pull.number)


@operation("patch", PULL)
def edit_pull(call: Call) -> Reply:
    """Its title, text and state; its author may do that, and who may write."""
    it, repo = the_pull(call), call.repository
    if it.author is not call.actor:
        call.needs("write")
    changes: dict[str, Any] = call.body or {}
    it.title, it.body = changes.get("title", it.title), changes.get("body", it.body)
    if changes.get("state") == "closed" and it.state == "open":
        assert it.pull is not None
        it.pull.closed_head = head_of(repo, it)
        call.state.close(it, call.actor.login)
    elif changes.get("state") == "open" and it.state == "closed":
        assert it.pull is not None
        if it.pull.merged_at is not None or f"refs/heads/{it.pull.head_ref}" not in repo.refs():
            raise _invalid("state cannot be changed: the branch was deleted", "state")
        it.state, it.closed, it.closed_by = "open", None, None
    call.state.touch(it)
    return Reply(whole(repo, it, call))


@operation("put", f"{PULL}/merge")
def merge(call: Call) -> Reply:
    """Merge it, and close what its text says it closes."""
    call.needs("write")
    it, repo = the_pull(call), call.repository
    assert it.pull is not None
    if it.pull.draft:
        raise Refusal(405, "Pull Request is still a draft")
    if it.state != "open":
        raise Refusal(405, "Pull Request is not mergeable")
    head, base = head_of(repo, it), it.pull.base_ref
    if (call.body or {}).get("sha", head) != head:
        raise Refusal(409, "Head branch was modified. Review and try the merge again.")
    tree = repo.git("merge-tree", "--write-tree", base, head)
    made = repo.git("commit-tree", tree, "-p", base, "-p", head, "-m", f"Merge pull request #{it.number}")
    repo.git("update-ref", f"refs/heads/{base}", made)
    it.pull.merged_at, it.pull.merge_commit, it.pull.closed_head = call.state.now(), made, head
    call.state.close(it, call.actor.login)
    for number in _closed_by(it.body):
        if number in repo.issues and repo.issues[number].state == "open":
            call.state.close(repo.issues[number], call.actor.login)
    return Reply({"sha": made, "merged": True, "message": "Pull Request successfully merged"})


_MUTATION = re.compile(
    r"\s*mutation\s*\(\$(?P<name>\w+): ID!\)\s*\{\s*(?P<call>markPullRequestReadyForReview|convertPullRequestToDraft)"
    r"\(input: \{pullRequestId: \$(?P=name)\}\)\s*\{\s*clientMutationId\s*\}\s*\}\s*"
)


@plain("post", "/graphql")
@plain("post", "/api/graphql")
def graphql(call: Call) -> Reply:
    """Only what the train asks GraphQL for; anything else is an error, as a query GitHub does not know would be."""
    found = _MUTATION.fullmatch(call.body.get("query", ""))
    variables = call.body.get("variables") or {}
    if found is None or set(variables) != {found["name"]} or not isinstance(variables[found["name"]], str):
        return Reply({"errors": [{"type": "undefinedField", "message": "this is not known here"}]})
    for repo in call.state.repositories.values():
        for it in repo.issues.values():
            if it.pull is None or shapes.node("PR", it.id) != variables[found["name"]]:
                continue
            if not repo.may(call.actor, "write"):
                return Reply({"errors": [{"type": "FORBIDDEN", "message": "Resource not accessible"}]})
            if it.state != "open":
                return Reply({"errors": [{"type": "UNPROCESSABLE", "message": "the pull request is closed"}]})
            it.pull.draft = found["call"] == "convertPullRequestToDraft"
            call.state.touch(it)
            return Reply({"data": {found["call"]: {"clientMutationId": None}}})
    return Reply({"errors": [{"type": "NOT_FOUND", "message": "Could not resolve to a node"}]})
