"""Figures for people: how many of what; an estimate, the ends of its interval and its standard error on one line."""

from __future__ import annotations

from collections.abc import Mapping

HEAD = ("figure", "value", "95 % interval", "standard error")
_ENDS = ("_lower", "_upper", "_se")


def counted(count: int, one: str, many: str = "") -> str:
    """`1 row`, `1,200 rows`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def rows(figures: Mapping[str, float]) -> list[tuple[str, str, str, str]]:
    """`figures` by name (`metrics.recall`, `metrics.recall_lower` …) as lines under HEAD, in their order.

    An end without its estimate keeps a line of its own: nothing is left out.
    """
    found = []
    for name, value in figures.items():
        if any(name.endswith(end) and name.removesuffix(end) in figures for end in _ENDS):
            continue
        lower, upper, error = (figures.get(name + end) for end in _ENDS)
        both = f"{lower:.6g} to {upper:.6g}" if lower is not None and upper is not None else ""
        one = f"from {lower:.6g}" if lower is not None else f"to {upper:.6g}" if upper is not None else ""
        found.append((name, f"{value:.6g}", both or one, "" if error is None else f"{error:.6g}"))
    return found
