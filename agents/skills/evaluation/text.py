"""Figures and names in documents. Text from tickets and data goes through `cell` or `code`: it may hold anything."""

from __future__ import annotations


def number(value: float) -> str:
    """A figure for people: four significant digits, without an exponent where it can be helped."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"
    return f"{value:.3e}"


def code(text: object, longest: int = 120) -> str:
    """Text as inline code in Markdown: one line, whose backticks and bars cannot end it."""
    line = " ".join(str(text).split())[:longest] or " "
    return "`" + line.replace("`", "'").replace("|", "\\|") + "`"
