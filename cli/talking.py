"""Chat-ops put together: comments at GitHub, clicks in Slack, and the endpoints for both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskGroup
from pydantic import SecretStr

from bus.nats_bus import connect
from bus.port import Bus, BusUnavailable, Login, NoReceipt
from chatops.board import Board
from chatops.feed import Feed
from cli.components import patient, serve
from cli.errors import CliError, Exit
from cli.home import Home
from cli.joining import Server
from cli.selecting import GITHUB
from cli.settings import Settings, load
from forge.errors import NotAllowed, RateLimited, Unavailable
from schemas.values import Sender

if TYPE_CHECKING:
    from starlette.routing import Route

    from chatops.slack import Clicks
    from chatops.slack_posts import Poster

_log = structlog.get_logger("chatops")
SLACK_AGAIN_SECONDS = 5.0


def run_chatops(home_path: Path, backlog: str | None, as_json: bool) -> None:
    """`valuetrain chatops run`. Raises CliError when nothing is set to listen to, and what no waiting puts right."""
    home = Home(home_path.resolve())
    settings = load(home.config)
    check(settings, backlog)

    @asynccontextmanager
    async def component(home: Home, settings: Settings, server: Server) -> AsyncIterator[None]:
        async with patient(partial(talking, home, settings, server.login, backlog)):
            yield

    serve(home_path, as_json, "chatops", component)


def check(settings: Settings, backlog: str | None) -> None:
    """Raises CliError when the settings name nothing to listen to, or half of something."""
    if backlog is not None and not backlog.startswith(GITHUB):
        raise CliError(f"--backlog {backlog}: comments are at GitHub; write github:OWNER/REPO", Exit.USAGE)
    slack = (settings.slack_channel, settings.slack_token or settings.slack_token_file,
             settings.slack_app_token or settings.slack_app_token_file
             or settings.slack_signing_secret or settings.slack_signing_secret_file)  # fmt: skip
    if any(slack) and not all(slack):
        raise CliError(
            "for Slack set slack_channel, slack_token, and slack_app_token (Socket Mode) or slack_signing_secret "
            "(requests that reach us), or …_file: all, or none"
        )
    if backlog is None and not any(slack):
        raise CliError("there is nothing to listen to: name --backlog github:OWNER/REPO, or set slack_channel and more")


@asynccontextmanager
async def talking(
    home: Home, settings: Settings, login: Callable[[str], Login], backlog: str | None
) -> AsyncIterator[None]:
    """Hear people while the context is open; entered when what they wrote before was heard, if GitHub answers. Raises
    HomeBusy when another process does so on this home, CliError, BusError."""
    check(settings, backlog)
    async with AsyncExitStack() as stack:
        stack.enter_context(home.talking("chat-ops"))
        home.chatops.mkdir(mode=0o700, exist_ok=True)
        bus = await stack.enter_async_context(await connect(login(Sender.CHATOPS.value), name="chatops"))
        feed = await stack.enter_async_context(Feed(bus, settings.tenant).running())
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        routes: list[Route] = []
        if backlog is not None:
            routes += await _github(stack, tasks, home, settings, bus, feed, backlog)
        if settings.slack_channel is not None:
            routes += await _slack(tasks, home, settings, bus, feed)
        if routes:
            from chatops.serving import CannotListen, bind, serving

            try:
                listening = bind(settings.chatops_listen)
            except CannotListen as problem:
                raise CliError(str(problem)) from problem
            await stack.enter_async_context(serving(routes, listening))
            _log.info("chatops_listens", address=settings.chatops_listen)
        yield


async def _github(
    stack: AsyncExitStack, tasks: TaskGroup, home: Home, settings: Settings, bus: Bus, feed: Feed, backlog: str
) -> list[Route]:
    """Listen to the repository; the webhook's endpoint if it has a secret."""
    from chatops.github import GitHubConversation
    from chatops.hearing import Ear
    from chatops.listening import Listener
    from chatops.position import BadPosition, Position
    from cli.forging import github_at

    github = github_at(backlog, settings)
    stack.callback(github.close)
    talk = GitHubConversation(github)
    name = github.repository.lower().replace("/", ".")
    try:
        position = Position.load(home.chatops / f"{name}.json", _begin(feed.board, backlog))
    except BadPosition as problem:
        raise CliError(str(problem)) from problem
    ear = Ear(bus, settings.tenant, github.repository, feed.board, talk, feed.caught_up)
    listener = Listener(ear, talk, position, settings.chatops_poll_seconds)
    try:
        await listener.look()
    except NotAllowed as problem:
        raise CliError(f"chat-ops cannot read the comments of {github.repository}: {problem}") from problem
    except (RateLimited, Unavailable, BusUnavailable, NoReceipt) as problem:
        _log.warning("chatops_waits", reason=str(problem))
    tasks.start_soon(listener.run)
    key = secret("github_webhook_secret", settings.github_webhook_secret, settings.github_webhook_secret_file)
    if not key:
        return []
    try:
        from chatops.webhook import Webhook
    except ImportError as problem:
        raise CliError("webhooks need the extra: pip install 'agenticops-value-train[webhook]'") from problem
    return [Webhook(key, github.repository, listener.hint).route]


def _begin(board: Board, backlog: str) -> datetime:
    """Where to begin without a remembered position: with the oldest session that may still be spoken of."""
    started = (
        row.started
        for row in board.sessions.values()
        if not row.over and (row.ticket.origin or "").casefold() == backlog.casefold()
    )
    return min(started, default=datetime.now(UTC))


async def _slack(tasks: TaskGroup, home: Home, settings: Settings, bus: Bus, feed: Feed) -> list[Route]:
    """Post gates to Slack, and hear what is pressed there: over a connection of ours, by requests, or both ways."""
    try:
        from slack_sdk import WebClient

        from chatops.slack import Clicks
        from chatops.slack_posts import Poster
    except ImportError as problem:
        raise CliError("Slack needs the extra: pip install 'agenticops-value-train[slack]'") from problem
    from chatops.position import BadPosition

    channel = settings.slack_channel or ""
    token = secret("slack_token", settings.slack_token, settings.slack_token_file)
    signing = secret("slack_signing_secret", settings.slack_signing_secret, settings.slack_signing_secret_file)
    app_token = secret("slack_app_token", settings.slack_app_token, settings.slack_app_token_file)
    if app_token and not app_token.startswith("xapp-"):
        raise CliError("slack_app_token is no app-level token: it begins with xapp-, and is made in the app's settings")
    try:
        poster = Poster(WebClient(token, base_url=settings.slack_url), channel, home.chatops / "slack.json")
    except BadPosition as problem:
        raise CliError(str(problem)) from problem
    clicks = Clicks(channel, bus, settings.tenant, feed.board, poster)
    if app_token:
        await _connect_slack(tasks, settings, app_token, clicks)
    tasks.start_soon(_keep_posting, poster, feed)
    if not signing:
        return []
    try:
        from chatops.slack_http import SlackActions
    except ImportError as problem:
        raise CliError("Slack's requests need the extra: pip install 'agenticops-value-train[webhook]'") from problem
    return [SlackActions(signing, clicks).route]


async def _connect_slack(tasks: TaskGroup, settings: Settings, app_token: str, clicks: Clicks) -> None:
    """Listen over a connection that we open. Raises CliError when Slack refuses it."""
    from slack_sdk import WebClient

    try:
        from chatops.slack_socket import SlackAway, SlackRefuses, SlackSocket
    except ImportError as problem:
        raise CliError("Socket Mode needs the extra: pip install 'agenticops-value-train[slack]'") from problem
    socket = SlackSocket(WebClient(app_token, base_url=settings.slack_url), clicks)
    link = None
    try:
        link = await socket.connect()
    except SlackRefuses as problem:
        raise CliError(str(problem)) from problem
    except SlackAway as problem:
        _log.warning("slack_connection_waits", reason=str(problem))
    tasks.start_soon(socket.run, link)


async def _keep_posting(poster: Poster, feed: Feed) -> None:
    """Keep Slack like the board. What Slack refuses is tried again, and logged each time."""
    from chatops.slack_posts import SlackError

    while True:
        try:
            async with anyio.create_task_group() as noticing:  # what changes during the post counts as well
                changed = anyio.Event()
                noticing.start_soon(_notice, feed, changed)
                await anyio.to_thread.run_sync(poster.bring_up_to_date, feed.board)
                await changed.wait()
        except* SlackError as problem:
            _log.warning("slack_waits", reason=str(problem.exceptions[0]))
            await anyio.sleep(SLACK_AGAIN_SECONDS)


async def _notice(feed: Feed, changed: anyio.Event) -> None:
    await feed.change()
    changed.set()


def secret(name: str, value: SecretStr | None, file: Path | None) -> str:
    """A secret from the environment or from a file that only we may read; "" when neither is set. Raises CliError."""
    from cli.forging import secret_file

    found = value.get_secret_value() if value is not None else secret_file(file) if file is not None else ""
    if (value is not None or file is not None) and len(found.strip()) < 8:
        raise CliError(f"{name} is too short to be a secret: take at least 8 characters")
    return found.strip()
