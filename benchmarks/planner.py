"""What a step of the planner costs besides the model and the tool, beside LangGraph's prebuilt ReAct agent.

The same script for each: a model that answers at once calls one tool STEPS times, which gives the same two kilobytes of
text each time (numbered), and then ends. Both sides grow the conversation; ours also cleans and wraps the text, looks
for circles, fits the context and writes its journal. LangGraph runs as it comes, and with its SQLite checkpointer.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio

from agents.planning.conversation import Conversation
from agents.planning.journal import Journal
from agents.planning.steps import Steps
from agents.planning.tools import Submitted, Tool, Toolbox
from benchmarks.measure import Figure
from schemas.model_calls import Message, Reply, TokenUsage, ToolCall, ToolSpec
from schemas.values import Value

RUNS = 7
STEPS = 40
TEXT = "\n".join(f"line {number}: " + "x" * 60 for number in range(28))


class Look(Value):
    """What the tool takes."""

    number: int


class _Quick:
    """A model that answers at once."""

    def __init__(self) -> None:
        self.asked = 0

    async def reply(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> Reply:
        """The next call of the script."""
        self.asked += 1
        name = "look" if self.asked <= STEPS else "submit"
        call = ToolCall(id=f"c{self.asked}", name=name, arguments=json.dumps({"number": self.asked}))
        return Reply(
            message=Message(role="assistant", tool_calls=(call,)),
            usage=TokenUsage(input=1, output=1),
            usd=0.0,
            model="quick",
            provider="none",
            seconds=0.0,
            finish="tool_calls",
        )


async def _ours(folder: Path) -> float:
    async def look(given: Look) -> str:
        return f"{given.number}\n{TEXT}"

    async def submit(given: Look) -> Submitted:
        return Submitted("done")

    tools = (Tool("look", "Look.", Look, look), Tool("submit", "Submit.", Look, submit))
    conversation = Conversation(
        model=_Quick(),
        toolbox=Toolbox(tools, lambda data: ""),
        journal=Journal(folder / "journal.jsonl", "bench"),
        steps=Steps("bench"),
        messages=[Message(role="system", content="You look."), Message(role="user", content="Look often.")],
        most=STEPS + 1,
    )
    began = time.perf_counter()
    await conversation.run()
    return (time.perf_counter() - began) / STEPS * 1000.0


def _peer(kind: str, folder: Path) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.planner_peer", kind, str(folder), str(RUNS), str(STEPS)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(each) for each in json.loads(done.stdout)]


def figures() -> Iterator[Figure]:
    """Milliseconds for a step."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / str(run) for run in range(RUNS + 1)]
        for folder in folders:
            folder.mkdir()
        runs = [anyio.run(_ours, folder) for folder in folders][1:]
        yield Figure("planner: a step besides model and tool, journal included", "ms", tuple(runs), "under 5")
        for kind, what in (("plain", "as it comes"), ("sqlite", "with its SQLite checkpointer")):
            yield Figure(f"LangGraph's ReAct agent: the same, {what}", "ms", tuple(_peer(kind, folders[0])))
