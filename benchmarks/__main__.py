"""`make bench`: every measurement in this folder, one after the other, as one table and a JSON file.

`python -m benchmarks NAME …` runs some of them; `docs/benchmarks.md` says what each figure means. Figures are medians
on the machine it runs on. Nothing here fails a build; the tests never assert a time.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from pathlib import Path

import structlog

from benchmarks import (
    append,
    backlog,
    cli_start,
    flat,
    floor,
    latency,
    orchestration,
    overhead,
    planner,
    relay,
    replay,
    rules,
    ticket,
    waiting,
)
from benchmarks.measure import Figure

OUTPUT = Path("benchmarks/results.json")
PARTS = {
    "cli_start": cli_start.figures,
    "backlog": backlog.figures,
    "append": append.figures,
    "replay": replay.figures,
    "relay": relay.figures,
    "floor": floor.figures,
    "latency": latency.figures,
    "overhead": overhead.figures,
    "ticket": ticket.figures,
    "flat": flat.figures,
    "rules": rules.figures,
    "orchestration": orchestration.figures,
    "waiting": waiting.figures,
    "planner": planner.figures,
}


def main() -> None:
    """Run the parts named on the command line, or all."""
    chosen = sys.argv[1:] or list(PARTS)
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are {', '.join(PARTS)}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(f"{'what':<66} {'median':>12}  {'min … max':<24} aim")
    results: list[Figure] = []
    for name in chosen:
        for figure in PARTS[name]():
            results.append(figure)
            print(figure.line(), flush=True)
    OUTPUT.write_text(json.dumps([figure.as_dict() for figure in results], indent=2) + "\n", "utf-8")
    print(f"\nwritten to {OUTPUT}")


if __name__ == "__main__":
    main()
