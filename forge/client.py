"""The connection to GitHub: log-in, limits, retries, conditional requests, typed errors. Synchronous: run in threads.

PyGithub carries the requests and makes the tokens of an App. What comes of an answer is decided here, because the rules
differ for reads (asked again) and writes (never blindly).
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from cryptography.hazmat.primitives import serialization
from github import Auth, Github, GithubException, GithubIntegration
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from forge.answers import Answer, next_page, reject
from forge.credentials import App, Credentials, Token
from forge.errors import Ambiguous, ForgeError, NotAllowed, Unavailable

GITHUB = "https://api.github.com"
PAGE = 100
_REMEMBERED = 64
"""Answers kept for conditional requests; the ones used longest ago go first."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the forge. `id` outlives a change of `login`."""

    login: str
    id: int
    bot: bool = False


class GitHub:
    """One repository at GitHub or a GitHub Enterprise server. May be used from several threads; asks one at a time, as
    GitHub wants it.

    Paths that begin with `/` are the API's, others are below the repository: `issues/12`. Reads are tried again when
    the server fails or the connection breaks, after each of `delays` (seconds). Every method raises ForgeError's kinds.
    """

    def __init__(
        self,
        repository: str,
        *,
        credentials: Credentials,
        base_url: str = GITHUB,
        timeout: int = 30,
        delays: tuple[float, ...] = (0.5, 2.0, 5.0),
    ) -> None:
        """`repository` is `OWNER/REPO`; `timeout` in seconds, for connecting and for each answer. Raises NotAllowed for
        an App's key that is none."""
        self.repository = repository
        self.base_url = base_url.rstrip("/")
        self._delays = delays
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._memory: OrderedDict[str, tuple[str, Answer]] = OrderedDict()
        self._me: Account | None = None
        self._app: GithubIntegration | None = None
        options: dict[str, Any] = {
            "base_url": self.base_url,
            "timeout": timeout,
            "retry": None,
            "per_page": PAGE,
            "user_agent": "valuetrain",
            "seconds_between_requests": None,
            "seconds_between_writes": None,
        }
        if isinstance(credentials, App):
            try:
                serialization.load_pem_private_key(credentials.private_key.encode(), password=None)
            except (ValueError, TypeError):
                raise NotAllowed("the GitHub App's private key is no PEM private key without a passphrase") from None
            claim = Auth.AppAuth(credentials.app_id, credentials.private_key)
            self._app = GithubIntegration(auth=claim, **options)
            self._auth: Auth.Token | Auth.AppInstallationAuth = claim.get_installation_auth(credentials.installation_id)
        else:
            self._auth = Auth.Token(credentials.secret)
        self._github = Github(auth=self._auth, **options)

    def __repr__(self) -> str:
        return f"GitHub({self.repository!r}, base_url={self.base_url!r})"

    def close(self) -> None:
        """End its connections; a retry that is waited for ends at once with Unavailable."""
        self._closed.set()
        self._github.close()

    def get(self, path: str, parameters: Mapping[str, Any] | None = None, *, conditional: bool = False) -> Answer:
        """Read. `conditional`: remember the answer, and next time ask only whether it changed; an unchanged one is
        given again with `changed` false, and does not count against the hourly limit."""
        url = self._url(path, parameters)
        tag, known = self._memory.get(url, ("", None)) if conditional else ("", None)
        status, headers, text = self._read(url, {"If-None-Match": tag} if tag else {})
        if status == 304 and known is not None:
            self._memory.move_to_end(url)
            return Answer(known.body, known.next, changed=False)
        answer = Answer(self._body(text), next_page(headers), changed=True)
        if conditional and (etag := headers.get("etag")):
            self._memory[url] = etag, answer
            self._memory.move_to_end(url)
            while len(self._memory) > _REMEMBERED:
                self._memory.popitem(last=False)
        return answer

    def pages(
        self, path: str, parameters: Mapping[str, Any] | None = None, *, conditional: bool = False
    ) -> Iterator[Answer]:
        """Read a list page by page, each with up to 100 rows; see `get`."""
        answer = self.get(path, {**(parameters or {}), "per_page": PAGE}, conditional=conditional)
        yield answer
        while answer.next:
            answer = self.get(self._relative(answer.next), conditional=conditional)
            yield answer

    def rows(self, path: str, parameters: Mapping[str, Any] | None = None) -> Iterator[Any]:
        """All rows of a list."""
        for answer in self.pages(path, parameters):
            yield from answer.body

    def send(self, verb: str, path: str, body: Any = None) -> Any:
        """Write: `POST`, `PATCH`, `PUT` or `DELETE`; the answer's body, None without one. Never tried again by itself.

        Raises Ambiguous when the answer was lost; Unavailable and RateLimited mean that nothing was done.
        """
        url = self._url(path, None)
        self._authorise()
        try:
            status, headers, text = self._ask(verb, url, {}, body)
        except (OSError, RuntimeError) as problem:
            if _never_sent(problem):
                raise self._away(problem) from None
            what = f"{verb} {url} at {self.base_url}: the connection broke ({type(problem).__name__})"
            raise Ambiguous(f"{what}; it may have been done or not, so look before doing it again") from None
        if status >= 500:
            raise Ambiguous(f"{verb} {url} at {self.base_url} was answered {status}; it may have been done or not")
        reject(status, headers, self._clean(text), f"{verb} {url}", self.base_url)
        return self._body(text)

    def graphql(self, query: str, variables: Mapping[str, Any], *, write: bool) -> Any:
        """Ask GraphQL; the answer's `data`. A `write` is treated as in `send`, else as in `get`."""
        body = {"query": query, "variables": dict(variables)}
        path = self._github.requester.graphql_url
        answer = self.send("POST", path, body) if write else self._body(self._read(path, {}, body)[2])
        if answer.get("errors"):
            told = "; ".join(str(each.get("message")) for each in answer["errors"][:3])
            kinds = {each.get("type") for each in answer["errors"]}
            kind = NotAllowed if kinds & {"FORBIDDEN", "INSUFFICIENT_SCOPES"} else ForgeError
            raise kind(f"GraphQL at {self.base_url} refused: {self._clean(told)[:300]}")
        return answer["data"]

    @property
    def me(self) -> Account:
        """Who we are here; asked once. For an App its bot user."""
        if self._me is None:
            if self._app is None:
                told = self.get("/user").body
            else:
                _, _, text = self._read("/app", {}, app=self._app)
                told = self.get(f"/users/{self._body(text)['slug']}[bot]").body
            self._me = Account(told["login"], told["id"], told.get("type") == "Bot")
        return self._me

    def token(self) -> str:
        """The secret to log in to git with at this moment (user `x-access-token`). An App's holds for an hour at most,
        so ask each time. Never log it, write it down or put it into arguments."""
        self._authorise()
        return self._auth.token

    def _url(self, path: str, parameters: Mapping[str, Any] | None) -> str:
        base = path if path.startswith(("/", "http")) else f"/repos/{self.repository}/{path}".rstrip("/")
        if not parameters:
            return base
        return f"{base}?{urlencode(sorted((name, str(value)) for name, value in parameters.items()))}"

    def _relative(self, link: str) -> str:
        """The path of a further page. Raises ForgeError when it leads to another server, which gets no token."""
        here, there = urlsplit(self.base_url), urlsplit(link)
        if (there.scheme, there.netloc) != (here.scheme, here.netloc):
            raise ForgeError(f"{self.base_url} names a further page at another server ({there.netloc})")
        path = there.path.removeprefix(here.path.rstrip("/"))
        return f"{path}?{urlencode(sorted(parse_qsl(there.query, keep_blank_values=True)))}"

    def _read(
        self, url: str, headers: dict[str, str], body: Any = None, app: GithubIntegration | None = None
    ) -> tuple[int, dict[str, Any], str]:
        """A request that changes nothing, tried again when the server fails."""
        failure: ForgeError = Unavailable(f"the connection to {self.base_url} was closed")
        for delay in (0.0, *self._delays):
            if self._closed.wait(delay) if delay else self._closed.is_set():
                break
            try:
                if app is None:
                    self._authorise()
                verb = "GET" if body is None else "POST"
                status, told, text = self._ask(verb, url, dict(headers), body, app)
            except (OSError, RuntimeError) as problem:
                failure = self._away(problem)
                continue
            if status >= 500:
                failure = Unavailable(f"{self.base_url} answered {status} to {verb} {url}; try again later")
                continue
            if status != 304:
                reject(status, told, self._clean(text), f"{verb} {url}", self.base_url)
            return status, told, text
        raise failure

    def _ask(
        self, verb: str, url: str, headers: dict[str, str], body: Any, app: GithubIntegration | None = None
    ) -> tuple[int, dict[str, Any], str]:
        requester = (app or self._github).requester
        with self._lock:
            return requester.requestJson(verb, url, headers=headers, input=body)

    def _authorise(self) -> None:
        """Have a token that is valid for the next minutes. A read: it changes nothing."""
        if self._app is None:
            return
        try:
            with self._lock:
                _ = self._auth.token
        except GithubException as problem:
            headers = {name.lower(): value for name, value in (problem.headers or {}).items()}
            what = "making an installation token of the GitHub App"
            if problem.status >= 500:
                raise Unavailable(f"{self.base_url} answered {problem.status} to {what}; try again later") from None
            reject(problem.status, headers, json.dumps(problem.data), what, self.base_url)
            raise ForgeError(f"{what} at {self.base_url} failed ({problem.status})") from None

    def _away(self, problem: Exception) -> Unavailable:
        why = str(getattr(problem.args[0], "reason", problem) if problem.args else problem) or type(problem).__name__
        return Unavailable(f"{self.base_url} cannot be reached: {self._clean(why)[:300]}")

    def _clean(self, text: str) -> str:
        """Without our secret, should a server send it back."""
        if self._app is None:
            return text.replace(self._auth.token, "***")
        return text

    def _body(self, text: str) -> Any:
        if not text:
            return None
        try:
            return json.loads(text)
        except ValueError:
            raise ForgeError(f"{self.base_url} did not answer with JSON; is `github_url` the API's address?") from None


def _never_sent(problem: BaseException) -> bool:
    """Whether the request cannot have reached the server, because there was no connection."""
    seen: BaseException | Any = problem
    for _ in range(5):
        if isinstance(seen, NewConnectionError | ConnectTimeoutError):
            return True
        seen = getattr(seen, "reason", None) or (seen.args[0] if getattr(seen, "args", ()) else None)
    return False


__all__ = ["GITHUB", "PAGE", "Account", "Answer", "App", "Credentials", "GitHub", "Token"]
