"""The train's own time for a ticket: from session_started to session_completed, less the time inside skills.

One of the demo's tickets (breast cancer, 569 rows) through the whole `valuetrain drive`, alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure

RUNS = 3
ROOT = Path(__file__).resolve().parents[1]


def figures() -> Iterator[Figure]:
    """Seconds, and percent of the ticket's wall time."""
    runs = [_drive() for _ in range(RUNS)]
    yield Figure("ticket of 569 rows, wall time", "s", tuple(wall for wall, _ in runs))
    yield Figure("ticket of 569 rows, the train's own overhead", "s", tuple(w - s for w, s in runs), "under 1.5")
    yield Figure("ticket of 569 rows, overhead", "%", tuple(100 * (w - s) / w for w, s in runs), "under 5")


def _drive() -> tuple[float, float]:
    """Wall seconds of the session and seconds inside its skills."""
    with tempfile.TemporaryDirectory() as place:
        repo = Path(place) / "repository"
        (repo / "backlog").mkdir(parents=True)
        source = next((ROOT / "examples" / "backlog").glob("1-*.md"))
        shutil.copy(source, repo / "backlog")
        for words in (
            ("init", "-q"),
            ("-c", "user.name=b", "-c", "user.email=b@localhost", "commit", "-q", "--allow-empty", "-m", "x"),
        ):
            subprocess.run(["git", *words], cwd=repo, check=True)
        _run(repo, "drive", "--backlog", "backlog")
        events = _run(repo, "tail")
        times = {e["type"]: datetime.fromisoformat(e["time"]) for e in events}
        wall = (times["session_completed"] - times["session_started"]).total_seconds()
        inside = sum(e["data"]["usage"]["wall_seconds"] for e in events if e["type"] == "work_reported")
        return wall, inside


def _run(repo: Path, *words: str) -> Any:
    command = [sys.executable, "-m", "cli.main", *words, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return json.loads(subprocess.run(command, cwd=repo, env=environment, check=True, capture_output=True).stdout)
