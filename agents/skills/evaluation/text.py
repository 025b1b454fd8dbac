"""Figures and foreign words in documents: column names and labels come from data and may hold anything."""

from __future__ import annotations

import re


def number(value: float) -> str:
    """A figure for people: four significant digits, without an exponent where it can be helped."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"
    return f"{value:.3e}"


def cell(text: object, limit: int = 80) -> str:
    """Text as one cell of a Markdown table: one line, no markup of its own, at most `limit` characters."""
    line = re.sub(r"\s+", " ", str(text)).strip()
    short = line if len(line) <= limit else line[: limit - 1] + "…"
    return re.sub(r"([\\`|<>\[\]*_])", r"\\\1", short)


def code(text: object, limit: int = 120) -> str:
    """Text as inline code in Markdown: one line, whose backticks and bars cannot end it."""
    line = re.sub(r"\s+", " ", str(text)).strip()[:limit]
    return "`" + line.replace("`", "'").replace("|", "\\|") + "`"
