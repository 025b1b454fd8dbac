"""`valuetrain autopilot run`: the effect executor, and drives over one backlog for as long as it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from autopilot.board import SessionRow
from autopilot.drive import Choice
from autopilot.feed import Feed
from bus.nats_bus import connect
from bus.port import Bus, BusUnavailable, NoReceipt
from cli.components import patient, serve
from cli.driving import Ground, ground
from cli.home import Home
from cli.joining import Server
from cli.options import say
from cli.parts import executing
from cli.progress import line
from cli.settings import Settings
from schemas.envelope import EventEnvelope
from schemas.messages import Event
from schemas.values import Sender

FOLDER_SECONDS = 10.0
_log = structlog.get_logger("autopilot")


def run_autopilot(
    home_path: Path, backlog: str, repo: Path | None, concurrency: int | None, every: float | None, as_json: bool
) -> None:
    """Carry out effects and take tickets until stopped, looking at the backlog every `every` seconds (left out: 10 for
    a folder, as the settings say for GitHub). Raises CliError, HomeBusy, GitError, BacklogError, PolicyError."""
    on = ground(home_path, backlog, repo, concurrency=concurrency)
    pause = every or (FOLDER_SECONDS if on.renew is None else on.settings.github_poll_seconds)

    @asynccontextmanager
    async def component(home: Home, settings: Settings, server: Server) -> AsyncIterator[None]:
        async with patient(partial(_pilot, on, server, pause, as_json)):
            yield

    serve(home_path, as_json, "autopilot", component)


@asynccontextmanager
async def _pilot(on: Ground, server: Server, every: float, as_json: bool) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(executing(on.home, on.settings, server))
        bus = await stack.enter_async_context(await connect(server.login(Sender.AUTOPILOT.value), name="autopilot"))
        news = False

        def show(envelope: EventEnvelope[Event], row: SessionRow | None) -> None:
            if news and not as_json and row is not None and (text := line(envelope, row)) is not None:
                say(text)

        feed = await stack.enter_async_context(Feed(bus, on.settings.tenant, show).running())
        news = True
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        tasks.start_soon(_keep_driving, on, bus, feed, every)
        yield


async def _keep_driving(on: Ground, bus: Bus, feed: Feed, every: float) -> None:
    """Drive whenever the backlog holds something to take. A choice that came to nothing is not tried again until it
    changes: the record is not the place to write down that nothing happens."""
    fruitless: Choice | None = None
    while True:
        try:
            choice = await on.choose(feed.board)
            if choice.order and choice != fruitless:
                if on.renew is not None:
                    on = await anyio.to_thread.run_sync(on.renew)
                summary = await on.make(bus, feed).run()
                _log.info("drive_ended", drive=summary.drive, completed=len(summary.completed))
                after = await on.choose(feed.board)
                fruitless = after if after.order else None
        except (NoReceipt, BusUnavailable) as problem:
            _log.warning("autopilot_waits", reason=str(problem))
        await anyio.sleep(every)
