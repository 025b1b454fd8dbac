"""How long tests take, so that the longest ones start first and no worker ends alone with one of them.

`durations.json` holds seconds of the tests that take some, by node id. It need not be exact, and a test that is not in
it comes when its file comes. Write it anew from a report of a whole run:

    python -m pytest -n 2 --dist loadgroup --junit-xml /tmp/report.xml
    python -m tests.durations /tmp/report.xml
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from xml.etree import ElementTree

FILE = Path(__file__).with_name("durations.json")
LEAST = 3.0
"""Seconds; a shorter test evens out by itself."""

Item = TypeVar("Item")


def read() -> dict[str, float]:
    """Seconds by node id."""
    found: dict[str, float] = json.loads(FILE.read_text("utf-8"))
    return found


def longest_first(units: Sequence[tuple[str, str, Item]], seconds: Mapping[str, float]) -> list[Item]:
    """The items, each given with its node id and the unit that stays on one worker, by what their units take together.

    Units that take nothing worth mentioning keep their order behind the others, and so do the items of a unit.
    """
    totals: Counter[str] = Counter()
    for node, unit, _ in units:
        totals[unit] += seconds.get(node, 0.0)  # type: ignore[assignment]  # a Counter may hold any number
    return [item for _, _, item in sorted(units, key=lambda each: -totals[each[1]])]


def measured(report: Path) -> dict[str, float]:
    """Seconds by node id from a JUnit report, those of `LEAST` and more. Raises ElementTree.ParseError."""
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        seconds = float(case.get("time", "0"))
        place, name = str(case.get("classname")), str(case.get("name"))
        path = place.replace(".", "/")
        while path and not (Path(__file__).parents[1] / f"{path}.py").exists():
            path = path.rpartition("/")[0]
        classes = place[len(path) + 1 :].replace(".", "::")
        if seconds >= LEAST:
            found["::".join(filter(None, (f"{path}.py", classes, name)))] = round(seconds, 1)
    return dict(sorted(found.items()))


if __name__ == "__main__":
    FILE.write_text(json.dumps(measured(Path(sys.argv[1])), indent=1) + "\n", "utf-8")
