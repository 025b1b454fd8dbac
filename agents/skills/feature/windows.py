"""Which window of time a row belongs to: by date, by a number, or by its place where no column has the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agents.skill import InputError
from agents.skills.data.columns import kind_of

if TYPE_CHECKING:
    import pandas as pd

Every = Literal["day", "week", "month", "quarter", "year"]
_PERIODS = {"day": "D", "week": "W-SUN", "month": "M", "quarter": "Q", "year": "Y"}
_BIAS = 10**15
"""Added to negative steps, so that names sort as the numbers do."""
NO_TIME = "its time is missing or cannot be read"
FUTURE = "its time is later than now"


@dataclass(frozen=True)
class Windows:
    """How rows are put into windows. `kind` is what the time column holds; `places` for none."""

    column: str | None
    kind: Literal["datetime", "numeric", "places"]
    every: Every
    width: float
    rows: int

    def of(self, piece: pd.DataFrame, now: str) -> tuple[pd.Series[Any], dict[str, int]]:
        """The window of each row as a sortable name (missing: the row is skipped), and how many are skipped by reason.

        The name depends on the row's own time alone. `now` is ISO 8601.
        """
        import numpy as np
        import pandas as pd

        if self.kind == "places" or self.column is None:
            starts = np.asarray(piece.index) // self.rows * self.rows
            return pd.Series([f"row-{start:012d}" for start in starts], index=piece.index, dtype=object), {}
        skipped: dict[str, int] = {}
        missing = 0
        if self.kind == "numeric":
            numbers = pd.to_numeric(piece[self.column], errors="coerce")
            numbers = numbers.where((numbers / self.width).abs() < _BIAS)
            names = np.floor(numbers / self.width).map(self._numbered, na_action="ignore")
            missing = int(numbers.isna().sum())
        else:
            when = pd.to_datetime(piece[self.column], errors="coerce", utc=True, format="ISO8601").dt.tz_localize(None)
            late = when > pd.Timestamp(now).tz_convert("UTC").tz_localize(None)
            if late.any():
                skipped[FUTURE] = int(late.sum())
            periods = when.mask(late).dt.to_period(_PERIODS[self.every])
            names = periods.map(self._dated, na_action="ignore")
            missing = int(when.isna().sum())
        if missing:
            skipped[NO_TIME] = missing
        return names.astype(object).where(names.notna(), None), skipped

    def _numbered(self, step: float) -> str:
        return f"m{int(step) + _BIAS:015d}" if step < 0 else f"p{int(step):015d}"

    def _dated(self, period: Any) -> str:
        start = period.start_time
        if self.every == "year":
            return f"{start.year:04d}"
        if self.every == "quarter":
            return f"{start.year:04d}-Q{period.quarter}"
        return f"{start.year:04d}-{start.month:02d}" if self.every == "month" else start.strftime("%Y-%m-%d")

    def label(self, name: str) -> str:
        """The window's name for people."""
        if self.kind == "datetime":
            return f"week of {name}" if self.every == "week" else name
        if self.kind == "places":
            return f"rows from {int(name[4:]):,}"
        step = int(name[1:]) - (_BIAS if name[0] == "m" else 0)
        return f"{self.column} from {step * self.width:g}"


def windows_for(first: pd.DataFrame, column: str | None, every: Every, width: float, rows: int) -> Windows:
    """The windows of a source, judged by its first piece. Raises InputError for a time that is neither date nor
    number."""
    import pandas as pd

    from agents.skills.data.tables import typed

    if column is None:
        return Windows(None, "places", every, width, rows)
    kind = kind_of(typed(first[[column]], "the rows")[0][column])
    if kind == "categorical" and pd.to_numeric(first[column].dropna(), errors="coerce").notna().all():
        kind = "numeric"  # cells of a CSV are text until somebody knows better
    if kind == "datetime":
        return Windows(column, "datetime", every, width, rows)
    if kind == "numeric":
        return Windows(column, "numeric", every, width, rows)
    raise InputError(
        f"column {column!r}, the ticket's `time`, holds neither dates (ISO 8601) nor numbers",
        "write it as 2026-01-31, or leave `time` out: windows are then made of rows in their order",
    )
