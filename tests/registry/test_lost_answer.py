"""A server that makes a version and breaks the connection instead of answering: asked once, and found afterwards."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote_plus

import pytest

from autopilot.registry.mlflow_registry import MlflowRegistry
from autopilot.registry.port import CANDIDATE, RegistryError
from tests.registry.test_registry import MODEL, add, package


class Server(ThreadingHTTPServer):
    """As much of MLflow's registry over HTTP as making one version needs."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.versions: list[dict[str, Any]] = []
        self.alias = ""
        self.answers = False

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_GET(self) -> None:
        if "registered-models/search" in self.path:
            aliases = [{"alias": CANDIDATE, "version": self.server.alias}] if self.server.alias else []
            self._answer({"registered_models": [{"name": MODEL, "aliases": aliases}]})
        elif "model-versions/search" in self.path:
            asked = unquote_plus(self.path)
            found = [
                v for v in self.server.versions if any(f"{t['key']}` = '{t['value']}'" in asked for t in v["tags"])
            ]
            self._answer({"model_versions": found})
        else:
            self._answer({"model_version": self.server.versions[0]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("model-versions/create"):
            made = {"name": MODEL, "version": str(len(self.server.versions) + 1), "source": asked["source"]}
            self.server.versions.append({**made, "tags": asked["tags"], "creation_timestamp": 0})
            if not self.server.answers:
                self.close_connection = True
                self.connection.close()
                return
            self._answer({"model_version": self.server.versions[-1]})
        elif self.path.endswith("model-versions/set-tag"):
            tags = self.server.versions[int(asked["version"]) - 1]["tags"]
            tags[:] = [t for t in tags if t["key"] != asked["key"]] + [{"key": asked["key"], "value": asked["value"]}]
            self._answer({})
        else:
            assert self.path.endswith("registered-models/alias"), self.path
            self.server.alias = asked["version"]
            self._answer({})

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, what: dict[str, Any]) -> None:
        body = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_a_version_whose_answer_was_lost_is_asked_for_once_and_taken_over(server: Server) -> None:
    registry = MlflowRegistry(server.uri)
    with pytest.raises(RegistryError, match="registry"):
        add(registry, 1)
    assert len(server.versions) == 1, "MLflow's own client would have asked again"
    server.answers = True
    done = registry.register("s1.register.20", MODEL, CANDIDATE, package(1), ("s1.register.1",))
    assert (done.version, done.effect, done.current) == ("1", "s1.register.20", "1")
    assert len(server.versions) == 1
