"""The order in which the suite runs: what takes longest comes first, and what belongs together stays so."""

from __future__ import annotations

from pathlib import Path

from tests import durations

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
