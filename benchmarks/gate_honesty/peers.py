"""Evidently, FLAML and AutoGluon beside the gate, each in an environment of its own, since none goes with our lock.

`make_environment` installs with pip from whatever index pip is set up for; nothing is installed unless asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gate_honesty.sets import SETS, RealSet, cut

NEEDS = {
    "evidently": ("evidently", "pandas<3.1"),  # it breaks on 3.1
    "flaml": ("flaml[automl]",),
    "autogluon": ("autogluon.tabular[catboost,lightgbm,xgboost]",),
}
AUTOML = {"flaml": "FLAML", "autogluon": "AutoGluon"}
"""By peer that trains models its name."""
SCRIPTS = Path(__file__).parent / "peer_scripts"
SECONDS = 20


class NotRun(Exception):
    """A peer has no environment, or failed; says why."""


def python_of(peer: str, home: Path) -> Path:
    """The peer's interpreter. Raises NotRun when there is none."""
    found = home / peer / "bin" / "python"
    if not found.exists():
        raise NotRun(f"{peer} has no environment in {home}: `python -m benchmarks.gate_honesty peers` makes it")
    return found


def make_environment(peer: str, home: Path) -> None:
    """Install the peer into `home/<peer>`, once. Raises NotRun with pip's last words when it cannot be installed."""
    if (home / peer / "installed").exists():
        return
    subprocess.run([sys.executable, "-m", "venv", str(home / peer)], check=True)
    pip = [str(home / peer / "bin" / "python"), "-m", "pip", "install", "--quiet", *NEEDS[peer]]
    ran = subprocess.run(pip, check=False, capture_output=True, text=True)
    if ran.returncode:
        raise NotRun(f"{peer} could not be installed: {ran.stderr.strip()[-300:]}")
    (home / peer / "installed").touch()


def drift(home: Path, pairs: Path) -> dict[str, Any]:
    """Evidently's drift preset on every pair below `pairs`: by case, whether it says that the data set drifted."""
    return dict(_run("evidently", home, [str(pairs)]))


def automl(peer: str, home: Path, names: Sequence[str], seeds: Sequence[int], folder: Path) -> list[dict[str, Any]]:
    """A peer of AUTOML on the given rows of each set: what it claims, and what that model does on the kept rows."""
    return [
        {"set": name, "seed": seed, **trained(peer, home, SETS[name], seed, folder)} for name in names for seed in seeds
    ]


def trained(
    peer: str, home: Path, chosen: RealSet, seed: int, folder: Path, seconds: float = SECONDS
) -> dict[str, Any]:
    """`claimed`, `delivered` and `metric` of a peer of AUTOML on one set, whose rows are left in `folder`, with
    `seconds` by the clock."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in zip(("given", "kept"), cut(chosen, seed), strict=True):
        rows.drop(columns=chosen.groups or []).to_csv(folder / f"{part}.csv", index=False)
    task = "classification" if chosen.classes else "regression"
    return dict(_run(peer, home, [str(folder), chosen.target, task, str(seconds), str(seed)]))


def _run(peer: str, home: Path, arguments: Sequence[str]) -> Any:
    """What the peer's script prints on its last line, which is JSON."""
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "2", "HOME": str(home), "DO_NOT_TRACK": "1"}
    command = [str(python_of(peer, home)), str(SCRIPTS / f"{peer}_script.py"), *arguments]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if ran.returncode:
        raise NotRun(f"{peer} failed: {ran.stderr.strip()[-500:]}")
    return json.loads(ran.stdout.strip().splitlines()[-1])
