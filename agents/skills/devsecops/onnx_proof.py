"""Whether an ONNX file answers as the pipeline it was made from: run beside it, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skills.data.tables import LARGEST
from agents.skills.devsecops.onnx_graph import MISSING
from agents.skills.evaluation.perturb import empty_row, spoilt
from agents.skills.extras import needed
from agents.skills.feature.transform import prepare_frame
from agents.skills.shapes import FeatureMap

if TYPE_CHECKING:
    import pandas as pd

    from agents.skills.evaluation.scores import Floats

TOLERANCE = 1e-9
"""Largest difference that counts as equal, for numbers relative to their size where that is above one."""


@dataclass(frozen=True)
class Compared:
    """One kind of rows: how many, the largest difference (relative for large numbers), and how many rows exceed the
    tolerance; `first` is the position of the first of these."""

    name: str
    rows: int
    largest: float
    off: int
    first: int | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; a difference that is no number is left out."""
        import math

        shown = self.largest if math.isfinite(self.largest) else None
        return {"name": self.name, "rows": self.rows, "largest_difference": shown, "off": self.off, "first": self.first}


def text_columns(frame: pd.DataFrame) -> list[tuple[str, bool]]:
    """The prepared columns in order, with whether each is text."""
    import pandas as pd

    return [(str(name), not pd.api.types.is_numeric_dtype(frame[name])) for name in frame.columns]


def feed(frame: pd.DataFrame, columns: Sequence[tuple[str, bool]]) -> dict[str, Any]:
    """Prepared rows as the model's inputs, each of shape (rows, 1)."""
    import numpy as np

    given: dict[str, Any] = {}
    for name, text in columns:
        values = frame[name]
        plain = (
            values.where(values.notna(), MISSING).to_numpy(dtype=object) if text else values.to_numpy(dtype=np.float64)
        )
        given[name] = plain.reshape(-1, 1)
    return given


def runtime(data: bytes) -> Any:
    """A session that runs the file on one thread. Raises onnxruntime's own errors for a file it cannot run."""
    onnxruntime = needed("onnxruntime", "onnx", "ONNX")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def prove(
    data: bytes, pipeline: Any, rows: pd.DataFrame, features: FeatureMap, classes: Sequence[str], seed: int
) -> list[Compared]:
    """Compare on all `rows` (raw columns) and on edge rows made from them."""
    session = runtime(data)
    columns = text_columns(prepare_frame(rows, features))
    return [
        _compared(name, session, pipeline, prepared, columns, classes)
        for name, prepared in _kinds(rows, features, columns, seed)
    ]


def _kinds(
    rows: pd.DataFrame, features: FeatureMap, columns: Sequence[tuple[str, bool]], seed: int
) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "hold-out rows", prepare_frame(rows, features)
    for damage in spoilt(rows, features, seed):
        yield f"hold-out rows with {damage.name}", prepare_frame(damage.rows, features)
    yield "a row without a value", prepare_frame(empty_row(rows, features), features)
    yield "one column after the other at its edges", _edges(prepare_frame(rows.iloc[:1], features), columns)


def _edges(row: pd.DataFrame, columns: Sequence[tuple[str, bool]]) -> pd.DataFrame:
    """One row again and again, each time with one column missing, or as large, as small, or as strange as it can be."""
    import pandas as pd

    numbers = (float("nan"), 0.0, -0.0, 1e-300, LARGEST, -LARGEST, 1e6, -1e6)
    words = (float("nan"), "", " ", "Ünseen ★", "0", "nan", "x" * 1000)
    made = []
    for name, text in columns:
        for value in words if text else numbers:
            other = row.astype({name: object}) if text else row.copy()
            other[name] = pd.Series([value], index=row.index, dtype=object if text else "float64")
            made.append(other)
    return pd.concat(made, ignore_index=True)


def _compared(
    name: str, session: Any, pipeline: Any, prepared: pd.DataFrame, columns: Sequence[tuple[str, bool]],
    classes: Sequence[str],
) -> Compared:  # fmt: skip
    import warnings

    import numpy as np

    from agents.skills.training.search import predictions

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # levels never seen are what is asked about
        expected: Floats = predictions(pipeline, prepared, classes).reshape(len(prepared), -1)
    found = np.asarray(session.run(None, feed(prepared, columns))[0], dtype=np.float64).reshape(len(prepared), -1)
    size = np.maximum(1.0, np.abs(expected))
    difference = np.where(np.isnan(expected) & np.isnan(found), 0.0, np.abs(found - expected) / size)
    worst = np.nan_to_num(difference, nan=np.inf).max(axis=1)
    off = np.flatnonzero(worst > TOLERANCE)
    return Compared(name, len(prepared), float(worst.max()), len(off), int(off[0]) if len(off) else None)
