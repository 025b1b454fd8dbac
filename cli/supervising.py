"""Child processes that are to run: started, started again when they die, ended together; a supervisor, no more."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import structlog

from bus.processes import tied_to_parent
from cli.errors import CliError
from cli.gateways import GATEWAY, KEY_VARIABLE
from ingest.settings import ENVIRONMENT as SECRETS_OF_SOURCES

_log = structlog.get_logger("up")
BACKOFF = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Seconds before a component that died is started again, by how often it died in a row; then it is given up."""

STABLE = 5.0
"""Seconds of serving after which a death is a first one again."""

GRACE = 10.0
"""Seconds a component has to end in good order before it is killed."""

_LONGEST_LINE = 1 << 20


@dataclass(slots=True, eq=False)
class Child:
    """One component: `words` are what follows `valuetrain` on its command line."""

    name: str
    kind: str
    words: Sequence[str]
    role: str | None = None
    pid: int | None = None
    status: str = "starting"
    restarts: int = 0
    said: str = ""
    """The last line it wrote to standard error."""
    served_at: float | None = None
    ready: anyio.Event = field(default_factory=anyio.Event)
    process: asyncio.subprocess.Process | None = None

    def document(self) -> dict[str, Any]:
        """What others may know of it."""
        shown = ("name", "kind", "role", "pid", "status", "restarts")
        return {name: value for name in shown if (value := getattr(self, name)) is not None}


class Supervisor:
    """Keeps children running. They die with this process, whatever ends it (Linux)."""

    def __init__(self, out: Callable[[Child, str], None], changed: Callable[[], None]) -> None:
        """`out` gets each line a child writes; `changed` is called when a pid or a status changed."""
        self._out = out
        self._changed = changed
        self.stopping = False
        """Whether `stop` was called: what ends from then on is not started again."""

    async def run(self, child: Child) -> None:
        """Run `child` until `stop`. Raises CliError with its last line when it cannot start or dies again and again."""
        deaths = 0
        while True:
            code = await self._once(child)
            if self.stopping:
                return
            served = child.served_at
            lasted = served is not None and time.monotonic() - served >= STABLE
            deaths = 1 if lasted else deaths + 1
            _log.warning("component_ended", component=child.name, code=code, deaths=deaths, said=child.said)
            why = f"{child.name} ended with {_meaning(code)}: {child.said or 'it said nothing'}"
            if code > 0 and served is None:
                raise CliError(why)
            if deaths > len(BACKOFF):
                raise CliError(f"{why} ({deaths} times in a row; see valuetrain.log in the home)")
            self._set(child, "ended", None)
            await anyio.sleep(BACKOFF[deaths - 1])
            child.restarts += 1

    async def stop(self, groups: Sequence[Sequence[Child]]) -> None:
        """End the children, one group after the other: SIGTERM, and SIGKILL for what stays longer than GRACE."""
        self.stopping = True
        for group in groups:
            ending = [child.process for child in group if child.process is not None]
            for process in ending:
                _signal(process.terminate)
            with anyio.move_on_after(GRACE):
                for process in ending:
                    await process.wait()
            for process in ending:
                if process.returncode is None:
                    _signal(process.kill)
                    await process.wait()

    async def _once(self, child: Child) -> int:
        """Start it and wait for its end; its exit code, negative for a signal."""
        child.said, child.served_at = "", None
        program = [sys.executable, "-m", "cli.main", *child.words]
        process = await asyncio.create_subprocess_exec(
            *tied_to_parent(sys.executable, program),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is for us; we end the children in their order
            limit=_LONGEST_LINE,
            env=environment_of(child.kind),
        )
        child.process = process
        self._set(child, "starting", process.pid)
        try:
            async with anyio.create_task_group() as reading:
                reading.start_soon(self._read, child, process.stdout, False)
                reading.start_soon(self._read, child, process.stderr, True)
            return await process.wait()
        finally:
            if process.returncode is None:
                _signal(process.kill)
                with anyio.CancelScope(shield=True):
                    await process.wait()
            child.process = None

    async def _read(self, child: Child, stream: asyncio.StreamReader | None, problems: bool) -> None:
        while stream is not None and (line := (await stream.readline()).decode("utf-8", "replace")):
            text = line.rstrip()
            if problems:
                child.said = text
            if not problems and child.served_at is None and " is serving" in text:
                child.served_at = time.monotonic()
                self._set(child, "serving", child.pid)
                child.ready.set()
            self._out(child, text)

    def _set(self, child: Child, status: str, pid: int | None) -> None:
        child.status, child.pid = status, pid
        self._changed()


def _meaning(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except ProcessLookupError:
        pass


def environment_of(kind: str) -> dict[str, str]:
    """Ours, without the secrets of others: what logs in at GitHub or Slack goes only to those who speak to them, what
    logs in at a database or bucket only to the effect executor, what
    can write to GitHub not to chat-ops where there is another token to read with, and a model's key only to its
    gateway."""
    withheld = ["VALUETRAIN_SLACK_", "VALUETRAIN_GITHUB_WEBHOOK_"] if kind != "chatops" else []
    if kind not in ("autopilot", "effects"):
        withheld.append(SECRETS_OF_SOURCES)
    if kind not in ("autopilot", "effects", "chatops"):
        withheld.append("VALUETRAIN_GITHUB_")
    if kind != GATEWAY:
        withheld.append(KEY_VARIABLE)
    if kind == "chatops" and any(name.startswith("VALUETRAIN_GITHUB_READ_TOKEN") for name in os.environ):
        withheld += ["VALUETRAIN_GITHUB_TOKEN", "VALUETRAIN_GITHUB_APP_"]
    return {name: value for name, value in os.environ.items() if not name.startswith(tuple(withheld))}
