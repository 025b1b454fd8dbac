"""The tables: what was stopped, what was let through, and claimed minus delivered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from math import hypot
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.gate_honesty.defects import DEFECTS

Row = Mapping[str, Any]


def read(path: Path) -> list[Row]:
    """The recorded cases; a case that was run twice counts once, as it was last."""
    found = {}
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        found[(row["set"], row["seed"], row["defect"], row["where"], row["form"] if not row["defect"] else "")] = row
    return list(found.values())


def stopped(row: Row) -> bool:
    """Whether the case did not pass unattended. A crash is no verdict."""
    return row["verdict"] in ("refused", "person")


def document(rows: Sequence[Row], drift: Mapping[str, Any] | None, automl: Mapping[str, Sequence[Row] | None]) -> str:
    """Everything as Markdown."""
    clean = [row for row in rows if not row["defect"]]
    bad = [row for row in rows if row["defect"]]
    seeds = sorted({row["seed"] for row in rows})
    sets = sorted({row["set"] for row in rows})
    lines = [
        f"{len(bad)} defective and {len(clean)} clean cases; sets {', '.join(sets)}; seeds {_list(seeds)}.",
        "",
        _line("defects stopped", bad),
        _line("clean runs falsely stopped", clean),
        f"crashed (counted as not stopped): {sum(row['verdict'] == 'crashed' for row in rows)}",
        "",
        *_by_defect(bad, clean, drift),
        "",
        *_by_set(bad, clean),
        "",
        *_honesty(clean),
        "",
        *_boasts(bad),
        "",
        *_automl(automl),
        "",
        *_missed(bad, clean),
    ]
    return "\n".join(lines)


def _line(what: str, rows: Sequence[Row]) -> str:
    part = [row for row in rows if stopped(row)]
    asked = sum(row["verdict"] == "person" for row in rows)
    share = len(part) / len(rows) if rows else 0.0
    low, high = exact_interval(len(part), len(rows))
    return (
        f"**{what}: {len(part)} of {len(rows)} ({share:.1%})**, {asked} of them by asking a person; "
        f"95 % interval {low:.1%} to {high:.1%}."
    )


def exact_interval(hits: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share after Clopper and Pearson (1934)."""
    from scipy.stats import beta

    low = float(beta.ppf(0.025, hits, trials - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


def _by_defect(bad: Sequence[Row], clean: Sequence[Row], drift: Mapping[str, Any] | None) -> list[str]:
    lines = ["| defect | cases | refused | person asked | passed | metric threshold stops | Evidently's preset stops |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name in (*DEFECTS, ""):
        rows = [row for row in (bad if name else clean) if row["defect"] == name]
        if not rows:
            continue
        counts = [sum(row["verdict"] == verdict for row in rows) for verdict in ("refused", "person", "passed")]
        by_threshold = sum(row["by_threshold"] for row in rows)
        cells = [name or "(clean)", len(rows), *counts, by_threshold, _drifted(rows, drift)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _drifted(rows: Sequence[Row], drift: Mapping[str, Any] | None) -> str:
    if drift is None:
        return "not run"
    keys = [f"{r['set']}/{r['seed']}/{r['defect'] or 'clean'}/{r['where']}".replace("/", "__").replace(" ", "-")
            for r in rows]  # fmt: skip
    known = [drift[key]["dataset_drift"] for key in keys if key in drift]
    return f"{sum(known)} of {len(known)}" if known else "not run"


def _by_set(bad: Sequence[Row], clean: Sequence[Row]) -> list[str]:
    lines = ["| set | defects stopped | clean stopped |", "|---|---|---|"]
    for name in sorted({row["set"] for row in bad}):
        own, fair = ([row for row in rows if row["set"] == name] for rows in (bad, clean))
        told = [f"{sum(map(stopped, rows))} of {len(rows)}" for rows in (own, fair)]
        lines.append(f"| {name} | {told[0]} | {told[1]} |")
    return lines


def differences(clean: Iterable[Row]) -> dict[str, list[tuple[float, float]]]:
    """By set: claimed minus delivered (positive: promised too much) and the standard error of one such difference."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in clean:
        told = row["figures"]
        if "claimed" in told:
            sign = -1.0 if told["lower_is_better"] else 1.0
            error = hypot(told["claimed_se"], told["delivered_se"])
            found.setdefault(row["set"], []).append((sign * (told["claimed"] - told["delivered"]), error))
    return found


def _honesty(clean: Sequence[Row]) -> list[str]:
    lines = [
        "| set | runs | claimed − delivered, mean | its standard error over seeds | standard error of one claim | "
        "mean under one standard error |",
        "|---|---|---|---|---|---|",
    ]
    for name, pairs in sorted(differences(clean).items()):
        gaps, errors = [gap for gap, _ in pairs], [error for _, error in pairs]
        spread = f"{stdev(gaps) / len(gaps) ** 0.5:.4f}" if len(gaps) > 1 else "one seed"
        holds = "yes" if abs(mean(gaps)) < mean(errors) else "**no**"
        lines.append(f"| {name} | {len(gaps)} | {mean(gaps):+.4f} | {spread} | {mean(errors):.4f} | {holds} |")
    return lines


def _boasts(bad: Sequence[Row]) -> list[str]:
    told = [row for row in bad if "boasted" in row["figures"] and "measured" in row["figures"]]
    lines = ["| defect of the process | runs | agent claimed, mean | harness measured, mean | let by |"]
    lines.append("|---|---|---|---|---|")
    for key in sorted({(row["set"], row["defect"]) for row in told}):
        rows = [row["figures"] for row in told if (row["set"], row["defect"]) == key]
        passed = sum(not stopped(row) for row in told if (row["set"], row["defect"]) == key)
        boasted, measured = mean(r["boasted"] for r in rows), mean(r["measured"] for r in rows)
        lines.append(f"| {key[0]}: {key[1]} | {len(rows)} | {boasted:.4f} | {measured:.4f} | {passed} |")
    return lines


def _automl(told: Mapping[str, Sequence[Row] | None]) -> list[str]:
    lines = []
    for name, rows in told.items():
        if rows is None:
            how = "`python -m benchmarks.gate_honesty peers` makes its environment and runs it"
            lines += [f"{name} was not run: {how}.", ""]
            continue
        lines += [f"| set | seed | {name} claims | delivers | difference |", "|---|---|---|---|---|"]
        for row in rows:
            gap = row["claimed"] - row["delivered"]
            cells = [row["set"], row["seed"], f"{row['claimed']:.4f}", f"{row['delivered']:.4f}", f"{gap:+.4f}"]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        lines.append("")
    return lines[:-1]


def _missed(bad: Sequence[Row], clean: Sequence[Row]) -> list[str]:
    lines = ["Missed:", ""]
    lines += [
        f"- {r['set']}, seed {r['seed']}: {r['defect']} ({r['form']}): {r['verdict']}" for r in bad if not stopped(r)
    ]
    lines += ["", "Falsely stopped:", ""]
    return lines + [
        f"- {r['set']}, seed {r['seed']}, {r['where']}: {r['phase']}: {r['reason'][:160]}" for r in clean if stopped(r)
    ]


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
