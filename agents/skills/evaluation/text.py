"""Figures and names in documents. Text from tickets and data goes through `cell` or `code`: it may hold anything."""

from __future__ import annotations

import math
from collections.abc import Mapping

_MOST_DECIMALS = 8


def number(value: float) -> str:
    """A figure for people: four significant digits, without an exponent where it can be helped."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        if abs(value) < 1000:
            return f"{value:.4g}"
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
    return f"{value:.3e}"


def estimate(value: float, lower: float, upper: float) -> str:
    """`0.953 [0.921, 0.980]`: as many digits as the interval bears out, two of its half width; without an interval
    where it has no width, as that of a constant."""
    half = (upper - lower) / 2
    if half == 0:
        return number(value)
    if not math.isfinite(half) or half <= 0:
        return f"{number(value)} [{number(lower)}, {number(upper)}]"
    digits = 1 - math.floor(math.log10(half))
    if digits > _MOST_DECIMALS:
        return f"{number(value)} [{number(lower)}, {number(upper)}]"
    shown, low, high = (_rounded(each, digits) for each in (value, lower, upper))
    return f"{shown} [{low}, {high}]"


def measured(interval: Mapping[str, float]) -> str:
    """`estimate` of a figure as JSON artifacts hold it: `value`, `lower`, `upper`."""
    return estimate(interval["value"], interval["lower"], interval["upper"])


def like(value: float, interval: Mapping[str, float]) -> str:
    """`value` with as many digits as `measured(interval)` shows: two figures that are read side by side."""
    return estimate(value, interval["lower"], interval["upper"]).partition(" ")[0]


def _rounded(value: float, digits: int) -> str:
    text = f"{round(value, digits):,.{max(digits, 0)}f}"
    return text.removeprefix("-") if not any(each in "123456789" for each in text) else text


def code(text: object, longest: int = 120) -> str:
    """Text as inline code in Markdown: one line, whose backticks and bars cannot end it."""
    line = " ".join(str(text).split())[:longest] or " "
    return "`" + line.replace("`", "'").replace("|", "\\|") + "`"
