"""A model server in a process of its own, for as long as a skill needs it, and a client that asks it."""

from __future__ import annotations

import http.client
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agents.skill import SkillError

START_SECONDS = 90.0
"""How long a server may take to be ready; importing its libraries takes seconds on a cold machine."""
STOP_SECONDS = 10.0
TIMEOUT = 20.0
"""Seconds a request may take."""


@dataclass(frozen=True)
class Reply:
    """An answer: HTTP status (0 when there was none), the body, the arm that gave it (if a splitter said), seconds."""

    code: int
    body: Any
    arm: str
    seconds: float


class Replica:
    """A server for one package file. Entering starts it and waits until it is ready; leaving stops it by its pid."""

    def __init__(self, arm: str, package: Path) -> None:
        """`package` is the zip; the server's errors go into a file beside it."""
        self.arm = arm
        self._package = package
        self._log = package.with_suffix(".log")
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self.pid = 0
        self.exit: int | None = None
        self.start_seconds = 0.0

    def start(self) -> None:
        """Start the process without waiting for it: several can start at once."""
        environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agents.skills.devsecops.serving", str(self._package), "--until-closed"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, text=True,
            )  # fmt: skip
        self.pid = self._process.pid
        self._began = time.monotonic()

    def ready(self) -> None:
        """Wait until it answers. Raises SkillError, with what the server said, when it does not."""
        process = self._running()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
            line = process.stdout.readline() if selector.select(START_SECONDS) and process.stdout else ""
        if not line:
            self.stop()
            said = self._log.read_text("utf-8", "replace").strip()[-500:]
            raise SkillError(f"the server of the {self.arm} did not start: {said or 'it said nothing'}", "")
        self.port = int(json.loads(line)["port"])
        self.start_seconds = time.monotonic() - self._began

    def __enter__(self) -> Self:
        if self._process is None:
            self.start()
        self.ready()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Close its input and wait; kill it when that is not enough. `exit` is then its exit code."""
        process = self._process
        if process is None or self.exit is not None:
            return
        if process.stdin:
            process.stdin.close()
        try:
            self.exit = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            self.exit = process.wait()
        if process.stdout:
            process.stdout.close()

    def cpu_seconds(self) -> float:
        """CPU time the server has used so far (user and system)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self) -> int:
        """The most memory the server has held so far (resident)."""
        status = Path(f"/proc/{self.pid}/status").read_text("ascii", "replace")
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))

    def get(self, path: str) -> Reply:
        """Ask for `/health` or `/metrics`."""
        return request(self.port, "GET", path)

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("the replica was not started")
        return self._process


def request(port: int, method: str, path: str, value: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
    """One HTTP request to loopback. No answer at all is a reply with code 0 and the reason."""
    body = None if value is None else json.dumps(value, allow_nan=False)
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        text = answer.read().decode()
        seconds = time.perf_counter() - started
        content = json.loads(text) if "json" in (answer.getheader("Content-Type") or "") else text
        return Reply(answer.status, content, answer.getheader("X-Arm") or "", seconds)
    except (OSError, http.client.HTTPException, ValueError) as problem:
        return Reply(0, str(problem), "", time.perf_counter() - started)
    finally:
        connection.close()


def as_rows(frame: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a DataFrame as JSON values: missing is null, times are ISO 8601."""
    import pandas as pd

    rows = []
    for record in frame[list(names)].to_dict("records"):
        row: dict[str, Any] = {}
        for name, value in record.items():
            if pd.isna(value):
                row[name] = None
            elif isinstance(value, pd.Timestamp):
                row[name] = value.isoformat()
            else:
                row[name] = value.item() if hasattr(value, "item") else value
        rows.append(row)
    return rows
