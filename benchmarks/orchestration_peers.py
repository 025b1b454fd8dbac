"""Ten steps that do nothing, made durable one by one: LangGraph with its SQLite checkpointer, and DBOS on SQLite.

`python -m benchmarks.orchestration_peers langgraph|dbos FOLDER CONCURRENCY RUNS` prints the seconds all runs took and
those of each run, as JSON. A process of its own for each: both start threads and leave state behind in the module.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict

STEPS = 10
Run = Callable[[int], object]


class Counted(TypedDict):
    """What LangGraph carries from step to step."""

    steps: int


def _langgraph(folder: Path) -> Run:
    import sqlite3

    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import END, START, StateGraph

    def step(state: Counted) -> Counted:
        return {"steps": state["steps"] + 1}

    graph: Any = StateGraph(Counted)
    for number in range(STEPS):
        graph.add_node(f"step{number}", step)
        graph.add_edge(START if number == 0 else f"step{number - 1}", f"step{number}")
    graph.add_edge(f"step{STEPS - 1}", END)
    saver = SqliteSaver(sqlite3.connect(folder / "langgraph.db", check_same_thread=False))
    saver.setup()
    compiled = graph.compile(checkpointer=saver)

    def run(number: int) -> object:
        ended = compiled.invoke({"steps": 0}, {"configurable": {"thread_id": str(number)}}, durability="sync")
        assert ended["steps"] == STEPS
        return ended

    return run


def _dbos(folder: Path) -> Run:
    from dbos import DBOS

    DBOS(
        config={
            "name": "steps",
            "system_database_url": f"sqlite:///{folder / 'dbos.db'}",
            "log_level": "ERROR",
        }
    )

    @DBOS.step()
    def step(steps: int) -> int:
        return steps + 1

    @DBOS.workflow()
    def workflow() -> int:
        steps = 0
        for _ in range(STEPS):
            steps = step(steps)
        return steps

    DBOS.launch()

    def run(number: int) -> object:
        assert workflow() == STEPS
        return number

    return run


def main() -> None:
    """Run one peer; see the module."""
    name, where, concurrency, runs = sys.argv[1:]
    run = {"langgraph": _langgraph, "dbos": _dbos}[name](Path(where))
    for number in range(3):  # first calls import and prepare
        run(-1 - number)

    def timed(number: int) -> float:
        began = time.perf_counter()
        run(number)
        return time.perf_counter() - began

    with ThreadPoolExecutor(int(concurrency)) as threads:
        began = time.perf_counter()
        took = list(threads.map(timed, range(int(runs))))
        whole = time.perf_counter() - began
    print(json.dumps({"seconds": whole, "each": took}), flush=True)
    if name == "dbos":
        from dbos import DBOS

        DBOS.destroy()


if __name__ == "__main__":
    main()
