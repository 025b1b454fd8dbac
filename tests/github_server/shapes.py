"""How GitHub writes accounts, repositories, issues and the rest in its answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.github_server.state import Account, Comment, Event, Issue, Repository

REACTIONS = {"+1": 0, "-1": 0, "laugh": 0, "hooray": 0, "confused": 0, "heart": 0, "rocket": 0, "eyes": 0}
_REPOSITORY_URLS = {
    "archive_url": "{archive_format}{/ref}", "assignees_url": "assignees{/user}", "blobs_url": "git/blobs{/sha}",
    "branches_url": "branches{/branch}", "collaborators_url": "collaborators{/collaborator}",
    "comments_url": "comments{/number}", "commits_url": "commits{/sha}", "compare_url": "compare/{base}...{head}",
    "contents_url": "contents/{+path}", "contributors_url": "contributors", "deployments_url": "deployments",
    "downloads_url": "downloads", "events_url": "events", "forks_url": "forks", "git_commits_url": "git/commits{/sha}",
    "git_refs_url": "git/refs{/sha}", "git_tags_url": "git/tags{/sha}", "hooks_url": "hooks",
    "issue_comment_url": "issues/comments{/number}", "issue_events_url": "issues/events{/number}",
    "issues_url": "issues{/number}", "keys_url": "keys{/key_id}", "labels_url": "labels{/name}",
    "languages_url": "languages", "merges_url": "merges", "milestones_url": "milestones{/number}",
    "notifications_url": "notifications{?since,all,participating}", "pulls_url": "pulls{/number}",
    "releases_url": "releases{/id}", "stargazers_url": "stargazers", "statuses_url": "statuses/{sha}",
    "subscribers_url": "subscribers", "subscription_url": "subscription", "tags_url": "tags", "teams_url": "teams",
    "trees_url": "git/trees{/sha}",
}  # fmt: skip
_USER_URLS = {
    "followers_url": "/followers", "following_url": "/following{/other_user}", "gists_url": "/gists{/gist_id}",
    "starred_url": "/starred{/owner}{/repo}", "subscriptions_url": "/subscriptions",
    "organizations_url": "/orgs", "repos_url": "/repos", "events_url": "/events{/privacy}",
    "received_events_url": "/received_events",
}  # fmt: skip


def moment(time: datetime | None) -> str | None:
    """`2026-11-01T09:00:00Z`."""
    return None if time is None else time.strftime("%Y-%m-%dT%H:%M:%SZ")


def node(kind: str, number: int) -> str:
    """A node id for GraphQL: `PR_12`."""
    return f"{kind}_{number}"


def user(account: Account, url: str) -> dict[str, Any]:
    """A simple user."""
    own = f"{url}/users/{account.login}"
    return {
        "login": account.login,
        "id": account.id,
        "node_id": node("U", account.id),
        "avatar_url": f"{own}/avatar",
        "gravatar_id": "",
        "url": own,
        "html_url": f"{url}/{account.login}",
        "type": account.kind,
        "site_admin": False,
        **{name: own + rest for name, rest in _USER_URLS.items()},
    }


def public_user(account: Account, url: str) -> dict[str, Any]:
    """A public user, as `/users/LOGIN` has it."""
    none = dict.fromkeys(("name", "company", "location", "email", "hireable", "bio"))
    figures = dict.fromkeys(("public_repos", "public_gists", "followers", "following"), 0)
    times = {"created_at": "2020-01-01T00:00:00Z", "updated_at": "2020-01-01T00:00:00Z"}
    return user(account, url) | none | figures | times | {"blog": "", "user_view_type": "public"}


def repository(repo: Repository, actor: Account, url: str) -> dict[str, Any]:
    """A full repository."""
    own = f"{url}/repos/{repo.full_name}"
    times = dict.fromkeys(("pushed_at", "created_at", "updated_at"), "2026-01-01T00:00:00Z")
    counts = ("forks_count", "stargazers_count", "watchers_count", "size", "open_issues_count", "subscribers_count",
              "network_count", "forks", "open_issues", "watchers")  # fmt: skip
    return {
        "id": repo.id,
        "node_id": node("R", repo.id),
        "name": repo.name,
        "full_name": repo.full_name,
        "owner": user(repo.owner, url),
        "private": repo.private,
        "html_url": f"{url}/{repo.full_name}",
        "description": None,
        "fork": False,
        "url": own,
        **{name: f"{own}/{rest}" for name, rest in _REPOSITORY_URLS.items()},
        "git_url": f"git:{repo.full_name}.git",
        "ssh_url": f"git@host:{repo.full_name}.git",
        "clone_url": f"{url}/{repo.full_name}.git",
        "svn_url": f"{url}/{repo.full_name}",
        "mirror_url": None,
        "homepage": None,
        "language": None,
        **dict.fromkeys(counts, 0),
        "default_branch": repo.default_branch,
        **dict.fromkeys(("has_issues", "has_projects", "has_wiki", "has_downloads"), True),
        **dict.fromkeys(("has_pages", "has_discussions", "archived", "disabled"), False),
        "license": None,
        **times,
        "permissions": {
            name: repo.may(actor, role)
            for name, role in (
                ("admin", "admin"), ("maintain", "maintain"), ("push", "write"), ("triage", "triage"), ("pull", "read")
            )
        },
    }  # fmt: skip


def label(name: str, url: str) -> dict[str, Any]:
    """A label of an issue."""
    return {
        "id": 1,
        "node_id": "LA_1",
        "url": f"{url}/labels/{name}",
        "name": name,
        "description": None,
        "color": "ededed",
        "default": False,
    }


def issue(repo: Repository, it: Issue, url: str) -> dict[str, Any]:
    """An issue; of a pull request what the issue endpoints tell."""
    base = f"{url}/repos/{repo.full_name}"
    own = f"{base}/issues/{it.number}"
    people = [user(account, url) for account in it.assignees]
    waits = [number for number in it.blocked_by if number in repo.issues]
    blocks = [other for other in repo.issues.values() if it.number in other.blocked_by]
    told = {
        "id": it.id,
        "node_id": node("I" if it.pull is None else "PR", it.id),
        "url": own,
        "repository_url": base,
        "labels_url": f"{own}/labels{{/name}}",
        "comments_url": f"{own}/comments",
        "events_url": f"{own}/events",
        "timeline_url": f"{own}/timeline",
        "html_url": f"{url}/{repo.full_name}/{'issues' if it.pull is None else 'pull'}/{it.number}",
        "number": it.number,
        "title": it.title,
        "body": it.body,
        "user": user(it.author, url),
        "labels": [label(name, url) for name in it.labels],
        "state": it.state,
        "state_reason": it.state_reason,
        "locked": it.locked,
        "active_lock_reason": None,
        "assignee": people[0] if people else None,
        "assignees": people,
        "milestone": None,
        "comments": len(it.comments),
        "created_at": moment(it.created),
        "updated_at": moment(it.updated),
        "closed_at": moment(it.closed),
        "closed_by": user(it.closed_by, url) if it.closed_by else None,
        "author_association": "NONE",
        "issue_dependencies_summary": {
            "blocked_by": sum(repo.issues[number].state == "open" for number in waits),
            "total_blocked_by": len(waits),
            "blocking": sum(other.state == "open" for other in blocks),
            "total_blocking": len(blocks),
        },
    }
    if it.pull is not None:
        pull = f"{base}/pulls/{it.number}"
        told["draft"] = it.pull.draft
        told["pull_request"] = {
            "url": pull,
            "html_url": told["html_url"],
            "diff_url": f"{told['html_url']}.diff",
            "patch_url": f"{told['html_url']}.patch",
            "merged_at": moment(it.pull.merged_at),
        }
    return told


def reactions(it: Comment, own: str) -> dict[str, Any]:
    """How often each reaction was given."""
    counts = dict(REACTIONS)
    for _, _, content in it.reactions:
        counts[content] += 1
    return {"url": f"{own}/reactions", "total_count": len(it.reactions), **counts}


def comment(repo: Repository, on: Issue, it: Comment, url: str) -> dict[str, Any]:
    """A comment on an issue or pull request."""
    base = f"{url}/repos/{repo.full_name}"
    own = f"{base}/issues/comments/{it.id}"
    return {
        "id": it.id,
        "node_id": node("IC", it.id),
        "url": own,
        "html_url": f"{url}/{repo.full_name}/issues/{on.number}#issuecomment-{it.id}",
        "issue_url": f"{base}/issues/{on.number}",
        "body": it.body,
        "user": user(it.author, url),
        "created_at": moment(it.created),
        "updated_at": moment(it.updated),
        "author_association": "NONE",
        "reactions": reactions(it, own),
        "performed_via_github_app": _app(it.app, it.author, url) if it.app else None,
    }


def _app(slug: str, owner: Account, url: str) -> dict[str, Any]:
    return {
        "id": 7,
        "slug": slug,
        "node_id": node("A", 7),
        "owner": user(owner, url),
        "name": slug,
        "description": None,
        "external_url": url,
        "html_url": f"{url}/apps/{slug}",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "permissions": {"issues": "write", "metadata": "read"},
        "events": [],
    }


def event(repo: Repository, on: Issue, it: Event, url: str) -> dict[str, Any]:
    """A line of a timeline."""
    actor = user(it.actor, url)
    if it.kind == "cross-referenced":
        times = {"created_at": moment(it.created), "updated_at": moment(it.created)}
        source = {"type": "issue", "issue": issue(repo, repo.issues[it.source], url)}
        return {"event": it.kind, "actor": actor, **times, "source": source}
    told = {
        "id": it.id,
        "node_id": node("E", it.id),
        "url": f"{url}/repos/{repo.full_name}/issues/events/{it.id}",
        "actor": actor,
        "event": it.kind,
        "commit_id": None,
        "commit_url": None,
        "created_at": moment(it.created),
        "performed_via_github_app": None,
    }
    if it.kind in ("labeled", "unlabeled"):
        told["label"] = {"name": it.label, "color": "ededed"}
    if it.assignee is not None:
        told |= {"assignee": user(it.assignee, url), "assigner": actor}
    if it.kind in ("closed", "reopened"):
        told["state_reason"] = on.state_reason
    if it.kind in ("locked", "unlocked"):
        told["lock_reason"] = None
    return told


def ref(repo: Repository, name: str, sha: str, url: str) -> dict[str, Any]:
    """A git ref; `name` is the whole one, `refs/heads/main`."""
    base = f"{url}/repos/{repo.full_name}/git"
    return {
        "ref": name,
        "node_id": f"REF_{name}",
        "url": f"{base}/{name}",
        "object": {"type": "commit", "sha": sha, "url": f"{base}/commits/{sha}"},
    }
