"""What the train itself needs for a table of a size: the estimate plans and readiness are held against."""

from __future__ import annotations

_FIXED_SECONDS = 20.0
_CELLS_PER_SECOND = 5000.0
FORMULA = f"{_FIXED_SECONDS:g} s + rows x columns / {_CELLS_PER_SECOND:g}"
"""Fitted to deliveries measured on two cores (569 rows x 30 columns: 13 s; 20,190 x 10: 39 s), with room to spare."""

USD_PER_CPU_HOUR = 0.05
"""Taken where the record has no price yet: the policy's default."""


def expected_seconds(rows: int, columns: int) -> float:
    """Seconds of skills for one trip through the pipeline."""
    return _FIXED_SECONDS + rows * columns / _CELLS_PER_SECOND


def usd_per_cpu_hour(usage: dict[str, float]) -> tuple[float, str]:
    """The price of a core's hour and where it is from: what the session paid so far, else the default."""
    usd, seconds = float(usage.get("usd") or 0.0), float(usage.get("cpu_seconds") or 0.0)
    if usd > 0 and seconds > 0:
        return usd / seconds * 3600, "what this session was charged so far"
    return USD_PER_CPU_HOUR, "the default of the policy"
