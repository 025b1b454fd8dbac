"""What a model did in an attempt, as an artifact: each call with digests, each refusal with its reason."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from agents.planning.tools import Observation, Outcome
from schemas.model_calls import ToolCall
from schemas.values import FailureClass, Value

Exit = Literal["submitted", "limit_reached", "stuck", "refused", "format_error"]
"""How a conversation ends. Nothing else is an end: what is none of these is a failure of ours or of the endpoint."""

Unavailable = Literal["unavailable"]
"""No end: the endpoint gave no reply, and the attempt is tried again."""

FAILURES: dict[Exit, FailureClass] = {
    "limit_reached": FailureClass.LIMIT,
    "stuck": FailureClass.AGENT,
    "refused": FailureClass.POLICY,
    "format_error": FailureClass.AGENT,
}
LONGEST_DETAIL = 4_000


class Step(Value):
    """One call of a tool. Digests are SHA-256 of the arguments and of what the model was told; `raw` that of all there
    was, where it was told less. `note` says why it was refused. `reached` and `barred` are the hosts a command asked
    for, a line each, and what came of it."""

    number: int
    tool: str
    arguments: str
    outcome: Outcome
    observation: str
    note: str = ""
    raw: str = ""
    reached: tuple[str, ...] = ()
    barred: tuple[str, ...] = ()


@dataclass(slots=True)
class Steps:
    """Collects them for one conversation; `task` is what it was for (`build`, `design`)."""

    task: str
    models: set[str] = field(default_factory=set)
    taken: list[Step] = field(default_factory=list)
    replies: int = 0

    def add(self, call: ToolCall, observation: Observation) -> Step:
        """A call was observed."""
        step = Step(
            number=len(self.taken) + 1,
            tool=call.name[:64],
            arguments=digest(call.arguments),
            outcome=observation.outcome,
            observation=digest(observation.text),
            note=observation.note,
            raw=observation.raw,
            reached=tuple(observation.reached),
            barred=tuple(observation.barred),
        )
        self.taken.append(step)
        return step

    @property
    def refused(self) -> tuple[Step, ...]:
        """The calls of what no tool may do."""
        return tuple(step for step in self.taken if step.outcome == "refused")

    def warnings(self) -> tuple[str, ...]:
        """For the record and the person at the gate."""
        refused = [f"{step.tool}: {step.note}" for step in self.refused]
        barred, reached = self._lines("barred"), self._lines("reached")
        return (
            *_first(f"the model tried {len(refused)} times what it may not ({self.task})", refused, 5),
            *_first(f"the model's commands asked for hosts they may not reach ({self.task})", barred, 10),
            *_first(f"the model's commands used the network ({self.task})", reached, 10),
        )

    def _lines(self, which: Literal["barred", "reached"]) -> list[str]:
        """Of all steps, each once."""
        return list(dict.fromkeys(line for step in self.taken for line in getattr(step, which)))

    def document(self, exit_: Exit | Unavailable, reason: str) -> dict[str, Any]:
        """The artifact."""
        return {
            "task": self.task,
            "exit": exit_,
            "reason": reason,
            "models": sorted(self.models),
            "replies": self.replies,
            "steps": [step.model_dump(mode="json", exclude_defaults=True) for step in self.taken],
        }

    def detail(self, exit_: Exit | Unavailable, reason: str) -> str:
        """The same for the event of an attempt that failed: shorter, refusals first."""
        refusals = [{"tool": step.tool, "note": step.note} for step in self.refused[:10]]
        last = [{"tool": step.tool, "outcome": step.outcome, "note": step.note} for step in self.taken[-10:]]
        shown = {"task": self.task, "exit": exit_, "reason": reason, "replies": self.replies, "refused": refusals}
        for name, lines in (("barred", self._lines("barred")), ("reached", self._lines("reached"))):
            shown |= {name: lines[:10]} if lines else {}
        return json.dumps(shown | {"steps": len(self.taken), "last": last})[:LONGEST_DETAIL]


def _first(what: str, lines: list[str], most: int) -> tuple[str, ...]:
    """A warning that names the first of them; none where there are none."""
    if not lines:
        return ()
    more = f"; and {len(lines) - most} more" if len(lines) > most else ""
    return (f"{what}: {'; '.join(lines[:most])}{more}",)


def digest(text: str) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
