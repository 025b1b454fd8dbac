"""No test asks a model, or anything else by HTTP, outside this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import httpx2
import pytest


class OutsideBlocked(BaseException):
    """A test was about to leave the machine. No Exception: nothing that means to handle a broken link may hide it."""


def is_loopback(host: str) -> bool:
    """Whether a URL's host is this machine, without asking any name server."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check(request: Any) -> None:
    if not is_loopback(request.url.host):
        raise OutsideBlocked(f"a test asks {request.url.host}: point base_url to a server on loopback")


@contextmanager
def blocked() -> Iterator[None]:
    """While open, HTTP requests to other machines raise OutsideBlocked: those of every client of httpx and httpx2, on
    which the `openai` SDK and langchain's clients are built."""
    with pytest.MonkeyPatch.context() as patch:
        for library in (httpx, httpx2):
            send, send_async = library.HTTPTransport.handle_request, library.AsyncHTTPTransport.handle_async_request

            def checked(self: Any, request: Any, send: Any = send) -> Any:
                _check(request)
                return send(self, request)

            async def checked_async(self: Any, request: Any, send: Any = send_async) -> Any:
                _check(request)
                return await send(self, request)

            patch.setattr(library.HTTPTransport, "handle_request", checked)
            patch.setattr(library.AsyncHTTPTransport, "handle_async_request", checked_async)
        yield
