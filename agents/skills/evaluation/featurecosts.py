"""What each input costs alone: time to fit and to compute, memory, and how many numbers the model gets for it.

An input is one line of the feature map; its signature is that of its definition, so that the same definition is known
again in another ticket. Inputs share the overhead of a call, so their times do not add up to that of a prediction.
"""

from __future__ import annotations

import time
import tracemalloc
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skills.data.markdown import cell, table
from agents.skills.evaluation.text import number
from agents.skills.feature.pipeline import signature
from agents.skills.shapes import FeatureColumn, FeatureMap

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 2_000
MOST_INPUTS = 200
_SHOWN = 15
_REPEATS = 3


@dataclass(frozen=True)
class InputCost:
    """One input: seconds to fit its preparation to the rows; microseconds to compute it for a row; bytes at most held
    while doing so, and bytes of a row that reach the model, as `encoded` numbers."""

    name: str
    definition: str
    fit_ms: float
    row_us: float
    peak_bytes: int
    row_bytes: int
    encoded: int


@dataclass(frozen=True)
class Timed:
    """One input with its preparation, fitted to `rows`: seconds that fitting took, and computing at the least."""

    rows: pd.DataFrame
    column: FeatureColumn
    alone: FeatureMap
    transformer: Any
    fit: float
    least: float


def input_costs(rows: pd.DataFrame, features: FeatureMap) -> list[InputCost]:
    """Every input on the same rows (at most MOST_ROWS), the dearest to compute first; of very many the first
    MOST_INPUTS. The target plays no part."""
    return with_memory(times(rows, features))


def times(rows: pd.DataFrame, features: FeatureMap) -> list[Timed]:
    """The seconds of every input: nothing else should run meanwhile."""
    part = rows.iloc[:MOST_ROWS]
    return [_timed(part, column, features) for column in features.columns[:MOST_INPUTS]]


def with_memory(timed: Sequence[Timed]) -> list[InputCost]:
    """Memory beside the times, the dearest to compute first."""
    return sorted((_cost(each) for each in timed), key=lambda each: -each.row_us)


def _timed(rows: pd.DataFrame, column: FeatureColumn, features: FeatureMap) -> Timed:
    from agents.skills.feature.transform import build_transformer, prepare_frame

    alone = features.model_copy(update={"columns": (column,), "dropped": {}})
    taken: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a column without a value is expected and handled
        frame = prepare_frame(rows, alone)
        started = time.perf_counter()
        transformer = build_transformer(alone).fit(frame)
        fit = time.perf_counter() - started
        for _ in range(_REPEATS):
            started = time.perf_counter()
            transformer.transform(prepare_frame(rows, alone))
            taken.append(time.perf_counter() - started)
    return Timed(rows, column, alone, transformer, fit, min(taken))


def _cost(timed: Timed) -> InputCost:
    from agents.skills.feature.transform import prepare_frame

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tracemalloc.start()
        try:
            encoded = timed.transformer.transform(prepare_frame(timed.rows, timed.alone))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    return InputCost(
        name=timed.column.name,
        definition=signature([timed.column]),
        fit_ms=timed.fit * 1000,
        row_us=timed.least / len(timed.rows) * 1e6,
        peak_bytes=peak,
        row_bytes=int(encoded.nbytes // len(timed.rows)),
        encoded=int(encoded.shape[1]),
    )


def as_json(costs: list[InputCost]) -> list[dict[str, Any]]:
    """The part of `robustness.json` about inputs."""
    return [vars(each) for each in costs]


def lines(costs: list[InputCost], rows: int) -> list[str]:
    """The part of `robustness.md` about inputs."""
    measured = min(rows, MOST_ROWS)
    more = f" The dearest {_SHOWN} of {len(costs)}; `robustness.json` has all." if len(costs) > _SHOWN else ""
    return [
        "## What each input costs",
        "",
        f"Prepared alone, on {measured} rows; the times hold the overhead of a call and do not add up.{more}",
        "",
        *table(
            ("input", "fit, ms", "a row, µs", "memory at most, kB", "numbers for the model", "definition"),
            [
                (
                    cell(each.name), number(each.fit_ms), number(each.row_us), number(each.peak_bytes / 1000),
                    str(each.encoded), each.definition[:12],
                )
                for each in costs[:_SHOWN]
            ],
        ),
        "",
    ]  # fmt: skip
