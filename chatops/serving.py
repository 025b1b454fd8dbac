"""The HTTP endpoints of chat-ops, served by uvicorn inside the component."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Sequence

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


class CannotListen(Exception):
    """The address cannot be used; the message says which and why."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the component: it stops everything in its order."""
        yield


def bind(address: str) -> socket.socket:
    """A listening socket on `HOST:PORT`. Raises CannotListen."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host.strip("[]"), int(port)))
        listening.listen(128)
    except (OSError, ValueError, OverflowError) as problem:
        listening.close()
        raise CannotListen(f"chat-ops cannot listen on {address!r}: {problem}; set chatops_listen") from problem
    return listening


def _healthy(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok\n")


@contextlib.asynccontextmanager
async def serving(routes: Sequence[Route], listening: socket.socket) -> AsyncIterator[None]:
    """Answer requests while the context is open; `/health` says that it does."""
    app = Starlette(routes=[*routes, Route("/health", _healthy, methods=["GET"])])
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
        limit_concurrency=100,
    )
    server = _Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listening])
        try:
            yield
        finally:
            server.should_exit = True
