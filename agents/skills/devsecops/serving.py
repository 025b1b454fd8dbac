"""The inference server of a model package: `POST /predict`, `GET /health`, `GET /metrics`.

    python -m agents.skills.devsecops.serving model-package.zip --port 8080

Everything it needs of the package is data (verified against the manifest; the model by skops); no code comes out of it.
It answers on loopback unless told otherwise, has no authentication and no encryption: those belong to what stands
before it. `/predict` takes `{"rows": [{"column": value, …}, …]}`.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from agents.skill import InputError
from agents.skills.training.inuse import Package, read_package

MAX_BODY = 1_000_000
"""Bytes of one request."""
MAX_ROWS = 1_000
"""Rows of one request."""
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper ends of the latency histogram, in seconds."""


class Refused(Exception):
    """A request that cannot be answered; `code` is the HTTP status."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Predictor:
    """A package's model behind a lock: scikit-learn's models may not be used by several threads at once."""

    def __init__(self, package: Package) -> None:
        """Raises SkillError when the model holds anything but what our training writes."""
        from threadpoolctl import ThreadpoolController

        from agents.skills.training.modelfile import loads_model

        self.package = package
        self.scope = package.scope
        self.features = package.features
        self._model = loads_model(f"model.skops of {package.shown}", package.files["model.skops"])
        # Looking for the libraries that have threads takes milliseconds: once, not for every request.
        self._threads = ThreadpoolController()
        self._lock = threading.Lock()

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Predictions in the order of `rows`, with probabilities for classes. Raises InputError if a column lacks."""
        import pandas as pd

        from agents.skills.feature.transform import prepare_frame
        from agents.skills.training.search import class_probabilities

        answer: dict[str, Any] = {
            "model": self.package.manifest["name"],
            "version": self.package.manifest["version"],
        }
        frame = prepare_frame(pd.DataFrame(list(rows), dtype=object), self.features)
        with self._lock, self._threads.limit(limits=1):
            if not self.scope.classes:
                return answer | {"predictions": [float(value) for value in self._model.predict(frame)]}
            values = class_probabilities(self._model, frame, self.scope.classes)
        chosen = [self.scope.classes[int(index)] for index in values.argmax(axis=1)]
        named = [dict(zip(self.scope.classes, map(float, line), strict=True)) for line in values]
        return answer | {"predictions": chosen, "probabilities": named}


class Meter:
    """Counts what was asked and answered, in the text format of Prometheus."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: Counter[float] = Counter()
        self._seconds, self._answered, self._rows = 0.0, 0, 0
        self._classes: Counter[str] = Counter()
        self._sum = 0.0

    def request(self, path: str, code: int, seconds: float) -> None:
        """One answered request."""
        with self._lock:
            self._requests[path, code] += 1
            if path == "/predict" and code == 200:
                self._answered += 1
                self._seconds += seconds
                for bucket in BUCKETS:
                    self._buckets[bucket] += seconds <= bucket

    def predictions(self, values: Sequence[Any]) -> None:
        """What was predicted."""
        with self._lock:
            self._rows += len(values)
            for value in values:
                if isinstance(value, str):
                    self._classes[value] += 1
                else:
                    self._sum += value

    def text(self) -> str:
        """The exposition."""
        manifest = self._package.manifest
        info = {"name": manifest["name"], "version": manifest["version"], "sha256": self._package.sha256}
        with self._lock:
            lines = [
                "# TYPE model_info gauge",
                f"model_info{_labels(info)} 1",
                "# TYPE model_requests_total counter",
                *(
                    f"model_requests_total{_labels({'path': path, 'code': str(code)})} {count}"
                    for (path, code), count in sorted(self._requests.items())
                ),
                "# TYPE model_request_seconds histogram",
                *(f'model_request_seconds_bucket{{le="{bucket:g}"}} {self._buckets[bucket]}' for bucket in BUCKETS),
                f'model_request_seconds_bucket{{le="+Inf"}} {self._answered}',
                f"model_request_seconds_sum {self._seconds:.6f}",
                f"model_request_seconds_count {self._answered}",
                "# TYPE model_rows_total counter",
                f"model_rows_total {self._rows}",
                "# TYPE model_predictions_total counter",
                *(
                    f"model_predictions_total{_labels({'class': name})} {count}"
                    for name, count in sorted(self._classes.items())
                ),
            ]
            if not self._package.scope.classes:
                lines += ["# TYPE model_prediction_sum gauge", f"model_prediction_sum {self._sum:.9g}"]
        return "\n".join(lines) + "\n"


def _labels(values: Mapping[str, str]) -> str:
    shown = ((name, _escaped(str(value))) for name, value in values.items())
    return "{" + ",".join(f'{name}="{value}"' for name, value in shown) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class ModelServer(ThreadingHTTPServer):
    """Serves one package. `address` is (host, port); port 0 takes a free one."""

    daemon_threads = True

    def __init__(self, package: Package, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        """Raises SkillError when the model cannot be trusted, OSError when the port is taken."""
        self.predictor = Predictor(package)
        self.meter = Meter(package)
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"
    server_version = "value-train-model"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        """`/health` and `/metrics`."""
        started = time.perf_counter()
        package = self.server.predictor.package
        if self.path == "/health":
            state = {"status": "ok", "name": package.manifest["name"], "version": package.manifest["version"]}
            self._say(200, json.dumps(state | {"sha256": package.sha256}).encode(), started)
        elif self.path == "/metrics":
            self._say(200, self.server.meter.text().encode(), started, "text/plain; version=0.0.4")
        elif self.path == "/predict":
            self._error(405, "send rows to /predict with POST", started)
        else:
            self._error(404, "there is /predict (POST), /health and /metrics (GET)", started)

    def do_POST(self) -> None:
        """`/predict`."""
        started = time.perf_counter()
        if self.path != "/predict":
            self._error(404, "rows go to /predict", started)
            return
        try:
            answer = self.server.predictor.predict(self._rows())
        except Refused as problem:
            self._error(problem.code, str(problem), started)
        except InputError as problem:
            self._error(400, str(problem), started)
        except Exception:
            traceback.print_exc()
            self._error(500, "the model failed; the server's log says why", started)
        else:
            self.server.meter.predictions(answer["predictions"])
            self._say(200, json.dumps(answer, allow_nan=False).encode(), started)

    def _rows(self) -> list[dict[str, Any]]:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            raise Refused(411, "say how long the body is (Content-Length)")
        if int(length) > MAX_BODY:
            self.close_connection = True
            raise Refused(413, f"the body has {int(length):,} bytes, more than {MAX_BODY:,}: send fewer rows at once")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise Refused(400, "the body is not JSON") from None
        rows = body.get("rows") if isinstance(body, dict) else None
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise Refused(400, 'send {"rows": [{"column": value}]}, at least one row')
        if len(rows) > MAX_ROWS:
            raise Refused(413, f"{len(rows):,} rows are more than {MAX_ROWS:,}: send them in parts")
        for row in rows:
            for name, value in row.items():
                if isinstance(value, (dict, list)) or (isinstance(value, float) and not math.isfinite(value)):
                    raise Refused(400, f"{name[:60]!r} holds no text, number, yes/no or null")
        return rows

    def _error(self, code: int, reason: str, started: float) -> None:
        self._say(code, json.dumps({"error": reason}).encode(), started)

    def _say(self, code: int, body: bytes, started: float, kind: str = "application/json") -> None:
        path = self.path if self.path in ("/predict", "/health", "/metrics") else "other"
        self.server.meter.request(path, code, time.perf_counter() - started)
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: requests are counted in /metrics, and rows may hold personal data."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT (or, if asked, until standard input closes)."""
    parser = argparse.ArgumentParser(prog="serving", description="Serve a model package over HTTP.")
    parser.add_argument("package", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; it is printed as JSON")
    parser.add_argument("--until-closed", action="store_true", help="end when standard input closes")
    given = parser.parse_args(arguments)
    try:
        package = read_package(given.package.name, given.package.read_bytes())
        server = ModelServer(package, (given.host, given.port))
    except Exception as problem:  # whatever is wrong with a package is one line to whoever starts it
        sys.stderr.write(f"cannot serve {given.package.name}: {problem}\n")
        return 1

    def stop(*_: Any) -> None:
        threading.Thread(target=server.shutdown, daemon=True).start()

    def wait_for_end() -> None:
        sys.stdin.read()
        stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if given.until_closed:
        threading.Thread(target=wait_for_end, daemon=True).start()
    sys.stdout.write(json.dumps({"port": server.server_address[1], "sha256": package.sha256}) + "\n")
    sys.stdout.flush()
    with server:
        server.serve_forever(poll_interval=0.05)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
