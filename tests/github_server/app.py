"""The ASGI application: log-in, limits, faults, checks against the description, pages, ETags."""

from __future__ import annotations

import hashlib
import json
import math
import time
from base64 import b64decode
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.github_server import (  # noqa: F401  (registers operations)
    comments,
    git,
    issues,
    pull_reads,
    pulls,
    repositories,
    writes,
)
from tests.github_server.faults import Fault
from tests.github_server.routes import GRAPHQL, HANDLERS, PLAIN, Call, Refusal, Reply
from tests.github_server.state import Account, State
from tests.github_server.validation import Operation, Unfit, check_answer, check_request, match


@dataclass(frozen=True, slots=True)
class Seen:
    """A request the server got and what came of it; status 0 is a dropped connection. Holds no credentials."""

    verb: str
    path: str
    query: str
    status: int
    login: str


@dataclass(slots=True)
class Log:
    """What happened so far."""

    seen: list[Seen] = field(default_factory=list)
    unfit: list[str] = field(default_factory=list)
    """Requests and answers that GitHub's description does not allow; a test's end looks that there are none."""

    def count(self, verb: str = "", path: str = "", status: int | None = None) -> int:
        """How many requests with that verb, whose path holds `path`, were answered with `status`."""
        return sum(
            1
            for each in self.seen
            if (not verb or each.verb == verb.upper()) and path in each.path and status in (None, each.status)
        )

    @property
    def statuses(self) -> Counter[int]:
        """How often each status was answered."""
        return Counter(each.status for each in self.seen)


class App:
    """One server's application over one state."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.log = Log()
        self.faults: list[Fault] = []
        self.address = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await _lifespan(receive, send)
        request = Request(scope, receive)
        body = await request.body()
        path = unquote(scope["path"]).removeprefix("/api/v3") or "/"
        path = "/graphql" if path == "/api/graphql" else path
        fault = self._fault(request.method, path)
        if fault is not None and fault.kind == "slow":
            await anyio.sleep(fault.seconds)
        if fault is not None and fault.kind == "drop_before":
            return self._drop(request, path, receive)
        if fault is not None and fault.kind in ("primary", "secondary", "error"):
            response = _failing(fault)
        elif ".git/" in path:
            response = await anyio.to_thread.run_sync(git.answer, self.state, request, path, body)
        else:
            response = await anyio.to_thread.run_sync(self._answer, request, path, body)
        if fault is not None and fault.kind == "drop_after":
            return self._drop(request, path, receive)
        self._saw(request, path, response.status_code)
        await response(scope, receive, send)

    def _fault(self, verb: str, path: str) -> Fault | None:
        with self.state.lock:
            for fault in self.faults:
                if fault.fits(verb, path):
                    fault.happened += 1
                    return fault
        return None

    def _saw(self, request: Request, path: str, status: int) -> None:
        account = _who(self.state, request)
        login = account.login if account else ""
        with self.state.lock:
            self.log.seen.append(Seen(request.method, path, request.url.query, status, login))

    def _drop(self, request: Request, path: str, receive: Receive) -> None:
        """Cut the connection without an answer. The transport is uvicorn's; ASGI has no word for this."""
        self._saw(request, path, 0)
        receive.__self__.transport.abort()  # type: ignore[attr-defined]

    def _answer(self, request: Request, path: str, raw: bytes) -> Response:
        verb = request.method.lower()
        with self.state.lock:
            try:
                return self._handled(request, verb, path, raw)
            except Refusal as refusal:
                return _json(refusal.body, refusal.status)
            except Unfit as problem:
                self.log.unfit.append(str(problem))
                return _json({"message": f"outside of GitHub's description: {problem}"}, 500)

    def _handled(self, request: Request, verb: str, path: str, raw: bytes) -> Response:
        actor = _who(self.state, request)
        if actor is None:
            raise Refusal(401, "Bad credentials")
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            raise Refusal(400, "Problems parsing JSON") from None
        query = dict(parse_qsl(request.url.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in request.headers.items()}
        handler = PLAIN.get((verb, path))
        if path == "/graphql" and isinstance(body, dict):
            handler = next((each for word, each in GRAPHQL.items() if word in str(body.get("query"))), handler)
        if handler is not None:
            reply = handler(Call(self.state, actor, {}, query, body, headers, self.address))
            return _json(reply.body, reply.status, reply.headers)
        found = match(verb, path)
        if found is None or (found[0].verb, found[0].template) not in HANDLERS:
            self.log.unfit.append(f"{verb} {path}: nothing answers this here")
            raise Refusal(404, "Not Found")
        operation, values = found
        check_request(operation, values, query, body)
        call = Call(self.state, actor, values, query, body, headers, self.address)
        try:
            reply = HANDLERS[operation.verb, operation.template](call)
        except Refusal as refusal:
            check_answer(operation, refusal.status, refusal.body)
            raise
        return self._sent(operation, actor, reply, query, request)

    def _sent(
        self, operation: Operation, actor: Account, reply: Reply, query: dict[str, str], request: Request
    ) -> Response:
        body, headers = reply.body, dict(reply.headers)
        if operation.paged and isinstance(body, list):
            body, link = _page(body, query, f"{self.address}{request.url.path}")
            headers |= {"link": link} if link else {}
        check_answer(operation, reply.status, body)
        headers |= {"x-ratelimit-limit": "5000", "x-ratelimit-reset": str(int(time.time()) + 3600)}
        if operation.verb == "get":
            tag = f'W/"{hashlib.sha256(json.dumps(body).encode()).hexdigest()}"'
            headers["etag"] = tag
            if request.headers.get("if-none-match") == tag:
                return Response(status_code=304, headers=headers | {"x-ratelimit-remaining": str(actor.remaining)})
        actor.remaining -= 1
        return _json(body, reply.status, headers | {"x-ratelimit-remaining": str(actor.remaining)})


def _page(rows: list[Any], query: dict[str, str], address: str) -> tuple[list[Any], str]:
    size, page = min(int(query.get("per_page", 30)), 100), int(query.get("page", 1))
    last = max(1, math.ceil(len(rows) / size))

    def link(number: int, name: str) -> str:
        return f'<{address}?{urlencode(query | {"page": number})}>; rel="{name}"'

    links = [link(page + 1, "next"), link(last, "last")] if page < last else []
    links += [link(1, "first"), link(page - 1, "prev")] if page > 1 else []
    return rows[(page - 1) * size : page * size], ", ".join(links)


def _failing(fault: Fault) -> Response:
    if fault.kind == "error":
        return Response("<html>Unicorn!</html>", fault.status or 502, media_type="text/html")
    if fault.kind == "primary":
        headers = {
            "x-ratelimit-limit": "5000",
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": str(math.ceil(time.time() + fault.seconds)),
        }
        return _json({"message": "API rate limit exceeded for user ID 1."}, fault.status or 403, headers)
    headers = {"retry-after": str(math.ceil(fault.seconds))}
    return _json({"message": "You have exceeded a secondary rate limit."}, fault.status or 403, headers)


def _json(body: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    if body is None:
        return Response(status_code=status, headers=headers)
    return Response(json.dumps(body), status, headers, "application/json; charset=utf-8")


def _who(state: State, request: Request) -> Account | None:
    """Who logs in: a token, or for git a user name and the token as password, or an app with its signed claim."""
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            secret = b64decode(secret).decode().partition(":")[2]
        except ValueError:
            return None
    return state.by_token(secret) or repositories.app_account(state, secret)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
