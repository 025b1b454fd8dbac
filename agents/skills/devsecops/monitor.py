"""Skill `devsecops.monitor`: what is watched of a model in use, with limits from measured figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, origin_note
from agents.skills.devsecops.bundle import baseline_package
from agents.skills.devsecops.replay import requests_of
from agents.skills.devsecops.rollout import ERROR_LIMIT, LEAST_SLOW_MS
from agents.skills.devsecops.trial import Trial, try_out
from agents.skills.training.inuse import Package, open_in_use, read_package
from schemas.values import Measurement, Mode, Role, TickedItem

if TYPE_CHECKING:
    from agents.skills.data.drift import Moved

REQUESTS = 200
_ROOM = 3.0
"""How many times the measured figure a limit of latency or cost is."""


@dataclass(frozen=True)
class Signal:
    """One thing watched: what was `measured` now, the `limit`, in which `unit`, and what happens beyond it."""

    name: str
    measured: float
    limit: float
    unit: str
    action: str

    @property
    def fine(self) -> bool:
        """Whether the measured figure keeps the limit."""
        return self.measured <= self.limit


class DevsecopsMonitor(Skill[Parameters, SkillOutput]):
    """Serve the delivered package, measure latency, errors, cost and drift on replayed requests, try the way back."""

    name = "devsecops.monitor"
    role = Role.DEVSECOPS
    modes = frozenset({Mode.OPERATE})
    needs = ("deployment-config.yaml", "model-package.zip", "baseline.skops", "holdout-features.parquet")
    optional = ("metrics.json", "model-in-use.json")
    produces = ("monitoring-config.yaml", "monitoring-report.json", "monitoring-report.md")
    seconds = 300.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write configuration and report.

        The way back leads to the model in use that the ticket names, or else to the baseline: what there was before.
        Raises SkillError when a server does not start or the way back does not work.
        """
        import pandas as pd
        import yaml

        from agents.skills.data.drift import compare_columns
        from agents.skills.data.twins import independent

        config = yaml.safe_load(context.path("deployment-config.yaml").read_text("utf-8"))
        package = read_package("model-package.zip", context.path("model-package.zip").read_bytes())
        before, way = _before(context, package)
        frame = pd.read_parquet(context.path("holdout-features.parquet"))
        asked = requests_of(frame, package.features, context.seed, most=REQUESTS)
        found = try_out(
            before, package.data, asked, seed=context.seed, work=context.out.parent, progress=context.progress
        )
        moved: list[Moved] = []
        if "training-profile.json" in package.files:
            replayed = frame.set_index("__row__", drop=False).loc[[each.row for each in asked]]
            # a sample of requests says nothing of how many rows a case has
            known = {name: value for name, value in package.profile.items() if name != "cases"}
            alike = independent(replayed.drop(columns="__row__"), context.ticket.groups)
            moved = [*_predictions_moved(package, found), *compare_columns(known, replayed, alike)]
        signals = _signals(found, moved)
        text = yaml.safe_dump(
            _config(context, config, package, signals, moved, way), sort_keys=False, allow_unicode=True, width=120
        )
        context.write_text("monitoring-config.yaml", text)
        report = found.as_dict() | {"way_back": way, "drift": [each.as_dict() for each in moved]}
        context.write_json("monitoring-report.json", report)
        context.write_text("monitoring-report.md", _document(context, package, found, signals, moved, way))
        return _output(context, found, signals, moved, way)


def _before(context: SkillContext, package: Package) -> tuple[bytes, str]:
    """The package to go back to, and what it is."""
    if context.ticket.model:
        from agents.skills.training.inuse import ModelInUse

        recorded = None
        if "model-in-use.json" in context.inputs:
            recorded = ModelInUse.model_validate(context.read_json("model-in-use.json"))
        champion = open_in_use(context, recorded)
        return champion.data, f"{champion.manifest['name']} {champion.manifest['version']}"
    baseline = context.path("baseline.skops").read_bytes()
    return baseline_package(package, baseline), "the baseline, a constant answer: there was no model before"


def _predictions_moved(package: Package, found: Trial) -> list[Moved]:
    """The predictions beside the target of the training rows."""
    import pandas as pd

    from agents.skills.data.drift import compare_column

    target = package.profile["target"]
    column: dict[str, Any] = {"name": "prediction", "missing": 0.0, "distinct": 0}
    if "classes" in target:
        column |= {"kind": "categorical", "top": target["classes"]}
    else:
        column |= {"kind": "numeric", **target, "name": "prediction"}
    return [compare_column(column, pd.Series(found.predictions, name="prediction"), int(package.profile["rows"]))]


def _signals(found: Trial, moved: Sequence[Moved]) -> list[Signal]:
    times = found.as_dict()
    share = found.failed / max(1, len(found.replies))
    inputs = [each for each in moved if each.name != "prediction"]
    signals = [
        Signal("errors", share, ERROR_LIMIT, "share of requests", "go back"),
        Signal("latency_p95", times["p95_ms"], max(LEAST_SLOW_MS, _ROOM * times["p95_ms"]), "ms", "tell"),
        Signal("latency_p99", times["p99_ms"], max(2 * LEAST_SLOW_MS, _ROOM * times["p99_ms"]), "ms", "tell"),
        Signal("cost", found.cpu_ms, max(1.0, _ROOM * found.cpu_ms), "CPU ms per prediction", "tell"),
    ]
    if inputs:
        worst = max(inputs, key=lambda each: each.psi / each.psi_limit)
        signals.append(Signal("input_drift", worst.psi, worst.psi_limit, f"PSI of {worst.name}", "retrain"))
    for each in moved:
        if each.name == "prediction":
            signals.append(Signal("prediction_drift", each.psi, each.psi_limit, "PSI", "look, then retrain"))
    return signals


def _config(
    context: SkillContext,
    deployed: Mapping[str, Any],
    package: Package,
    signals: Sequence[Signal],
    moved: Sequence[Moved],
    way: str,
) -> dict[str, Any]:
    ticket = context.ticket
    tell = ticket.requester or "the operators of the Value Train"
    quality = dict(deployed.get("health") or {})
    quality.pop("latency_ms", None)
    return {
        "apiVersion": "value-train/v1",
        "kind": "ModelMonitoring",
        "name": package.manifest["name"],
        "version": package.manifest["version"],
        "synthetic": bool(deployed.get("synthetic")),
        "package_sha256": package.sha256,
        "scrape": {"path": "/metrics", "interval_seconds": 15, "health": "/health"},
        "tell": tell,
        "signals": [
            {
                "name": each.name, "unit": each.unit, "measured": round(each.measured, 6),
                "limit": round(each.limit, 6), "window_requests": REQUESTS, "tell": tell, "action": each.action,
            }
            for each in signals
        ],
        "quality": {**quality, "when": "outcomes are known", "tell": tell, "action": "go back"},
        "drift_limits": [
            {"column": each.name, "psi": round(each.psi_limit, 4), "distance": round(each.distance_limit, 4)}
            for each in moved
        ],
        "way_back": {"to": way, "how": "set the splitter's share to 0", "limit_seconds": 60},
    }  # fmt: skip


def _output(
    context: SkillContext, found: Trial, signals: Sequence[Signal], moved: Sequence[Moved], way: str
) -> SkillOutput:
    beyond = [each for each in signals if not each.fine]
    ticked = [
        TickedItem(
            item="signals-watched",
            evidence=f"monitoring-config.yaml: latency, errors, inputs, predictions; measured on {len(found.replies)} "
            "requests",
        ),
        TickedItem(
            item="alerts-set",
            evidence=f"monitoring-config.yaml: {len(signals)} signals, each with limit and who is told",
        ),
        TickedItem(
            item="costs-watched", evidence=f"monitoring-config.yaml: {found.cpu_ms:.3g} CPU ms for one prediction"
        ),
        TickedItem(
            item="way-back-tried",
            evidence=f"monitoring-report.md: back in {found.back_seconds:.3f} s to {way}; forth again in "
            f"{found.forth_seconds:.3f} s",
        ),
    ]
    warnings = [f"{each.name} is {each.measured:.4g} {each.unit}, the limit is {each.limit:.4g}" for each in beyond]
    if moved:
        count = sum(each.moved for each in moved)
        drift = TickedItem(
            item="drift-watched",
            evidence=f"monitoring-config.yaml: {len(moved)} columns against the training rows, {count} moved",
        )
        ticked.append(drift)
    else:
        warnings.append("the package has no training profile: drift cannot be measured")
    figures = found.as_dict()
    return SkillOutput(
        summary=f"{len(found.replies)} requests, {found.failed} failed, p95 {figures['p95_ms']:.1f} ms; "
        f"way back in {found.back_seconds:.3f} s",
        ticked=tuple(ticked),
        measurements=(
            Measurement(scope="monitoring", name="requests", value=float(len(found.replies))),
            Measurement(scope="monitoring", name="failed", value=float(found.failed)),
            Measurement(scope="monitoring", name="p95_ms", value=float(figures["p95_ms"])),
            Measurement(scope="monitoring", name="cpu_ms", value=found.cpu_ms),
            Measurement(scope="monitoring", name="moved", value=float(sum(each.moved for each in moved))),
            Measurement(scope="monitoring", name="way_back_seconds", value=found.back_seconds),
        ),
        warnings=tuple(warnings),
    )


def _document(
    context: SkillContext,
    package: Package,
    found: Trial,
    signals: Sequence[Signal],
    moved: Sequence[Moved],
    way: str,
) -> str:
    figures = found.as_dict()
    servers = ", ".join(f"{each['arm']} (pid {each['pid']}, exit {each['exit']})" for each in found.servers)
    lines = [
        f"# Monitoring: {cell(context.ticket.title, 300)}",
        "",
        *origin_note(context.ticket),
        f"{cell(package.manifest['name'])} {cell(package.manifest['version'])} (`{package.sha256[:16]}`) served "
        f"{len(found.replies)} hold-out rows as requests on a real server: {found.failed} failed, median "
        f"{figures['p50_ms']:.1f} ms. The server itself counted {sum(found.counted.values())} requests.",
        "",
        "| signal | measured | limit | unit | beyond it |",
        "|---|---|---|---|---|",
        *(
            f"| {each.name} | {each.measured:.4g} | {each.limit:.4g} | {cell(each.unit)} "
            f"| {each.action}{'' if each.fine else ' (**now**)'} |"
            for each in signals
        ),
        "",
        "Limits come from these figures: three times what was measured for latency and cost, with a floor for busy",
        "machines. Quality has its limits in `deployment-config.yaml` and is watched as outcomes come in.",
        "",
        "## The way back",
        "",
        f"Tried, to {cell(way, 200)}: all requests were answered from there {found.back_seconds:.3f} s after the "
        f"decision ({found.back_answers} of {found.back_answers} good), and by the new model again after "
        f"{found.forth_seconds:.3f} s. Both servers were stopped at the end: {servers}.",
        "",
        "## Drift of the replayed rows",
        "",
    ]
    if not moved:
        return "\n".join([*lines, "Not measured: the package has no training profile."])
    lines += ["| column | PSI | limit | distance | limit | moved |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {cell(each.name)} | {each.psi:.3f} | {each.psi_limit:.2f} | {each.distance:.3f} "
        f"| {each.distance_limit:.2f} | {'yes' if each.moved else 'no'} |"
        for each in moved
    ]
    return "\n".join(lines)
