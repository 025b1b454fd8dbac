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
    was, where it was told less. `note` says why it was refused."""

    number: int
    tool: str
    arguments: str
    outcome: Outcome
    observation: str
    note: str = ""
    raw: str = ""


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
        )
        self.taken.append(step)
        return step

    @property
    def refused(self) -> tuple[Step, ...]:
        """The calls of what no tool may do."""
        return tuple(step for step in self.taken if step.outcome == "refused")

    def warnings(self) -> tuple[str, ...]:
        """For the record and the person at the gate."""
        if not self.refused:
            return ()
        named = "; ".join(f"{step.tool}: {step.note}" for step in self.refused[:5])
        more = f"; and {len(self.refused) - 5} more" if len(self.refused) > 5 else ""
        return (f"the model tried {len(self.refused)} times what it may not ({self.task}): {named}{more}",)

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
        return json.dumps(shown | {"steps": len(self.taken), "last": last})[:LONGEST_DETAIL]


def digest(text: str) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
