"""Records a session of the shipped `software-change` pipeline whose agent asks a language model.

    python -m tests.golden.make_model_history

Like `make_history`: committed once, replayed for ever by `test_history.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from conductor.pipelines import load
from conductor.state import Status
from schemas import commands as cmd
from schemas import model_messages as msg
from schemas.messages import Command
from schemas.model_calls import TokenUsage
from schemas.model_policy import ModelLimit, ModelPolicy, ModelPrice, ModelSpend
from schemas.pipeline import PipelineDefinition
from schemas.values import Actor, FailureClass
from tests.golden.make_change_history import ChangeRecorder
from tests.golden.make_history import DANA, POLICY, Recorder

HISTORY = Path(__file__).parent / "software-change.models.history.jsonl"
GATEWAY = Actor(name="gateway", channel="bus", verified_as="login:gateway")

MODELS = ModelPolicy(
    prices={"qwen3-coder:30b": ModelPrice(input=0.0, output=0.0), "hosted": ModelPrice(input=2.0, output=8.0)},
    output_tokens=1000,
    call=ModelLimit(tokens=50_000, seconds=120.0),
    attempt=ModelLimit(tokens=200_000),
    ticket=ModelLimit(usd=2.0, seconds=900.0),
    day=ModelLimit(usd=10.0),
)


class ModelRecorder(ChangeRecorder):
    """The same parts, and a gateway."""

    policy = POLICY.model_copy(update={"models": MODELS})

    def gateway(self, command: Command, accepted: bool = True) -> None:
        self.say(command, "gateway", GATEWAY, accepted)

    def ask(self, number: int, accepted: bool = True, **changes: Any) -> str:
        """Ask to make call `number`; its id."""
        fields: dict[str, Any] = {
            "phase": self.state.phase,
            "attempt": self.state.attempt,
            "lease": self.state.lease,
            "agent": self.state.definition.agent,
            "number": number,
            "prompt": f"{number:x}" * 64,
            "model": "hosted",
            "input_tokens": 20_000,
            "gateway": "g-one",
            "today": ModelSpend(tokens=1000, usd=0.5, seconds=9.0),
        }
        self.gateway(msg.RequestModelCall(**(fields | changes)), accepted)
        return next(reversed(self.state.calls), "")

    def answer(self, call: str, accepted: bool = True, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "call": call,
            "reply": "ab" * 32,
            "usage": TokenUsage(input=6000, output=400, cached=1000),
            "seconds": 4.5,
            "model": "hosted-2026",
            "provider": "openai-compatible",
            "finish": "tool_calls",
        }
        self.gateway(msg.RecordModelCall(**(fields | changes)), accepted)


def record(pipeline: PipelineDefinition) -> Recorder:
    """A model that is asked, a gateway and an agent that are lost on the way, and limits that hold."""
    tape = ModelRecorder()
    tape.start(pipeline)
    tape.until("build")
    tape.ask(1, accepted=False)  # nobody claimed the attempt
    tape.claim()
    tape.ask(1, accepted=False, model="unpriced")
    tape.ask(1, accepted=False, input_tokens=49_001)  # with the longest reply one token too many for a call
    tape.ask(1, accepted=False, today=ModelSpend(usd=9.96))
    tape.ask(1, accepted=False, agent="risk")  # another agent's attempt
    tape.answer(tape.ask(1))
    tape.ask(1)  # asked again: it is recorded
    tape.ask(2)
    old = tape.state.lease
    tape.claim()  # the agent is gone, another one goes on
    tape.ask(2, accepted=False, lease=old)
    tape.ask(2, accepted=False, gateway="g-two")  # the first gateway may still wait
    tape.answer(tape.ask(2), usage=None)  # it was started again; now the endpoint does not say how many tokens
    tape.answer("s12-golde.model.1", accepted=False)
    call = tape.ask(3)
    reason = "the endpoint broke off its reply"
    failure = msg.RecordModelFailure(call=call, failure=FailureClass.TRANSIENT, reason=reason, usage=None, seconds=3.25)
    tape.gateway(failure)
    tape.failure(FailureClass.TRANSIENT, reason)
    tape.timer(cmd.StartRetry)
    tape.claim()
    tape.ask(1)  # recorded in the attempt that was lost
    free = tape.ask(2, model="qwen3-coder:30b", prompt="e" * 64)
    tape.answer(free, model="qwen3-coder:30b", finish="stop")
    late = tape.ask(3)
    tape.agent(tape.report())
    tape.effects()
    tape.answer(late)  # too late to be of use, but paid
    tape.until("evaluate")
    tape.phase()
    tape.decide(DANA, "approve")
    tape.phase()
    assert tape.state.status is Status.COMPLETED
    tape.answer(late, accepted=False)
    assert len(tape.state.calls) == 1  # the one its gateway lost counts at its upper bound for good
    return tape


STORIES: dict[Path, Callable[[PipelineDefinition], Recorder]] = {HISTORY: record}


def main() -> None:
    for path, story in STORIES.items():
        if path.exists():
            continue
        tape = story(load("software-change"))
        path.write_bytes(b"".join(line + b"\n" for line in tape.lines))
        print(f"{path.name}: {tape.commands} commands, {tape.events} events")


if __name__ == "__main__":
    main()
