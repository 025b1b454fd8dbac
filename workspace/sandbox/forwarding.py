"""One connection from inside a sandbox to the proxy: read the request, hold it against the list, pass bytes on, count.

What is asked for is read by h11, and a plain request is written anew by it: what reaches a server is one request, for
the host that was checked. Answers, and what is inside a tunnel (CONNECT), pass as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

import anyio
import h11
from anyio.abc import SocketStream

from schemas.hosts import host_text, parse_host
from workspace.sandbox.port import Contact, Outcome
from workspace.sandbox.reaching import Reach, Refused, Unreachable, target_of

_MOST_CONTACTS = 100
_LONGEST = 200
_OTHERS = "other hosts"
_CHUNK = 1 << 16
_OF_ONE_CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
     b"trailer", b"upgrade", b"host")
)  # fmt: skip
_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)


@dataclass(slots=True)
class _Count:
    times: int = 0
    sent: int = 0
    received: int = 0


class Spent(Exception):
    """The connections of the run have passed as many bytes as they may."""


class Ledger:
    """Every try of one run, those alike added up, and the bytes that are left."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._left = most_bytes, most_bytes
        self._counts: dict[tuple[str, Outcome, str], _Count] = {}

    @property
    def contacts(self) -> tuple[Contact, ...]:
        """In the order of each first try."""
        return tuple(Contact(*key, each.times, each.sent, each.received) for key, each in self._counts.items())

    @property
    def spent(self) -> str:
        """Why no more may pass; empty while some may."""
        return "" if self._left > 0 else f"the connections of one command may pass {self._most:,} bytes, and have"

    def add(self, target: str, outcome: Outcome, why: str = "") -> _Count:
        """Write down a try; bytes are counted in what it returns. Beyond a hundred different ones they go together."""
        key = (target[:_LONGEST], outcome, why[:_LONGEST])
        if key not in self._counts and len(self._counts) >= _MOST_CONTACTS:
            key = (_OTHERS, outcome, "" if outcome == "reached" else "as those named")
        count = self._counts.setdefault(key, _Count())
        count.times += 1
        return count

    def pass_(self, size: int) -> None:
        """Take `size` bytes from what is left. Raises Spent."""
        self._left -= size
        if self._left < 0:
            raise Spent


class _Answered(Exception):
    """The request is not passed on: `status` and `why` go back."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Exchange:
    """One connection. It carries one request: HTTP's connections may, and clients then make another."""

    def __init__(self, client: SocketStream, reach: Reach, ledger: Ledger) -> None:
        self._client, self._reach, self._ledger = client, reach, ledger
        self._http = h11.Connection(h11.SERVER)

    async def run(self) -> None:
        """Serve it until one side is done. What the sides do wrong ends it and is no fault of ours."""
        try:
            await self._serve()
        except _Answered as answer:
            await self._answer(answer)
        except h11.RemoteProtocolError as problem:
            self._ledger.add("no host", "refused", f"the request cannot be read: {problem}")
            await self._answer(_Answered(HTTPStatus.BAD_REQUEST, f"the request cannot be read: {problem}"))
        except _GONE:
            return

    async def _serve(self) -> None:
        request = await self._next()
        if not isinstance(request, h11.Request):
            return
        asked = request.target.decode("ascii", "replace")
        tunnel = request.method == b"CONNECT"
        try:
            host, port, path = (*parse_host(asked), "") if tunnel else target_of(asked)
        except ValueError as problem:
            self._ledger.add(asked, "refused", str(problem))
            raise _Answered(HTTPStatus.BAD_REQUEST, str(problem)) from problem
        target = host_text(host, port)
        server = await self._connect(target, host, port)
        count = self._ledger.add(target, "reached")
        async with server:
            try:
                if tunnel:
                    await self._tunnel(server, count)
                else:
                    await self._forward(request, target, path, server, count)
            except* Spent:
                self._ledger.add(target, "refused", self._ledger.spent or "too many bytes")
            except* h11.ProtocolError as problem:
                self._ledger.add(target, "refused", f"the request cannot be passed on: {problem.exceptions[0]}")
            except* _GONE:
                pass

    async def _connect(self, target: str, host: str, port: int) -> SocketStream:
        try:
            if self._ledger.spent:
                raise Refused(self._ledger.spent)
            return await self._reach.connect(host, port)
        except Refused as problem:
            self._ledger.add(target, "refused", str(problem))
            raise _Answered(HTTPStatus.FORBIDDEN, f"{target}: {problem}") from problem
        except Unreachable as problem:
            self._ledger.add(target, "failed", str(problem))
            raise _Answered(HTTPStatus.BAD_GATEWAY, f"{target}: {problem}") from problem

    async def _tunnel(self, server: SocketStream, count: _Count) -> None:
        await self._next()  # the end of a request without a body
        await self._client.send(self._http.send(h11.Response(status_code=200, headers=[], reason=b"Connected")) or b"")
        async with anyio.create_task_group() as both:
            both.start_soon(self._send_on, server, count, self._http.trailing_data[0])
            both.start_soon(self._receive, server, count)

    async def _send_on(self, server: SocketStream, count: _Count, first: bytes) -> None:
        if first:
            await self._sent(server, first, count)
        async for chunk in self._client:
            await self._sent(server, chunk, count)
        await server.send_eof()

    async def _forward(self, request: h11.Request, target: str, path: str, server: SocketStream, count: _Count) -> None:
        """One request, with `Connection: close`, so that the end of the answer is the end of the connection."""
        named = {word.strip().lower() for name, value in request.headers if name == b"connection"
                 for word in value.split(b",")}  # fmt: skip
        kept = [(name, value) for name, value in request.headers if name not in _OF_ONE_CONNECTION | named]
        if any(name == b"transfer-encoding" for name, _ in kept):
            kept = [(name, value) for name, value in kept if name != b"content-length"]
        shown = target.removesuffix(":80").encode()
        headers = [(b"host", shown), *kept, (b"connection", b"close")]
        onward = h11.Connection(h11.CLIENT)
        head = onward.send(h11.Request(method=request.method, target=path.encode(), headers=headers)) or b""
        await self._sent(server, head, count)
        async with anyio.create_task_group() as both:
            both.start_soon(self._body, onward, server, count)
            await self._receive(server, count)
            both.cancel_scope.cancel()

    async def _body(self, onward: h11.Connection, server: SocketStream, count: _Count) -> None:
        while True:
            event = await self._next()
            if not isinstance(event, h11.Data | h11.EndOfMessage):
                return
            await self._sent(server, onward.send(event) or b"", count)
            if isinstance(event, h11.EndOfMessage):
                return

    async def _sent(self, server: SocketStream, data: bytes, count: _Count) -> None:
        self._ledger.pass_(len(data))
        count.sent += len(data)
        await server.send(data)

    async def _receive(self, server: SocketStream, count: _Count) -> None:
        async for chunk in server:
            self._ledger.pass_(len(chunk))
            count.received += len(chunk)
            await self._client.send(chunk)
        await self._client.send_eof()

    async def _next(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            try:
                self._http.receive_data(await self._client.receive(_CHUNK))
            except anyio.EndOfStream:
                self._http.receive_data(b"")
        return event

    async def _answer(self, answer: _Answered) -> None:
        body = f"{answer.why}\n".encode()
        headers = [("content-type", "text/plain; charset=utf-8"), ("content-length", str(len(body))),
                   ("connection", "close")]  # fmt: skip
        parts = (h11.Response(status_code=int(answer.status), headers=headers), h11.Data(body), h11.EndOfMessage())
        try:
            for part in parts:
                await self._client.send(self._http.send(part) or b"")
        except (*_GONE, h11.LocalProtocolError):
            return
