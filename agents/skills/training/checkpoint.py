"""What a training computed so far, on the disk: one that was killed goes on where it was, and ends with the same bytes.

The unit is what one configuration predicts for one fold: it depends on nothing but the rows, the settings and the code.
A search that runs again asks the seeded sampler for the same configurations, gets their scores from here, and begins to
compute where the killed one stopped. Nothing of the sampler is stored, so nothing of it can be stale.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.skills.evaluation.scores import Floats
    from agents.skills.training.folds import Fold

MOST_BYTES = 300_000_000
"""A training that would need more room than this keeps its first results only."""
_LIBRARIES = ("numpy", "optuna", "pandas", "scikit-learn", "scipy")
_CODE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Kept:
    """What a configuration predicted for a fold, and the seconds of CPU and of wall clock that this took."""

    predicted: Floats
    cpu: float
    wall: float


@dataclass
class Checkpoint:
    """Results by configuration and fold, below `directory`; None: nothing is kept.

    `key` is a digest of all that a result depends on: those of another key are removed, never used.
    """

    directory: Path | None
    key: str
    taken: int = 0
    """How many results of a killed run were used so far."""
    _bytes: int = field(default=0)

    def __post_init__(self) -> None:
        if self.directory is None:
            return
        for other in self.directory.iterdir():
            if other.name != self.key:
                shutil.rmtree(other)
        place = self.directory / self.key
        place.mkdir(exist_ok=True)
        self._bytes = sum(each.stat().st_size for each in place.iterdir())

    def find(self, kind: str, params: Any, fold: Fold, shape: tuple[int, ...]) -> Kept | None:
        """What was predicted, if it is there, whole and of this shape."""
        import numpy as np

        if self.directory is None:
            return None
        try:
            data = self._path(self.directory, kind, params, fold).read_bytes()
            if not zipfile.is_zipfile(io.BytesIO(data)):
                return None
            with np.load(io.BytesIO(data), allow_pickle=False) as found:
                predicted, (cpu, wall) = found["predicted"], found["spent"].tolist()
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None  # not there, or torn: it is computed again
        if predicted.shape != shape or predicted.dtype != np.float64:
            return None
        self.taken += 1
        return Kept(predicted, cpu, wall)

    def keep(self, kind: str, params: Any, fold: Fold, result: Kept) -> None:
        """Write it down, whole or not at all. Raises OSError, also where another holder has taken the directory."""
        import numpy as np

        if self.directory is None or self._bytes > MOST_BYTES:
            return
        buffer = io.BytesIO()
        np.savez(buffer, predicted=result.predicted, spent=np.array([result.cpu, result.wall]))
        path = self._path(self.directory, kind, params, fold)
        draft = path.with_suffix(".new")
        draft.write_bytes(buffer.getvalue())
        os.replace(draft, path)
        self._bytes += buffer.tell()

    def _path(self, place: Path, kind: str, params: Any, fold: Fold) -> Path:
        what = hashlib.sha256(json.dumps([kind, params], sort_keys=True).encode())
        for rows in (fold.train, fold.test):
            what.update(len(rows).to_bytes(8, "big") + rows.tobytes())
        return place / self.key / f"{what.hexdigest()[:40]}.npz"


def open_checkpoint(directory: Path | None, inputs: Sequence[Path]) -> Checkpoint:
    """The checkpoint for exactly these input files, this code and these libraries."""
    what = hashlib.sha256()
    for path in inputs:
        data = path.read_bytes()
        what.update(f"{path.name} {len(data)} ".encode() + data)
    what.update(identity().encode())
    return Checkpoint(directory, what.hexdigest()[:40])


def identity() -> str:
    """A digest of the code and the libraries that a prediction depends on."""
    what = hashlib.sha256()
    for path in (*sorted((_CODE / "training").glob("*.py")), *sorted((_CODE / "feature").glob("*.py"))):
        data = path.read_bytes()
        what.update(f"{path.name} {len(data)} ".encode() + data)
    what.update(" ".join((sys.version, *map(version, _LIBRARIES))).encode())
    return what.hexdigest()


def went_on(checkpoint: Checkpoint) -> str:
    """The end of a sentence for people: that this run did not begin at the beginning; empty if it did."""
    if not checkpoint.taken:
        return ""
    return f"; {checkpoint.taken} predictions of folds are from a run that was killed"
