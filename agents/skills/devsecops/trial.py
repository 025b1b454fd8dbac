"""A model in service for a short while: its latency, errors, CPU and predictions, and the way back, all measured."""

from __future__ import annotations

import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.skill import SkillError
from agents.skills.devsecops.replay import Asked, ask, latencies
from agents.skills.devsecops.replica import Replica, Reply
from agents.skills.devsecops.splitter import WITHDRAWN, Splitter

_BACK = 10
"""Requests sent on each side of the way back."""


@dataclass
class Trial:
    """What was measured. Times are seconds; `counted` are the server's own counts of answered requests by status."""

    replies: list[Reply] = field(default_factory=list)
    counted: dict[str, int] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    back_seconds: float = 0.0
    forth_seconds: float = 0.0
    back_answers: int = 0
    servers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Requests without a good answer."""
        return sum(reply.code != 200 for reply in self.replies)

    @property
    def predictions(self) -> list[Any]:
        """What was predicted, request by request."""
        return [reply.body["predictions"][0] for reply in self.replies if reply.code == 200]

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds of the server for one prediction."""
        return 1000 * self.cpu_seconds / max(1, len(self.replies))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        predicted = self.predictions
        classes = Counter(predicted) if predicted and isinstance(predicted[0], str) else {}
        return {
            "requests": len(self.replies),
            "failed": self.failed,
            **latencies(self.replies),
            "cpu_ms_per_prediction": round(self.cpu_ms, 4),
            "counted_by_the_server": self.counted,
            "predicted": {name: count / len(predicted) for name, count in sorted(classes.items())},
            "way_back_seconds": round(self.back_seconds, 6),
            "way_forth_seconds": round(self.forth_seconds, 6),
            "servers": self.servers,
        }


def try_out(
    before: bytes | None, now: bytes, asked: Sequence[Asked], *, seed: int, work: Path, progress: Callable[[str], None]
) -> Trial:
    """Serve the package `now` for all of `asked`, then go back to `before`, and forth again. Stops what it starts.

    Without a package before, going back withdraws the service.

    Raises SkillError when a server does not start, or when after the switch the other one does not answer.
    """
    found = Trial()
    with tempfile.TemporaryDirectory(dir=work) as folder, ExitStack() as stack:
        replicas = []
        for arm, data in (("champion", before), ("challenger", now)):
            if data is None:
                continue
            package = Path(folder) / f"{arm}.zip"
            package.write_bytes(data)
            replicas.append(Replica(arm, package))
        for replica in replicas:
            stack.callback(replica.stop)
            replica.start()
        for replica in replicas:
            replica.ready()
        progress(f"{len(replicas)} model servers are up")
        served = replicas[-1]
        splitter = stack.enter_context(Splitter(replicas[0].port if before else None, served.port, seed))
        splitter.share = 1.0
        ask(splitter.port, asked[0])  # the first answer of a fresh process is not like the others
        used = served.cpu_seconds()
        found.replies = [ask(splitter.port, each) for each in asked]
        found.cpu_seconds = served.cpu_seconds() - used
        found.counted = _counted(served.get("/metrics"))
        found.back_seconds = _switch(splitter, 0.0, "champion", asked[:_BACK], 200 if before else WITHDRAWN)
        found.back_answers = min(_BACK, len(asked))
        found.forth_seconds = _switch(splitter, 1.0, "challenger", asked[:_BACK])
        for replica in replicas:
            replica.stop()
    found.servers = [
        {"arm": {"champion": "before", "challenger": "now"}[each.arm], "pid": each.pid, "exit": each.exit}
        for each in replicas
    ]
    return found


def _switch(splitter: Splitter, share: float, arm: str, asked: Sequence[Asked], code: int = 200) -> float:
    """Seconds from the decision to the first answer of the other server; all of `asked` must come from it."""
    decided = time.monotonic()
    splitter.share = share
    seconds = 0.0
    for each in asked:
        reply = ask(splitter.port, each)
        if reply.code != code or reply.arm != arm:
            raise SkillError(
                f"after the switch a request was answered by {reply.arm or 'nobody'} with status {reply.code}",
                "look at the server's log, and do not deliver without a way back",
            )
        seconds = seconds or time.monotonic() - decided
    return seconds


def _counted(reply: Reply) -> dict[str, int]:
    """The server's own counts of `/predict` by status, from `/metrics`."""
    found = re.findall(r'^model_requests_total\{path="/predict",code="(\d+)"\} (\d+)$', str(reply.body), re.MULTILINE)
    return {code: int(count) for code, count in found}
