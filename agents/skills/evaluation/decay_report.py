"""What `evaluation.decay` tells: figures, a page and a picture."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.skills.data.markdown import cell, origin_note, table
from agents.skills.evaluation.decay import Found, until
from agents.skills.evaluation.figure import BLUE, GREY, STYLE
from agents.skills.evaluation.text import number
from schemas.ticket import Ticket

if TYPE_CHECKING:
    from agents.skills.evaluation.decay_trend import Crossing

NOT_SHOWN = "not shown by these rows"


def as_json(found: Found) -> dict[str, Any]:
    """`decay.json`."""
    decay = found.decay
    return {
        "package": {"name": found.package.manifest["name"], "version": found.package.manifest["version"],
                    "sha256": found.package.sha256},
        "metric": decay.metric, "time": found.column, "time_unit": "days" if found.dates else found.column,
        "rows": found.rows, "rows_not_later": found.not_later, "grouped_by": found.grouped_by,
        "promised": None if decay.promised is None else {"value": decay.promised[0], "se": decay.promised[1]},
        "all_later_rows": decay.whole.as_dict(), "errors_below_promise": decay.errors, "fallen": decay.fallen,
        "slope": decay.slope.as_dict(), "scatter": decay.ratio, "decays": decay.decays,
        "limit": {"value": decay.limit.value, "from": found.limit_from} | _times(found, decay.limit),
        "half_life": None if decay.half is None else {"value": decay.half.value} | _times(found, decay.half),
        "windows": [
            {
                "from": found.moment(each.start), "to": found.moment(each.end), "rows": len(each.rows),
                "value": each.value.as_dict(), "gain_over_a_constant": each.gain.as_dict(),
                "inputs_moved": list(names), "inputs_compared": compared, "largest_psi": psi,
            }
            for each, (_, compared, psi, names) in zip(decay.windows, found.drift, strict=True)
        ],
    }  # fmt: skip


def _times(found: Found, crossing: Crossing) -> dict[str, Any]:
    """When it is reached, None for what the rows do not show; `until` counts from the newest row."""
    ends = (crossing.at, crossing.lower, crossing.upper)
    names = ("at", "lower", "upper")
    dates = {name: found.moment(end) if isfinite(end) else None for name, end in zip(names, ends, strict=True)}
    left = {name: end if isfinite(end) else None for name, end in zip(names, until(found, crossing), strict=True)}
    return {"reached": dates, "until": left}


def document(ticket: Ticket, found: Found) -> str:
    """`decay.md`."""
    decay = found.decay
    unit = "30 days" if found.dates else f"unit of {cell(found.column)}"
    slope = (
        f"{number(decay.slope.value * found.unit)} [{number(decay.slope.lower * found.unit)}, "
        f"{number(decay.slope.upper * found.unit)}] for each {unit}"
    )
    verdict = f"**{decay.metric} decays**: {slope}." if decay.decays else (
        f"**No decay of {decay.metric} is shown by these rows**: {slope}."
    )  # fmt: skip
    lines = [
        f"# Decay: {cell(ticket.title, 300)}", "", *origin_note(ticket), verdict, "",
        f"{found.rows:,} labelled rows of {len(decay.windows)} windows by {cell(found.column)}, asked of "
        f"{cell(found.package.manifest['name'])} {cell(found.package.manifest['version'])} "
        f"(`{found.package.sha256[:12]}`). {found.not_later:,} rows were left out: no time, or not later than the "
        "newest training row.",
        "",
        f"{'Whole groups of ' + cell(found.grouped_by) if found.grouped_by else 'Rows'} were drawn for the intervals. "
        + ("The windows scatter as their rows explain." if decay.ratio <= 1.0 else
           f"The windows scatter {decay.ratio:.2g} times as much as their rows explain; the trend's interval is "
           "widened by that."),
        "", "![The metric by window, its trend and its limit](decay.svg)", "",
        "## What is to be expected", "",
        f"- It must keep {number(decay.limit.value)} ({cell(found.limit_from, 200)}): "
        + _expected(found, decay.limit),
    ]  # fmt: skip
    if decay.half is not None:
        lines.append(
            f"- Half of its gain over one constant answer is gone at {number(decay.half.value)}: "
            + _expected(found, decay.half)
        )
    if decay.promised is None:
        lines.append("- The package says nothing of what to expect: it is of a time before promises were kept in it.")
    else:
        lines.append(
            f"- Promised {number(decay.promised[0])} (standard error {number(decay.promised[1])}), "
            f"{decay.whole.text} on all later rows: {decay.errors or 0.0:+.1f} standard errors worse; "
            + ("**it has fallen**." if decay.fallen else "no more than chance gives.")
        )
    lines += [
        "", "## Windows", "",
        *table(
            ("from", "to", "rows", f"{decay.metric} [95 %]", "gain over a constant [95 %]", "inputs that moved"),
            [
                (
                    found.moment(each.start), found.moment(each.end), f"{len(each.rows):,}", each.value.text,
                    each.gain.text, f"{moved} of {compared}" + (f": {', '.join(names[:4])}" if names else ""),
                )
                for each, (moved, compared, _, names) in zip(decay.windows, found.drift, strict=True)
            ],
            160,
        ),
        "",
        "A metric of a window depends on its rows too: where the constant answer falls as much, the rows became",
        "harder, and the gain over it has stayed. Inputs are held against the training rows by PSI and distance.",
    ]  # fmt: skip
    return "\n".join(lines)


def _expected(found: Found, crossing: Crossing) -> str:
    at, lower, upper = crossing.at, crossing.lower, crossing.upper
    if not isfinite(lower) and not isfinite(at):
        return f"when is {NOT_SHOWN}."
    if not isfinite(at):
        return f"not before {found.moment(lower)} (95 %); when is {NOT_SHOWN}."
    last = found.decay.windows[-1].end
    word = "reached at about" if at <= last else "at about"
    end = found.moment(upper) if isfinite(upper) else NOT_SHOWN
    return f"{word} {found.moment(at)} [95 %: {found.moment(lower)}, {end}], if the trend goes on."


def draw(found: Found, path: Path) -> None:
    """Write the SVG: above the metric with intervals, promise, limit and trend; below the largest PSI of an input."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    decay = found.decay
    places = [each.middle for each in decay.windows]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 5))
        FigureCanvasSVG(figure)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        values = [each.value for each in decay.windows]
        spread = [[each.value - each.lower for each in values], [each.upper - each.value for each in values]]
        above.errorbar(places, [each.value for each in values], spread, fmt="o", color=BLUE, capsize=3, label="found")
        above.plot([places[0], places[-1]], decay.fitted, color=BLUE, linewidth=1, label="trend")
        above.axhline(decay.limit.value, color="#EE6677", linestyle="--", linewidth=1, label="limit")
        if decay.promised is not None:
            above.axhline(decay.promised[0], color=GREY, linestyle=":", label="promised")
        above.set_title(f"{decay.metric} by window of {found.column}", loc="left")
        above.legend(frameon=False, fontsize=8)
        colours = ["#EE6677" if moved else "#BBBBBB" for moved, *_ in found.drift]
        wide = (places[-1] - places[0]) / max(1, len(places)) * 0.6 or 1.0
        below.bar(places, [psi for _, _, psi, _ in found.drift], width=wide, color=colours)
        below.set_title("largest PSI of an input against the training rows; red: beyond its limit", loc="left")
        step = max(1, len(places) // 8)
        below.set_xticks(places[::step], [found.moment(place) for place in places[::step]])
        figure.subplots_adjust(0.08, 0.08, 0.98, 0.94, hspace=0.3)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
