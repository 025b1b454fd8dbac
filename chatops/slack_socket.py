"""Clicks in Slack over a connection that we open (Socket Mode): for those whom Slack cannot reach.

Slack takes its connections back every few hours and says so a little before: the next one is opened while the old one
still speaks, so that no click falls in between. What was not acknowledged may come again, on the same connection or the
next: the conductor gives the same click the verdict it gave before.

The connections are kept here and not by the SDK's own client, which logs what fails and goes on, waits for a broken
connection up to half a minute, and has its built-in variant speak without TLS wherever the port is not 443.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import structlog
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.socket_mode.response import SocketModeResponse
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from chatops.slack import BadClick, Clicks, Unanswered
from chatops.slack_posts import SlackError

_log = structlog.get_logger("chatops")
DELAYS = (0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds to wait after the first, second … failure in a row; Slack's own wait times come first."""
STEADY_SECONDS = 30.0
"""A connection that lasted so long was a good one: its end is a first failure again."""
HELLO_SECONDS = 20.0
GOING_SECONDS = 60.0
"""How long a connection that Slack takes back is still listened to."""
PING_SECONDS = 10.0
AT_ONCE = 20
REMEMBERED = 1_000
"""Clicks of which a second delivery is known."""
REFUSALS = frozenset(
    (
        "access_denied",
        "account_inactive",
        "forbidden_team",
        "invalid_auth",
        "missing_scope",
        "no_permission",
        "not_allowed_token_type",
        "not_authed",
        "team_access_not_granted",
        "token_expired",
        "token_revoked",
    )
)
"""Slack's names of what no waiting puts right."""


class SlackRefuses(Exception):
    """Slack does not let this app connect; the message says why and what to do, never with the token."""


class SlackAway(Exception):
    """There is no connection now; the message says why. `wait` is in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class SlackSocket:
    """Listens to Slack over WebSocket connections, one after the other."""

    def __init__(self, client: WebClient, clicks: Clicks, delays: Sequence[float] = DELAYS) -> None:
        """`client` has the app-level token (`xapp-…`)."""
        client.retry_handlers[:] = []  # what fails is tried again here, and seen
        self._client = client
        self._clicks = clicks
        self._delays = delays
        self._failures = 0
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._places = anyio.Semaphore(AT_ONCE)

    async def connect(self) -> ClientConnection:
        """A connection that Slack has greeted. Raises SlackAway, SlackRefuses."""
        url = await anyio.to_thread.run_sync(self._address)
        try:
            link = await connect(url, ping_interval=PING_SECONDS, ping_timeout=PING_SECONDS, close_timeout=2)
        except (OSError, WebSocketException) as problem:  # their texts may hold the address, and that is a ticket
            raise SlackAway(f"no connection came about ({type(problem).__name__})") from None
        except ImportError as problem:  # a SOCKS proxy in the environment
            raise SlackRefuses(f"Slack cannot be reached through the proxy that is set: {problem}") from None
        greeting = "nothing"
        try:
            with anyio.move_on_after(HELLO_SECONDS):
                greeting = _kind(_message(await link.recv()))
        except ConnectionClosed:
            greeting = "the end"
        if greeting != "hello":
            await link.close()
            raise SlackAway(f"Slack began with {greeting[:40]} instead of hello")
        _log.info("slack_connected")
        return link

    async def run(self, link: ClientConnection | None = None) -> None:
        """Listen for ever, first on `link`. What is away is waited for. Raises SlackRefuses."""
        async with anyio.create_task_group() as links:
            while True:
                link = link or await self._patiently()
                ending, since = _Ending(), anyio.current_time()
                links.start_soon(self._serve, link, ending)
                await ending.begun.wait()
                link = None
                if anyio.current_time() - since >= STEADY_SECONDS:
                    self._failures = 0
                if not ending.told:
                    await self._wait(SlackAway("the connection was lost"))

    async def _patiently(self) -> ClientConnection:
        while True:
            try:
                return await self.connect()
            except SlackAway as problem:
                await self._wait(problem)

    async def _wait(self, problem: SlackAway) -> None:
        delay = self._delays[min(self._failures, len(self._delays) - 1)]
        self._failures += 1
        _log.warning("slack_connection_waits", reason=str(problem), seconds=max(delay, problem.wait))
        await anyio.sleep(max(delay, problem.wait))

    def _address(self) -> str:
        """Where to connect to, once. Raises SlackAway, SlackRefuses."""
        try:
            url = str(self._client.apps_connections_open(app_token=self._client.token or "")["url"])
        except SlackApiError as problem:
            why = str(problem.response.get("error", "no reason given"))
            if why in REFUSALS:
                raise SlackRefuses(
                    f"Slack refuses the connection: {why}; slack_app_token must be an app-level token (xapp-…) of this "
                    f"app with the scope connections:write, and Socket Mode on"
                ) from None
            raise SlackAway(f"Slack refused a connection: {why}", _seconds(problem.response.headers)) from None
        except (SlackClientError, OSError, KeyError) as problem:
            raise SlackAway(f"Slack cannot be reached ({type(problem).__name__})") from None
        scheme = "wss" if self._client.base_url.startswith("https:") else "ws"
        if urlsplit(url).scheme != scheme:
            raise SlackAway(f"Slack named an address that does not begin with {scheme}://")
        return url

    async def _serve(self, link: ClientConnection, ending: _Ending) -> None:
        """Take what comes on one connection, until it ends or a minute after Slack took it back."""
        try:
            async with anyio.create_task_group() as work:
                try:
                    with anyio.CancelScope() as reading:
                        async for raw in link:
                            message = _message(raw)
                            if _kind(message) == "disconnect":
                                _log.info("slack_disconnects", reason=str(message.get("reason"))[:40])
                                reading.deadline = anyio.current_time() + GOING_SECONDS
                                ending.told = True
                                ending.begun.set()
                            elif isinstance(name := message.get("envelope_id"), str):
                                await self._places.acquire()
                                work.start_soon(self._take, link, name, message)
                except ConnectionClosed as problem:
                    _log.info("slack_connection_ended", reason=type(problem).__name__)
                finally:
                    ending.begun.set()  # what is still at work keeps nobody from connecting again
        finally:
            with anyio.CancelScope(shield=True):
                await link.close()

    async def _take(self, link: ClientConnection, name: str, message: dict[str, Any]) -> None:
        """One envelope: carried out, acknowledged whatever became of it, and who is refused is told."""
        try:
            click, refused = await self._decided(message)
            try:
                await link.send(json.dumps(SocketModeResponse(name).to_dict()))
            except ConnectionClosed:  # it may come again, and finds its verdict
                _log.warning("slack_unacknowledged", reason="the connection ended before")
            if click is not None and refused is not None:
                await self._clicks.tell(click, refused)
        except SlackError as problem:
            _log.warning("click_untold", reason=str(problem))
        finally:
            self._places.release()

    async def _decided(self, message: dict[str, Any]) -> tuple[Any, str | None]:
        if _kind(message) != "interactive":
            _log.info("slack_passed_over", kind=_kind(message)[:40])
            return None, None
        try:
            click = self._clicks.read(message.get("payload"))
        except BadClick as problem:
            _log.warning("slack_refused", reason=str(problem))
            return None, None
        if click.key in self._seen:
            return None, None
        self._seen[click.key] = None
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        try:
            return click, await self._clicks.carry_out(click)
        except Unanswered as problem:
            self._seen.pop(click.key, None)
            return click, str(problem)


class _Ending:
    """How a connection ends: `begun` when another one is needed, `told` when Slack said so before."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.told = False


def _message(raw: str | bytes) -> dict[str, Any]:
    """What a frame says; {} when that is nothing of Slack's."""
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        _log.warning("slack_not_understood", reason="a frame is no JSON object")
        return {}
    return message


def _kind(message: dict[str, Any]) -> str:
    return str(message.get("type", "nothing"))


def _seconds(headers: Any) -> float:
    """How long Slack says to wait."""
    value = {str(name).lower(): said for name, said in headers.items()}.get("retry-after", "0")
    return float(value) if str(value).isdecimal() else 0.0
