"""Git: refs, branches, commits and files to read from the real repositories, and smart HTTP by `git http-backend`."""

from __future__ import annotations

import os
import re
import subprocess
from base64 import b64decode, b64encode
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tests.github_server import shapes
from tests.github_server.routes import Call, Refusal, Reply, operation
from tests.github_server.state import Repository, State

REPO = "/repos/{owner}/{repo}"
_PATH = re.compile(r"^/(?P<full>[^/]+/[^/]+)\.git/(?P<rest>.+)$")


@operation("get", f"{REPO}/git/matching-refs/{{ref}}")
def matching_refs(call: Call) -> Reply:
    """All refs that begin so."""
    found = call.repository.refs(f"refs/{call.path['ref']}")
    return Reply([shapes.ref(call.repository, name, sha, call.url) for name, sha in found.items()])


@operation("get", f"{REPO}/git/ref/{{ref}}")
def get_ref(call: Call) -> Reply:
    """One ref."""
    name = f"refs/{call.path['ref']}"
    refs = call.repository.refs()
    if name not in refs:
        raise Refusal(404, "Not Found")
    return Reply(shapes.ref(call.repository, name, refs[name], call.url))


def _commit_of(repo: Repository, name: str) -> str:
    try:
        return repo.git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except subprocess.CalledProcessError:
        raise Refusal(404, "Not Found") from None


@operation("get", f"{REPO}/branches")
def branches(call: Call) -> Reply:
    """All branches."""
    repo = call.repository
    base = f"{call.url}/repos/{repo.full_name}/commits"
    return Reply(
        [
            {
                "name": name.removeprefix("refs/heads/"),
                "commit": {"sha": sha, "url": f"{base}/{sha}"},
                "protected": False,
            }
            for name, sha in repo.refs("refs/heads/").items()
        ]
    )


def commit(repo: Repository, sha: str, url: str) -> dict[str, Any]:
    """A commit of the repository."""
    show = repo.git("show", "-s", "--format=%T%n%P%n%an%n%ae%n%aI%n%B", sha).split("\n", 5)
    tree, parents, name, email, date, message = show
    base = f"{url}/repos/{repo.full_name}"
    person = {"name": name, "email": email, "date": date}
    verification = {"verified": False, "reason": "unsigned", "payload": None, "signature": None, "verified_at": None}
    html = f"{url}/{repo.full_name}/commit"
    return {
        "sha": sha,
        "node_id": f"C_{sha}",
        "url": f"{base}/commits/{sha}",
        "html_url": f"{html}/{sha}",
        "comments_url": f"{base}/commits/{sha}/comments",
        "commit": {
            "url": f"{base}/git/commits/{sha}",
            "author": person,
            "committer": person,
            "message": message.strip(),
            "comment_count": 0,
            "tree": {"sha": tree, "url": f"{base}/git/trees/{tree}"},
            "verification": verification,
        },
        "author": {},
        "committer": {},
        "parents": [
            {"sha": each, "url": f"{base}/commits/{each}", "html_url": f"{html}/{each}"} for each in parents.split()
        ],
    }


@operation("get", f"{REPO}/commits/{{ref}}")
def get_commit(call: Call) -> Reply:
    """One commit."""
    return Reply(commit(call.repository, _commit_of(call.repository, call.path["ref"]), call.url))


@operation("get", f"{REPO}/commits")
def commits(call: Call) -> Reply:
    """The newest commits of a branch."""
    repo = call.repository
    start = _commit_of(repo, call.query.get("sha", repo.default_branch))
    listed = repo.git("rev-list", "-n", "200", start).split()
    return Reply([commit(repo, sha, call.url) for sha in listed])


@operation("get", f"{REPO}/contents/{{path}}")
def contents(call: Call) -> Reply:
    """One file's bytes at a ref."""
    repo, path = call.repository, call.path["path"]
    at = _commit_of(repo, call.query.get("ref", repo.default_branch))
    shown = subprocess.run(["git", "-C", str(repo.path), "show", f"{at}:{path}"], capture_output=True)
    if shown.returncode:
        raise Refusal(404, "Not Found")
    sha = repo.git("rev-parse", f"{at}:{path}")
    own = f"{call.url}/repos/{repo.full_name}/contents/{path}"
    blob = f"{call.url}/repos/{repo.full_name}/git/blobs/{sha}"
    return Reply(
        {
            "type": "file",
            "encoding": "base64",
            "size": len(shown.stdout),
            "name": path.rsplit("/", 1)[-1],
            "path": path,
            "content": b64encode(shown.stdout).decode(),
            "sha": sha,
            "url": own,
            "git_url": blob,
            "html_url": own,
            "download_url": own,
            "_links": {"git": blob, "self": own, "html": own},
        }
    )


def answer(state: State, request: Request, path: str, body: bytes) -> Response:
    """Smart HTTP: who may read may fetch, who may write may push."""
    found = _PATH.match(path)
    repo = state.repositories.get(found["full"].lower()) if found else None
    if found is None or repo is None:
        return Response("not found", 404)
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    token = b64decode(secret).decode().partition(":")[2] if kind.lower() == "basic" else secret
    account = state.by_token(token)
    pushing = "git-receive-pack" in (found["rest"], request.query_params.get("service", ""))
    if account is None and (pushing or repo.private):
        return Response("log in", 401, {"www-authenticate": 'Basic realm="GitHub"'})
    if account is not None and not repo.may(account, "write" if pushing else "read"):
        return Response("not allowed", 403)
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_PROJECT_ROOT": str(state.folder),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": f"/{repo.owner.login}/{repo.path.name}/{found['rest']}",
        "REQUEST_METHOD": request.method,
        "QUERY_STRING": request.url.query,
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
        "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
        "REMOTE_USER": account.login if account else "",
        "REMOTE_ADDR": "127.0.0.1",
    }
    done = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=environment)
    head, _, rest = done.stdout.partition(b"\r\n\r\n")
    headers, status = {}, 200
    for line in head.decode().split("\r\n"):
        name, _, value = line.partition(": ")
        if name.lower() == "status":
            status = int(value.split(" ")[0])
        elif name:
            headers[name] = value
    return Response(rest, status, headers)
