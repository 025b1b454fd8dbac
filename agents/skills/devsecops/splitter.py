"""A splitter before two model servers: each request goes to one of them by a share that can change at any moment.

Which one follows from the request's key (header `X-Request-Key`, else its body), so that the same request goes to the
same server while the share stays, and those that go to the challenger at 10 % still do at 50 %.
"""

from __future__ import annotations

import hashlib
import http.client
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from agents.skills.devsecops.replica import TIMEOUT

MAX_BODY = 1_000_000
WITHDRAWN = 503
"""The status of a service that was taken back where there is no version before it."""


class Splitter:
    """Listens on a free loopback port while entered. `share` of the requests, in [0, 1], go to the challenger."""

    def __init__(self, champion_port: int | None, challenger_port: int, seed: int) -> None:
        """Without a champion its share is answered with 503: the service is withdrawn."""
        self._ports: dict[str, int | None] = {"champion": champion_port, "challenger": challenger_port}
        self._seed = seed
        self._share = 0.0
        self._lock = threading.Lock()
        self.routed: Counter[str] = Counter()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.splitter = self
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def share(self) -> float:
        """The challenger's share."""
        with self._lock:
            return self._share

    @share.setter
    def share(self, value: float) -> None:
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"a share lies in [0, 1], not {value}")
        with self._lock:
            self._share = value

    def route(self, key: bytes) -> tuple[str, int | None]:
        """The arm for a request's key, and its port (None: withdrawn); counted."""
        drawn = int.from_bytes(hashlib.sha256(b"%d:" % self._seed + key).digest()[:8]) / 2**64
        with self._lock:
            arm = "challenger" if drawn < self._share else "champion"
            self.routed[arm] += 1
        return arm, self._ports[arm]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    splitter: Splitter


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
            self._say(413, b'{"error": "say how long the body is, at most a million bytes"}', "")
            return
        body = self.rfile.read(int(length))
        arm, port = self.server.splitter.route((self.headers.get("X-Request-Key") or "").encode() or body)
        if port is None:
            self._say(WITHDRAWN, b'{"error": "the service is withdrawn: there is no version before this one"}', arm)
            return
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        try:
            connection.request("POST", self.path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            self._say(answer.status, answer.read(), arm)
        except (OSError, http.client.HTTPException):
            self._say(502, b'{"error": "the model server does not answer"}', arm)
        finally:
            connection.close()

    def _say(self, code: int, body: bytes, arm: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Arm", arm)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what is routed is counted."""
