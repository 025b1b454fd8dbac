"""How long `valuetrain --help` takes, as a whole process, beside an empty Python."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.measure import Figure

RUNS = 11


def figures() -> Iterator[Figure]:
    """Milliseconds of wall clock."""
    for what, code, aim in (
        ("python -c pass", "pass", ""),
        ("valuetrain --help", "import sys; sys.argv[1:] = ['--help']; from cli.main import run; run()", "under 300"),
    ):
        yield Figure(what, "ms", tuple(_time(code) for _ in range(RUNS)), aim)


def _time(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000.0
