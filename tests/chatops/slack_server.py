"""A stand-in for the Slack web API: the methods we call, over real HTTP, with Slack's own errors."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

TOKEN = "xoxb-a-token"


class SlackServer:
    """Serves until `close`; remembers the messages of one channel."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.whispers: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.drop_after = 0
        """How many of the next posts are done and not answered."""
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(16)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            self._app, interface="asgi3", log_level="error", access_log=False, timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return await send({"type": "lifespan.shutdown.complete"})
        request = Request(scope, receive)
        method = request.url.path.removeprefix("/api/")
        self.calls.append(method)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            response: Response = JSONResponse({"ok": False, "error": "invalid_auth"})
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
                return {"ok": True, "ts": stamp, "channel": body["channel"]}
            case "chat.update":
                found = [message for message in self.messages if message["ts"] == body["ts"]]
                if not found:
                    return {"ok": False, "error": "message_not_found"}
                found[0].update(text=body["text"], blocks=body["blocks"])
                return {"ok": True, "ts": body["ts"]}
            case "chat.postEphemeral":
                self.whispers.append(body)
                return {"ok": True, "message_ts": "1.1"}
            case "conversations.history":
                return {"ok": True, "messages": [m for m in self.messages if "thread_ts" not in m]}
            case "conversations.replies":
                thread = [m for m in self.messages if body["ts"] in (m["ts"], m.get("thread_ts"))]
                return {"ok": True, "messages": thread}
            case _:
                return {"ok": False, "error": "unknown_method"}

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._socket.close()

    def __enter__(self) -> SlackServer:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()
