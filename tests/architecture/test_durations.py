"""The order in which the suite runs: what takes longest comes first, and what belongs together stays so."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import durations
from tests.conftest import SHARING

ROOT = Path(__file__).parents[2]


def test_what_takes_longest_comes_first_and_a_unit_stays_together() -> None:
    units = [
        ("a::1", "a::1", 1), ("b::1", "b", 2), ("b::2", "b", 3), ("c::1", "c::1", 4), ("d::1", "d::1", 5),
    ]  # fmt: skip
    seconds = {"b::1": 4.0, "b::2": 5.0, "c::1": 8.0}
    assert durations.longest_first(units, seconds) == [2, 3, 4, 1, 5]


def test_a_report_gives_the_seconds_of_the_long_ones_by_node_id(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuites><testsuite>"
        '<testcase classname="tests.bus.test_server" name="test_it[a]" time="7.25"/>'
        '<testcase classname="tests.bus.test_nats_conformance.TestNatsBus" name="test_it" time="3.0"/>'
        '<testcase classname="tests.bus.test_server" name="test_short" time="2.9"/>'
        "</testsuite></testsuites>"
    )
    assert durations.measured(report) == {
        "tests/bus/test_nats_conformance.py::TestNatsBus::test_it": 3.0,
        "tests/bus/test_server.py::test_it[a]": 7.2,
    }


def test_every_file_that_is_said_to_take_long_is_there() -> None:
    gone = sorted({node.partition("::")[0] for node in durations.read()} - {
        str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")
    })  # fmt: skip
    assert gone == [], "write tests/durations.json anew: see tests/durations.py"


class Worker:
    """What the scheduler asks of a worker; `sent` are the tests it was told to run."""

    shutting_down = False

    def __init__(self) -> None:
        self.gateway = SimpleNamespace(id=str(id(self)))
        self.sent: list[int] = []

    def send_runtest_some(self, numbers: list[int]) -> None:
        self.sent += numbers

    def shutdown(self) -> None:
        self.shutting_down = True


def scheduler(request: pytest.FixtureRequest, dist: str) -> Any:
    """The one a parallel run with this option uses for two workers."""
    values = {"dist": dist, "tx": ["2*popen"], "maxprocesses": None}
    option = SimpleNamespace(loadscopereorder=False, verbose=0)
    config = SimpleNamespace(getvalue=values.get, option=option, hook=request.config.hook)
    return request.config.hook.pytest_xdist_make_scheduler(config=config, log=None)


def test_a_unit_is_sent_to_one_worker(request: pytest.FixtureRequest) -> None:
    first, second = sorted(SHARING)[:2]
    tests = [
        f"tests/skills/{first}.py::test_a",
        f"tests/skills/{second}.py::test_b[x@y]",
        "tests/bus/test_x.py::test_c",
    ]
    tests += ["tests/bus/test_x.py::test_d", "tests/chaos/test_y.py::test_e", "tests/chaos/test_y.py::TestZ::test_f"]
    plan = scheduler(request, "loadgroup")
    workers = Worker(), Worker()
    for worker in workers:
        plan.add_node(worker)
        plan.add_node_collection(worker, tests)
    plan.schedule()
    for number in range(len(tests)):
        plan.mark_test_complete(next(each for each in workers if number in each.sent), number)
    assert SHARING[first] == SHARING[second]
    assert sorted(workers[0].sent + workers[1].sent) == list(range(len(tests)))
    together = [next(n for n, each in enumerate(workers) if number in each.sent) for number in range(len(tests))]
    assert together[0] == together[1]
    assert together[4] == together[5]
    assert len(set(together)) == 2


def test_other_ways_to_run_in_parallel_are_the_plugins_own(request: pytest.FixtureRequest) -> None:
    assert scheduler(request, "loadfile") is None


def test_every_file_that_shares_is_there() -> None:
    assert set(SHARING) <= {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
