"""Text of unknown origin in an answer: shown, and unable to do anything there. Pure."""

from __future__ import annotations

import re

_SPACE = re.compile(r"\s+")
_TICKS = re.compile(r"`+")
SHOWN = 500


def quoted(text: str) -> str:
    """`text` on one line as a code span: no mention is sent, no link drawn, no command read from it."""
    line = _SPACE.sub(" ", text).strip()
    line = line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
    longest = max((len(run) for run in _TICKS.findall(line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{line}{pad}{fence}"
