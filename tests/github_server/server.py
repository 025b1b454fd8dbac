"""The stand-in as a running server on a free port of the loopback address."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import uvicorn

from tests.github_server.app import App, Log
from tests.github_server.faults import Fault
from tests.github_server.state import State


class GitHubServer:
    """Serves until `close`. Use it in a `with`; its end fails when something was outside of GitHub's description."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds the bare repositories."""
        self.state = State(folder)
        self.app = App(self.state)
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.app.address = self.url
        config = uvicorn.Config(self.app, log_level="error", access_log=False, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._socket.listen(128)  # connections wait from here on, so nobody has to wait for the thread
        self._thread.start()

    @property
    def log(self) -> Log:
        """What was asked so far."""
        return self.app.log

    def fail(self, fault: Fault) -> Fault:
        """Let it happen; the fault, which counts how often it did."""
        with self.state.lock:
            self.app.faults.append(fault)
        return fault

    def forget(self) -> None:
        """Begin counting anew; what was unfit stays."""
        with self.state.lock:
            self.log.seen.clear()

    def close(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._socket.close()

    def __enter__(self) -> GitHubServer:
        return self

    def __exit__(self, kind: object, problem: object, trace: object) -> None:
        self.close()
        if problem is None:
            assert not self.log.unfit, self.log.unfit
