"""Accounts, the repository itself, permissions, limits, and the tokens of GitHub Apps."""

from __future__ import annotations

import time
from datetime import timedelta

import jwt

from tests.github_server import shapes
from tests.github_server.routes import Call, Refusal, Reply, operation
from tests.github_server.state import CLASSIC, Account, State

REPO = "/repos/{owner}/{repo}"


def app_account(state: State, claim: str) -> Account | None:
    """The account of the app that signed this claim, if one did."""
    if claim.count(".") != 2:
        return None
    for account, public in list(state.installations.values()):
        try:
            jwt.decode(claim, public, algorithms=["RS256"], leeway=60, options={"require": ["iat", "exp", "iss"]})
        except jwt.InvalidTokenError:
            continue
        return account
    return None


@operation("post", "/app/installations/{installation_id}/access_tokens")
def access_token(call: Call) -> Reply:
    """A token of an app's installation, for an hour."""
    found = call.state.installations.get(int(call.path["installation_id"]))
    if found is None or found[0] is not call.actor:
        raise Refusal(404, "Integration not found")
    expires = call.state.now() + timedelta(hours=1)
    permissions = {"contents": "write", "issues": "write", "pull_requests": "write", "metadata": "read"}
    return Reply({"token": call.actor.token, "expires_at": shapes.moment(expires), "permissions": permissions}, 201)


@operation("get", "/user")
def me(call: Call) -> Reply:
    """Who the token speaks as. GitHub refuses this to an app's installation."""
    if any(account is call.actor for account, _ in call.state.installations.values()):
        raise Refusal(403, "Resource not accessible by integration")
    return Reply(shapes.public_user(call.actor, call.url))


@operation("get", "/users/{username}")
def by_login(call: Call) -> Reply:
    """A user by login; upper and lower case do not matter."""
    for account in call.state.accounts.values():
        if account.login.lower() == call.path["username"].lower():
            return Reply(shapes.public_user(account, call.url))
    raise Refusal(404, "Not Found")


@operation("get", "/user/{account_id}")
def by_id(call: Call) -> Reply:
    """A user by numeric id."""
    for account in call.state.accounts.values():
        if account.id == int(call.path["account_id"]):
            return Reply(shapes.public_user(account, call.url))
    raise Refusal(404, "Not Found")


@operation("get", "/rate_limit")
def rate_limit(call: Call) -> Reply:
    """What is left of the hour."""
    left = {"limit": 5000, "used": 5000 - call.actor.remaining, "remaining": call.actor.remaining}
    rate = left | {"reset": int(time.time()) + 3600}
    return Reply({"resources": {"core": rate, "search": rate}, "rate": rate})


@operation("get", REPO)
def get_repository(call: Call) -> Reply:
    """The repository."""
    return Reply(shapes.repository(call.repository, call.actor, call.url))


@operation("get", f"{REPO}/collaborators/{{username}}/permission")
def permission(call: Call) -> Reply:
    """What somebody may do in the repository. Needs push access, as at GitHub."""
    call.needs("write")
    wanted = call.path["username"].lower()
    for account in call.state.accounts.values():
        if account.login.lower() == wanted:
            role = call.repository.role(account)
            person = shapes.user(account, call.url) | {"role_name": role}
            return Reply({"permission": CLASSIC[role], "role_name": role, "user": person})
    raise Refusal(404, f"{call.path['username']} is not a user")


@operation("get", "/app")
def app(call: Call) -> Reply:
    """The app whose claim this is. Its bot user is `SLUG[bot]`."""
    if not any(account is call.actor for account, _ in call.state.installations.values()):
        raise Refusal(401, "A JSON web token could not be decoded")
    slug = call.actor.login.removesuffix("[bot]")
    return Reply(
        {
            "id": 1,
            "slug": slug,
            "node_id": "A_1",
            "owner": shapes.user(call.actor, call.url),
            "name": slug,
            "description": None,
            "external_url": call.url,
            "html_url": f"{call.url}/apps/{slug}",
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z",
            "permissions": {"contents": "write", "issues": "write", "metadata": "read"},
            "events": [],
        }
    )
