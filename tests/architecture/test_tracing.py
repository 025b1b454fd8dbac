"""Coverage slows down only the tests it is measured by: all others run untraced, in workers of a parallel run too."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading

from coverage.collector import Collector

from tests.conftest import MEASURED

LOOK = "import sys; print(type(sys.gettrace()).__name__, 'coverage' in sys.modules)"


def test_this_folder_is_not_measured() -> None:
    assert "architecture" not in MEASURED


def test_nothing_traces_this_process_its_threads_or_its_children() -> None:
    assert Collector._collectors == []
    assert type(sys.gettrace()).__name__ != "CTracer"
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.append(type(sys.gettrace()).__name__))
    thread.start()
    thread.join()
    assert "CTracer" not in seen
    assert not [name for name in os.environ if name.startswith("COV")]
    said = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["NoneType", "False"]


def test_nothing_traces_a_fork() -> None:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    fork = context.Process(target=lambda: answers.put(type(sys.gettrace()).__name__))
    fork.start()
    fork.join()
    assert fork.exitcode == 0
    assert answers.get() == "NoneType"
