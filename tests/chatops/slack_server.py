"""A stand-in for Slack: the methods of its web API that we call, over real HTTP and with Slack's own errors, and Socket
Mode over real WebSockets: tickets that open one connection, a greeting, envelopes that are to be acknowledged."""

from __future__ import annotations

import asyncio
import json
import queue
import socket
import threading
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

TOKEN = "xoxb-a-token"
APP_TOKEN = "xapp-1-A1-a-token"


class SlackServer:
    """Serves until `close`; remembers the messages of one channel."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.whispers: list[dict[str, Any]] = []
        self.posted: queue.Queue[str] = queue.Queue()
        """The time stamp of each message."""
        self.whispered: queue.Queue[None] = queue.Queue()
        self.calls: list[str] = []
        self.drop_after = 0
        """How many of the next posts are done and not answered."""
        self.refusals: list[str] = []
        """The errors that the next requests for a connection get."""
        self.mute = 0
        """How many of the next connections are opened and not greeted."""
        self.links: list[WebSocket] = []
        """The connections that are open, oldest first."""
        self.opened = 0
        self.acknowledged: queue.Queue[tuple[int, str]] = queue.Queue()
        """The number of the connection, and the envelope's id."""
        self.connected: queue.Queue[int] = queue.Queue()
        """The number of each connection, when it was greeted."""
        self._tickets: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(16)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            self._app, interface="asgi3", log_level="error", access_log=False, timeout_graceful_shutdown=1,
            ws="websockets-sansio",
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return await self._link(WebSocket(scope, receive, send))
        if scope["type"] != "http":
            await receive()
            self._loop = asyncio.get_running_loop()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return await send({"type": "lifespan.shutdown.complete"})
        request = Request(scope, receive)
        method = request.url.path.removeprefix("/api/")
        self.calls.append(method)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if method == "apps.connections.open":
            response: Response = self._address(token)
        elif token != TOKEN:
            response = JSONResponse({"ok": False, "error": "invalid_auth"})
        else:
            body = json.loads(await request.body())
            answer = self._done(method, body)
            if method == "chat.postMessage" and self.drop_after > 0:
                self.drop_after -= 1
                return receive.__self__.transport.abort()  # type: ignore[attr-defined,no-any-return]
            response = JSONResponse(answer)
        await response(scope, receive, send)

    def _done(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("channel") != "C0123456789":
            return {"ok": False, "error": "channel_not_found"}
        match method:
            case "chat.postMessage":
                stamp = f"{1_700_000_000 + len(self.messages)}.000100"
                self.messages.append(body | {"ts": stamp})
                self.posted.put(stamp)
                return {"ok": True, "ts": stamp, "channel": body["channel"]}
            case "chat.update":
                found = [message for message in self.messages if message["ts"] == body["ts"]]
                if not found:
                    return {"ok": False, "error": "message_not_found"}
                found[0].update(text=body["text"], blocks=body["blocks"])
                return {"ok": True, "ts": body["ts"]}
            case "chat.postEphemeral":
                self.whispers.append(body)
                self.whispered.put(None)
                return {"ok": True, "message_ts": "1.1"}
            case "conversations.history":
                return {"ok": True, "messages": [m for m in self.messages if "thread_ts" not in m]}
            case "conversations.replies":
                thread = [m for m in self.messages if body["ts"] in (m["ts"], m.get("thread_ts"))]
                return {"ok": True, "messages": thread}
            case _:
                return {"ok": False, "error": "unknown_method"}

    # Socket Mode

    def _address(self, token: str) -> Response:
        if token != APP_TOKEN:
            error = "not_allowed_token_type" if token == TOKEN else "invalid_auth"
            return JSONResponse({"ok": False, "error": error})
        if self.refusals:
            error = self.refusals.pop(0)
            limited = error == "ratelimited"
            return JSONResponse(
                {"ok": False, "error": error}, 429 if limited else 200, {"retry-after": "1"} if limited else None
            )
        self._tickets.add(ticket := f"ticket-{len(self.calls)}")
        return JSONResponse({"ok": True, "url": f"ws{self.url[4:]}/link/?ticket={ticket}&app_id=A1"})

    async def _link(self, link: WebSocket) -> None:
        (ticket,) = parse_qs(link.url.query).get("ticket", [""])
        if ticket not in self._tickets:
            return await link.close(1008)
        self._tickets.remove(ticket)  # it opens one connection
        await link.accept()
        self.opened += 1
        number = self.opened
        self.links.append(link)
        try:
            if self.mute > 0:
                self.mute -= 1
                return await link.close(1011)
            await link.send_json({"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A1"}})
            self.connected.put(number)
            while True:
                self.acknowledged.put((number, str((await link.receive_json())["envelope_id"])))
        except WebSocketDisconnect:
            pass
        finally:
            self.links.remove(link)

    def push(self, message: dict[str, Any] | str, link: WebSocket | None = None) -> None:
        """Send a frame over a connection; the newest, when none is named."""
        text = message if isinstance(message, str) else json.dumps(message)
        self._run((link or self.links[-1]).send_text(text))

    def envelope(self, name: str, payload: Any, kind: str = "interactive") -> dict[str, Any]:
        """What Slack wraps an interaction in."""
        return {"type": kind, "envelope_id": name, "payload": payload, "accepts_response_payload": False}

    def take_back(self, reason: str = "refresh_requested") -> None:
        """Ask for the newest connection back, as Slack does every few hours."""
        self.push({"type": "disconnect", "reason": reason, "debug_info": {"host": "applink-1"}})

    def hang_up(self, link: WebSocket) -> None:
        """Close a connection."""
        self._run(link.close(1000))

    def drop(self) -> None:
        """Break the newest connection without a word."""
        assert self._loop is not None
        protocol = self.links[-1]._send.__self__  # type: ignore[attr-defined]
        self._loop.call_soon_threadsafe(protocol.transport.abort)

    def _run(self, doing: Any) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(doing, self._loop).result(10)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._socket.close()

    def __enter__(self) -> SlackServer:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()
