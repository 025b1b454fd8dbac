"""What the Risk agent may read of a session, in one place, with the readings every rule needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.skill import SkillContext, SkillError
from agents.skills.shapes import ExperimentLog, SourceSpec, SplitSpec
from schemas.ticket import Ticket

Interval = Mapping[str, float]


@dataclass(frozen=True)
class Record:
    """The ticket, the artifacts and what the session says of itself. `leakage` and `quality` are None when missing."""

    ticket: Ticket
    acceptance: tuple[str, ...]
    source: SourceSpec
    split: SplitSpec
    metrics: Mapping[str, Any]
    log: ExperimentLog
    leakage: Mapping[str, Any] | None
    quality: Mapping[str, Any] | None
    measured: Mapping[str, Mapping[str, float]]
    artifacts: Mapping[str, str]
    """Artifact name to SHA-256, as the event log has them; empty when the session runs without one."""
    used_minutes: float | None

    @property
    def metric(self) -> str:
        """The metric the session optimises."""
        return str(self.metrics["metric"])

    @property
    def value(self) -> Interval:
        """The optimised metric on the hold-out rows, with its interval."""
        found: Interval = self.metrics["metrics"][self.metric]
        return found

    @property
    def gain(self) -> Interval | None:
        """The paired gain over the baseline, positive when better; None without a baseline."""
        found: Interval | None = self.metrics.get("gain", {}).get(self.metric)
        return found

    @property
    def rows(self) -> int:
        """Hold-out rows measured."""
        return int(self.metrics["rows"])

    @property
    def suspects(self) -> list[str]:
        """What points to leakage, in words: each test of verdict `suspect`, or the bare count if none is listed."""
        leakage = self.leakage or {}
        tests = [test for test in leakage.get("tests", []) if test.get("verdict") == "suspect"]
        listed = [f"{test['test']} of {test['subject']}" for test in tests]
        count = leakage.get("suspects", 0)
        return listed or ([f"{count} suspects"] if count else [])


def read_record(context: SkillContext) -> Record:
    """The record from the staged artifacts. Raises SkillError when `metrics.json` is not what the harness writes."""

    def optional(name: str) -> Any:
        return context.read_json(name) if name in context.inputs else None

    metrics = context.read_json("metrics.json")
    if not isinstance(metrics, dict) or metrics.get("metric") not in metrics.get("metrics", {}):
        raise SkillError("metrics.json does not hold the metric it names", "run evaluation.measure again")
    usage = context.facts.get("usage") or {}
    seconds = usage.get("wall_seconds")
    return Record(
        ticket=context.ticket,
        acceptance=context.acceptance,
        source=SourceSpec.model_validate(context.read_json("data-source.json")),
        split=SplitSpec.model_validate(context.read_json("split.json")),
        metrics=metrics,
        log=ExperimentLog.model_validate(context.read_json("experiment-log.json")),
        leakage=optional("leakage.json"),
        quality=optional("data-quality.json"),
        measured=context.measured,
        artifacts=dict(context.facts.get("artifacts") or {}),
        used_minutes=None if seconds is None else float(seconds) / 60,
    )
