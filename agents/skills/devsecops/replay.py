"""Replaying hold-out rows through a splitter, one request for each row, and what came back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skills.devsecops.replica import Reply, as_rows, request
from agents.skills.shapes import ROW_COLUMN, FeatureMap

if TYPE_CHECKING:
    import pandas as pd

MOST = 300
"""Requests of one replay."""


@dataclass(frozen=True)
class Asked:
    """One row to ask about: its row number, the JSON body, and what happened (None when labels are not read)."""

    row: int
    body: dict[str, Any]
    truth: Any = None


def requests_of(
    frame: pd.DataFrame, features: FeatureMap, seed: int, truth: pd.Series[Any] | None = None, most: int = MOST
) -> list[Asked]:
    """Up to `most` rows in a seeded order. `truth` is indexed by row number."""
    drawn = frame.sample(n=min(most, len(frame)), random_state=seed % 2**32)
    numbers = [int(number) for number in drawn[ROW_COLUMN]]
    rows = as_rows(drawn, [column.name for column in features.columns])
    return [
        Asked(number, {"rows": [row]}, None if truth is None else truth.loc[number])
        for number, row in zip(numbers, rows, strict=True)
    ]


def ask(port: int, asked: Asked) -> Reply:
    """Send one row."""
    return request(port, "POST", "/predict", asked.body, {"X-Request-Key": str(asked.row)})


def percentile(seconds: Iterable[float], share: float) -> float:
    """The `share` quantile in milliseconds; 0 for nothing."""
    ordered = sorted(seconds)
    if not ordered:
        return 0.0
    return 1000 * ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def latencies(replies: Sequence[Reply]) -> dict[str, float]:
    """Median, 95th and 99th percentile in milliseconds."""
    seconds = [reply.seconds for reply in replies]
    return {f"p{round(100 * share)}_ms": round(percentile(seconds, share), 3) for share in (0.5, 0.95, 0.99)}
