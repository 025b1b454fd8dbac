"""What `feature.backfill` tells people: a page and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.skills.data.markdown import cell, origin_note, table
from schemas.ticket import Ticket

_SHOWN = 60


def write_report(ticket: Ticket, report: Mapping[str, Any]) -> str:
    """`backfill.md`."""
    package, source, labels = report["package"], report["source"], report["labels"]
    lines = [
        f"# Backfill: {cell(ticket.title, 300)}", "", *origin_note(ticket),
        f"{report['rows']:,} of {source['rows']:,} rows of {cell(source['uri'])} (`{source['sha256'][:12]}`) as the "
        f"inputs of {cell(package['name'])} {cell(package['version'])} (signature `{package['signature'][:12]}`), in "
        f"{len(labels)} windows below `{report['directory']}` of the home.", "",
        "The values are those before anything that was fitted: each depends on its own row alone, so that no row holds",
        "anything of a later one. The model in the package imputes, scales and encodes them itself.", "",
        "![Rows and drift by window](backfill.svg)", "", "## Skipped", "",
    ]  # fmt: skip
    if report["skipped"]:
        lines += [f"- {number:,} rows: {reason}" for reason, number in sorted(report["skipped"].items())]
    else:
        lines.append("No row.")
    if report["without_a_value"]:
        rows = sorted(report["without_a_value"].items(), key=lambda pair: (-pair[1], pair[0]))
        lines += ["", "Values that are missing, or cannot be read as their kind (missing to the model):", ""]
        lines += table(("input", "rows"), [(name, f"{number:,}") for name, number in rows[:20]])
    lines += ["", "## Personal data", ""]
    if report["personal"]:
        lines += [
            "In files of their own (`.personal.parquet`), which are removed earlier: "
            + ", ".join(f"{cell(name)} ({tag})" for name, tag in sorted(report["personal"].items())) + "."
        ]  # fmt: skip
    else:
        lines.append("No input that rules recognise.")
    drift = {each["window"]: each for each in report["drift"]}
    files: dict[str, list[Mapping[str, Any]]] = {}
    for each in report["partitions"]:
        files.setdefault(each["window"], []).append(each)
    shown = sorted(files)
    lines += [
        "", "## Windows", "",
        *table(
            ("window", "rows", "kB", "SHA-256", "moved since the window before"),
            [
                (
                    labels[name], f"{files[name][0]['rows']:,}",
                    f"{sum(each['bytes'] for each in files[name]) / 1000:.1f}",
                    ", ".join(each["sha256"][:12] for each in files[name]), _moved(drift.get(name)),
                )
                for name in shown[:_SHOWN]
            ],
            200,
        ),
    ]  # fmt: skip
    if len(shown) > _SHOWN:
        lines += ["", f"The first {_SHOWN} of {len(shown)}; `backfill.json` has all."]
    return "\n".join(lines)


def _moved(drift: Mapping[str, Any] | None) -> str:
    if drift is None:
        return "not compared"
    if not drift["moved"]:
        return f"none of {drift['compared']}"
    said = [f"{each['name']} (PSI {each['psi']:.2f}, D {each['distance']:.2f})" for each in drift["moved"][:4]]
    more = len(drift["moved"]) - 4
    return ", ".join(said) + (f" and {more} more" if more > 0 else "")


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Write the SVG: rows of each window, and below them the largest PSI against the window before."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    rows = {each["window"]: each["rows"] for each in report["partitions"]}
    names = sorted(rows)
    places = {name: place for place, name in enumerate(names)}
    drift = [(places[each["window"]], each["largest_psi"], bool(each["moved"])) for each in report["drift"]]
    with mpl.rc_context(
        {"svg.hashsalt": "value-train", "svg.fonttype": "none", "font.size": 8, "text.parse_math": False}
    ):
        figure = Figure(figsize=(10, 4.4))
        FigureCanvasSVG(figure)
        above, below = figure.subplots(2, 1, sharex=True)
        above.bar(range(len(names)), [rows[name] for name in names], color="#4477AA")
        above.set_title("rows of each window", loc="left")
        colours = ["#EE6677" if moved else "#BBBBBB" for _, _, moved in drift]
        below.bar([place for place, _, _ in drift], [psi for _, psi, _ in drift], color=colours)
        below.set_title("largest PSI against the window before; red: an input is beyond its limit", loc="left")
        step = max(1, len(names) // 12)
        below.set_xticks(range(0, len(names), step), [report["labels"][name][:18] for name in names[::step]])
        figure.subplots_adjust(0.07, 0.08, 0.99, 0.93, hspace=0.3)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
