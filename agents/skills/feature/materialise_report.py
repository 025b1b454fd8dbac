"""What `feature.materialise` tells people: a page with its arithmetic, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agents.skills.data.markdown import cell, figure, origin_note, table
from agents.skills.feature.materialise import Planned, Use
from schemas.ticket import Ticket

_SHOWN = 60


def document(ticket: Ticket, plan: Sequence[Planned], use: Use) -> str:
    """`materialisation-plan.md`."""
    stored = [each for each in plan if each.stored]
    saved = sum(each.on_demand_s - each.stored_s for each in stored)
    size = sum(each.bytes for each in stored)
    shown = plan[:_SHOWN]
    lines = [
        f"# Which inputs to store: {cell(ticket.title, 300)}", "", *origin_note(ticket),
        f"**{len(stored)} of {len(plan)} inputs are worth storing**: {saved:,.3g} s of a core and "
        f"{sum(each.usd for each in stored):.3g} USD saved a month, {size / 1e6:,.3g} MB kept. The others are computed "
        "on demand.", "",
        "![Seconds of a month, stored and on demand](materialisation-plan.svg)", "",
        "## Counted with", "",
        *table(
            ("what", "figure", "from"),
            [
                ("requests a day", figure(use.requests_per_day), use.requests_from),
                ("cases whose values are kept", f"{use.rows:,}", "the parameter `rows`, else the training rows"),
                ("a value may be old, hours", f"{use.fresh_hours:g}", "the parameter `fresh_hours`"),
                ("trainings a month, of each model", f"{use.trainings_per_month:g}", "`trainings_per_month`"),
                ("USD of a core's hour", f"{use.usd_per_cpu_hour:.4g}", use.price_from),
                ("USD of a gigabyte's month", f"{use.usd_per_gb_month:g}", "the parameter `usd_per_gb_month`"),
                ("days kept; personal data", f"{use.days}; {use.personal_days}",
                 "the settings `backfill_days`, `backfill_personal_days`, or less by `keep_days`"),
            ],
            160,
        ), "",
        "## Each input, for a month", "",
        "reads = 30 x requests a day + trainings x cases x models; on demand = reads x a row; stored = refreshes x "
        "cases x a row + reads x reading; refreshes = 720 / hours; kept = cases x bytes x (days x 24 / hours).", "",
        *table(
            ("input", "decision", "why", "models", "a row, µs", "reading, µs", "on demand, s", "stored, s", "kept, MB",
             "USD saved", "days"),
            [
                (
                    each.name, "store" if each.stored else "on demand", each.why, str(each.models),
                    "–" if each.row_us is None else f"{each.row_us:.3g}", f"{each.read_us:.3g}",
                    f"{each.on_demand_s:.3g}", f"{each.stored_s:.3g}", f"{each.bytes / 1e6:.3g}", f"{each.usd:.2g}",
                    str(each.keep_days) if each.stored else "–",
                )
                for each in shown
            ],
            120,
        ),
    ]  # fmt: skip
    if len(plan) > len(shown):
        lines += ["", f"The first {_SHOWN} of {len(plan)}; `materialisation-plan.json` has all."]
    lines += [
        "",
        "What a row takes was measured by `evaluation.stress`, for each input alone: the overhead of a call is in it,",
        "so sums over inputs are upper bounds. Reading and bytes were measured here, from Parquet. Who reads an input",
        "is from the record: completed sessions on the same source, each target once. `feature.backfill` stores,",
        "`valuetrain feature expire` removes what is past its days.",
    ]
    return "\n".join(lines)


def draw(plan: Sequence[Planned], path: Path) -> None:
    """Write the SVG: for each input the seconds of a month, on demand and stored; blue where it is to be stored."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    shown = list(plan[:25])[::-1]
    with mpl.rc_context(
        {"svg.hashsalt": "value-train", "svg.fonttype": "none", "font.size": 8, "text.parse_math": False}
    ):
        drawing = Figure(figsize=(9, 1.2 + 0.3 * len(shown)))
        FigureCanvasSVG(drawing)
        axes = drawing.subplots()
        places = range(len(shown))
        axes.barh([p + 0.2 for p in places], [e.on_demand_s for e in shown], height=0.38, color="#BBBBBB")
        colours = ["#4477AA" if each.stored else "#EE6677" for each in shown]
        axes.barh([p - 0.2 for p in places], [e.stored_s for e in shown], height=0.38, color=colours)
        axes.set_yticks(list(places), [each.name[:28] for each in shown])
        axes.set_xlabel("seconds of a core in a month; grey: on demand, blue: stored, red: stored and not worth it")
        drawing.subplots_adjust(0.22, 0.6 / drawing.get_figheight(), 0.98, 0.98)
        drawing.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
