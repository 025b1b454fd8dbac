"""The part of the feature map that is about other sessions: what was used again, what is new, what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

from agents.skills.data.markdown import figure, table
from agents.skills.feature.known import Known, Standing

_COLOURS: dict[Standing, str] = {"reused": "#4477AA", "new": "#228833", "left out": "#EE6677"}
"""Paul Tol's bright scheme, as in the other pictures."""
_SHOWN = 30
_ORDER: tuple[Standing, ...] = ("reused", "new", "left out")


def counts(found: Sequence[Known]) -> dict[str, int]:
    """How many inputs have each standing."""
    return {standing: sum(each.standing == standing for each in found) for standing in _ORDER}


def as_json(found: Sequence[Known], asked: str, sha256: str, problems: Sequence[str]) -> dict[str, Any]:
    """`feature-reuse.json`. `asked` says why nothing of other sessions was looked at, empty if it was."""
    return {
        "not_asked": asked,
        "registry_sha256": sha256 or None,
        "sessions_left_out": list(problems),
        "inputs": [
            {
                "column": each.column.name, "standing": each.standing, "why": each.why,
                "ticket": each.use.ticket if each.use else None, "session": each.use.session if each.use else None,
                "feature_map": each.use.map_sha256 if each.use else None,
                "loss_share": each.loss, "row_us": each.row_us,
            }
            for each in found
        ],
        **{f"count_{name.replace(' ', '_')}": number for name, number in counts(found).items()},
    }  # fmt: skip


def lines(found: Sequence[Known], asked: str) -> list[str]:
    """The end of `feature-map.md`."""
    head = ["", "", "## Used before", ""]
    if asked:
        return [*head, f"Other sessions were not asked: {asked}."]
    if all(each.standing == "new" and each.loss is None and each.row_us is None for each in found):
        return [*head, "No earlier session of this record used these inputs on the same data source."]
    rows = [
        (each.column.name, each.standing, each.why, figure(each.loss), figure(each.row_us))
        for standing in _ORDER
        for each in found
        if each.standing == standing
    ]
    said = ", ".join(f"{number} {name}" for name, number in counts(found).items())
    return [
        *head, f"{said}. From the record's sessions on the same data source; nothing that was fitted there is taken.",
        "", "![What became of each input, and its worth elsewhere](feature-reuse.svg)", "",
        *table(("column", "standing", "why", "worth, of the strongest", "a row, µs"), rows, 220),
        "", "`reuse: false` in a ticket decides without other sessions.",
    ]  # fmt: skip


def draw(found: Sequence[Known]) -> str:
    """A bar for each input: how much of the strongest input's loss it had where that was measured last.

    Written by hand: the Feature agent's children do without a plotting library, which takes longer to import than the
    skill runs.
    """
    shown = sorted(found, key=lambda each: (_ORDER.index(each.standing), -(each.loss or 0.0), each.column.name))
    more = len(shown) - _SHOWN
    shown = shown[:_SHOWN]
    height = 18 * len(shown) + 48
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}" font-family="sans-serif" '
        'font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="8" y="16" font-weight="bold">What became of each input; bars: its worth where last measured</text>',
    ]
    for place, each in enumerate(shown):
        y = 34 + 18 * place
        colour = _COLOURS[each.standing]
        name = each.column.name if len(each.column.name) <= 28 else each.column.name[:27] + "…"
        parts.append(f'<text x="8" y="{y}">{escape(_printable(name))}</text>')
        parts.append(f'<text x="200" y="{y}" fill="{colour}">{each.standing}</text>')
        if each.loss is None:
            parts.append(f'<text x="270" y="{y}" fill="#777777">not measured</text>')
        else:
            width = max(1.0, min(1.0, max(0.0, each.loss)) * 420)
            parts.append(f'<rect x="270" y="{y - 10}" width="{width:.1f}" height="12" fill="{colour}"/>')
            parts.append(f'<text x="{275 + width:.1f}" y="{y}">{each.loss:.2f}</text>')
    if more > 0:
        parts.append(f'<text x="8" y="{34 + 18 * len(shown)}" fill="#777777">and {more} more</text>')
    return "\n".join([*parts, "</svg>"])


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
