"""A canary: real servers, a real splitter, requests in stages, watched after each; back at the first breach."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.skill import SkillError
from agents.skills.devsecops.duel import Duel
from agents.skills.devsecops.replay import Asked, ask, latencies, percentile
from agents.skills.devsecops.replica import Replica, Reply
from agents.skills.devsecops.sequential import Watch
from agents.skills.devsecops.splitter import WITHDRAWN, Splitter

STAGES = (0.1, 0.5, 1.0)
"""The challenger's share of the requests, stage after stage."""
HALF = STAGES[1]
"""The share at which the two are held against each other."""
ALPHA = 0.05
"""Chance that a sound challenger is taken back, over all signals and looks."""
ERROR_LIMIT = 0.01
SLOW_LIMIT = 0.1
LEAST_SLOW_MS = 500.0
"""What a busy machine takes now and then, whatever the model."""
_WARM = 10


@dataclass
class Rollout:
    """What a canary found. Times are seconds; `slow_ms` is the limit a request must keep."""

    stages: list[dict[str, Any]] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)
    duel: Duel | None = None
    slow_ms: float = 0.0
    breach: str = ""
    breach_after: int = 0
    rollback_seconds: float | None = None
    after_rollback: int = 0
    servers: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def of(self, arm: str) -> list[Reply]:
        """The replies of one arm."""
        return [reply for reply in self.replies if reply.arm == arm]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        arms = {
            arm: {"requests": len(found), "failed": sum(reply.code != 200 for reply in found), **latencies(found)}
            for arm in ("champion", "challenger")
            if (found := self.of(arm))
        }
        return {
            "stages": self.stages,
            "arms": arms,
            "signals": [watch.as_dict() for watch in self.watches],
            **({"comparison": self.duel.as_dict()} if self.duel else {}),
            "slow_above_ms": round(self.slow_ms, 3),
            "breach": self.breach,
            "breach_after_requests": self.breach_after,
            "rollback_seconds": self.rollback_seconds,
            "answered_after_rollback": self.after_rollback,
            "servers": self.servers,
            "seconds": round(self.seconds, 3),
        }


def roll_out(
    champion: bytes | None,
    challenger: bytes,
    asked: Sequence[Asked],
    wrong: Callable[[Asked, Any], bool] | None,
    wrong_limit: float,
    *,
    compare: bool = False,
    seed: int,
    work: Path,
    single_ms: float,
    progress: Callable[[str], None],
) -> Rollout:
    """Serve both packages, send `asked` through the splitter stage by stage, and watch the challenger.

    `wrong` says whether a prediction was wrong, of which a share of `wrong_limit` is borne; None: nobody knows. With
    `compare`, wrong answers of both at the share of one half are held against each other, and a challenger that is
    surely worse is a breach, too. At a breach the share goes to zero at once and the rest of the requests goes to the
    champion. Without a champion the challenger gets everything at once, and the way back withdraws the service. All
    servers are stopped at the end, whatever happens. Raises SkillError when a server does not start or is not healthy.
    """
    found = Rollout()
    started = time.monotonic()
    limits = {"failed": ERROR_LIMIT, "slow": SLOW_LIMIT} | ({"wrong": wrong_limit} if wrong else {})
    signals = len(limits) + compare
    found.watches = [Watch(name, limit, ALPHA / signals) for name, limit in limits.items()]
    found.duel = Duel(ALPHA / signals) if compare else None
    with tempfile.TemporaryDirectory(dir=work) as folder, ExitStack() as stack:
        arms = (("champion", champion), ("challenger", challenger))
        replicas = [_replica(arm, data, Path(folder)) for arm, data in arms if data is not None]
        for replica in replicas:
            stack.callback(replica.stop)
            replica.start()
        for replica in replicas:
            replica.ready()
            _healthy(replica)
        progress(f"{len(replicas)} model servers are up after {time.monotonic() - started:.1f} s")
        splitter = stack.enter_context(Splitter(replicas[0].port if champion else None, replicas[-1].port, seed))
        found.slow_ms = _slow_limit(replicas, asked, single_ms)
        stages = STAGES if champion else STAGES[-1:]
        _stages(found, splitter, asked, wrong, progress, stages, 200 if champion else WITHDRAWN)
        splitter.share = 0.0
        for replica in replicas:
            replica.stop()
    found.servers = [
        {"arm": each.arm, "pid": each.pid, "start_seconds": round(each.start_seconds, 3), "exit": each.exit}
        for each in replicas
    ]
    found.seconds = time.monotonic() - started
    return found


def _replica(arm: str, data: bytes, folder: Path) -> Replica:
    package = folder / f"{arm}.zip"
    package.write_bytes(data)
    return Replica(arm, package)


def _healthy(replica: Replica) -> None:
    reply = replica.get("/health")
    if reply.code != 200 or reply.body.get("status") != "ok":
        raise SkillError(f"the server of the {replica.arm} is not healthy: {reply.code} {str(reply.body)[:200]}", "")


def _slow_limit(replicas: Sequence[Replica], asked: Sequence[Asked], single_ms: float) -> float:
    """Five times the 95th percentile of the first server (the champion's), and never below LEAST_SLOW_MS."""
    warm = [[ask(replica.port, each).seconds for each in asked[:_WARM]] for replica in replicas]
    return max(LEAST_SLOW_MS, 10 * single_ms, 5 * percentile(warm[0], 0.95))


def _stages(
    found: Rollout,
    splitter: Splitter,
    asked: Sequence[Asked],
    wrong: Callable[[Asked, Any], bool] | None,
    progress: Callable[[str], None],
    stages: Sequence[float],
    back_code: int,
) -> None:
    size = -(-len(asked) // len(stages))
    for index, share in enumerate(stages):
        if found.breach:
            break
        splitter.share = share
        part = asked[index * size : (index + 1) * size]
        before = splitter.routed["challenger"]
        for number, each in enumerate(part):
            if _one(found, splitter, each, wrong):
                found.breach_after = len(found.replies)
                rest = [*part[number + 1 :], *asked[(index + 1) * size :]] or list(asked[:1])
                _take_back(found, splitter, rest, back_code)
                break
        served = splitter.routed["challenger"] - before
        found.stages.append({"share": share, "requests": len(part), "challenger": served, "breach": found.breach})
        progress(f"share {share:.0%}: {served} of {len(part)} requests to the challenger")


def _one(found: Rollout, splitter: Splitter, each: Asked, wrong: Callable[[Asked, Any], bool] | None) -> bool:
    """Ask about one row and look at the signals; whether one is breached."""
    reply = ask(splitter.port, each)
    found.replies.append(reply)
    failed = reply.code != 200
    mistaken = None if wrong is None or failed else wrong(each, reply.body["predictions"][0])
    if found.duel is not None and mistaken is not None and splitter.share == HALF:
        found.duel.see(reply.arm == "challenger", mistaken)
        if found.duel.winner == "champion":
            found.breach = f"worse: {found.duel.words}"
            return True
    if reply.arm != "challenger":
        return False
    watches = {watch.name: watch for watch in found.watches}
    watches["failed"].see(failed)
    watches["slow"].see(1000 * reply.seconds > found.slow_ms)
    if mistaken is not None:
        watches["wrong"].see(mistaken)
    breached = next((watch for watch in found.watches if watch.breached), None)
    if breached is not None:
        found.breach = (
            f"{breached.name}: {breached.bad} of {breached.seen} requests, at most {breached.limit:.1%} borne"
        )
    return breached is not None


def _take_back(found: Rollout, splitter: Splitter, rest: Sequence[Asked], code: int) -> None:
    """No share for the challenger from here; timed until the champion (or the withdrawn service) answers `code`."""
    noticed = time.monotonic()
    splitter.share = 0.0
    for each in rest:
        reply = ask(splitter.port, each)
        found.replies.append(reply)
        if reply.arm == "champion" and reply.code == code:
            found.after_rollback += 1
            if found.rollback_seconds is None:
                found.rollback_seconds = round(time.monotonic() - noticed, 6)
