"""Text of a ticket or a data file inside a Markdown document: shown as it is, never taken for markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from schemas.ticket import Ticket

_LOOSE_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_ESCAPES = {"<": "&lt;", ">": "&gt;", "@": "&#64;"}


def cell(value: object, longest: int = 80) -> str:
    """`value` for a table cell or a line: on one line, shortened, with Markdown and HTML made harmless."""
    text = " ".join(str(value).split())
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    for character in "\\`*[]|~#@<>":
        text = text.replace(character, _ESCAPES.get(character, f"\\{character}"))
    return _LOOSE_UNDERSCORE.sub(r"\\_", text)


def heading(kind: str, ticket: Ticket) -> str:
    """The first line of a document: what it is, and of which ticket, so that it can be read by itself."""
    return f"# {kind}: {cell(ticket.title, 300)}"


def origin_note(ticket: Ticket) -> list[str]:
    """The lines that say so, in every document, when the session's rows were generated; else nothing."""
    if ticket.data_scheme != "synthetic":
        return []
    return ["**Synthetic data: these rows were generated; nothing here says anything about real cases.**", ""]


def table(header: Sequence[str], rows: Iterable[Sequence[object]], longest: int = 80) -> list[str]:
    """The lines of a Markdown table; every cell goes through `cell` with at most `longest` characters."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return lines + [f"| {' | '.join(cell(value, longest) for value in row)} |" for row in rows]


def quoted(text: str, longest: int = 4000) -> list[str]:
    """`text` as an indented code block: nothing in it is markup, a mention or an instruction to the reader."""
    shown = text.strip()[:longest]
    return [f"    {line}" for line in shown.splitlines()] or ["    (nothing)"]


def figure(value: float | None) -> str:
    """A number with four significant digits, a whole number as it is, `–` for none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"
