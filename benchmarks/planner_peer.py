"""The script of `benchmarks.planner` on LangGraph's prebuilt ReAct agent.

`python -m benchmarks.planner_peer plain|sqlite FOLDER RUNS STEPS` prints milliseconds for a step of each run, as JSON.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.prebuilt import create_react_agent

from benchmarks.planner import TEXT


class _Quick(BaseChatModel):
    """A model that answers at once."""

    steps: int
    asked: int = 0

    @property
    def _llm_type(self) -> str:
        return "quick"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        """The script knows them."""
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.asked += 1
        calls = [{"name": "look", "args": {"number": self.asked}, "id": f"c{self.asked}"}]
        message = AIMessage(content="", tool_calls=calls) if self.asked <= self.steps else AIMessage(content="done")
        return ChatResult(generations=[ChatGeneration(message=message)])


@tool
def look(number: int) -> str:
    """Look."""
    return f"{number}\n{TEXT}"


def main() -> None:
    """See the module."""
    kind, where, runs, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    saver = None
    if kind == "sqlite":
        saver = SqliteSaver(sqlite3.connect(where / "langgraph.db", check_same_thread=False))
        saver.setup()
    took = []
    for run in range(runs + 1):  # the first one imports and prepares
        agent: Any = create_react_agent(_Quick(steps=steps), [look], checkpointer=saver, prompt="You look.")
        config = {"configurable": {"thread_id": str(run)}, "recursion_limit": 10 * steps}
        began = time.perf_counter()
        ended = agent.invoke({"messages": [("user", "Look often.")]}, config)
        took.append((time.perf_counter() - began) / steps * 1000.0)
        assert len(ended["messages"]) == 2 * steps + 2
    print(json.dumps(took[1:]))


if __name__ == "__main__":
    main()
