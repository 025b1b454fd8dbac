"""Skill `devsecops.autoscale`: how many servers for which load, by requests a second and by budget."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, figure, origin_note, table
from agents.skills.devsecops.load import Measured, Step, measure
from agents.skills.devsecops.manifests import checked_config, deployment_name
from agents.skills.devsecops.replay import requests_of
from agents.skills.devsecops.sizing import HOURS, LEAST, ROOM, Demand, Plan, Row, plan, rows
from agents.skills.lead.statement import FROM_TICKET, Statement, read_statement
from agents.skills.training.inuse import read_package
from schemas.values import Measurement, Mode, Role

METRIC = "model_requests_per_second"
SETTLE_SECONDS = 300
"""Servers are taken away only when the load has stayed low for so long, Kubernetes' own default."""
_YEAR_SECONDS = 365 * 24 * 3600


@dataclass(frozen=True)
class Limit:
    """The latency limit (milliseconds, 95 of 100 answers), and who said it."""

    ms: float
    said: str


class DevsecopsAutoscale(Skill[Parameters, SkillOutput]):
    """Measure what one server carries within the latency limit, and scale by requests a second within the budget."""

    name = "devsecops.autoscale"
    role = Role.DEVSECOPS
    modes = frozenset({Mode.DELIVER, Mode.OPERATE})
    needs = ("model-package.zip", "deployment-config.yaml", "holdout-features.parquet")
    produces = ("autoscaling.yaml", "autoscaling-metrics.yaml", "capacity.json", "capacity.md", "capacity.svg")
    seconds = 300.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write autoscaler, metric rule and capacity plan.

        Raises InputError when the ticket does not say the greatest load or a latency limit, when one request at a time
        already takes longer than that, and when the budget pays for no server.
        """
        import pandas as pd
        import yaml

        config = checked_config(context)
        statement = read_statement(context.ticket)
        limit, peak = _limit(statement, config), _positive(statement, "requests a second")
        if peak is None:
            raise InputError(
                "the ticket's text does not say the greatest load", "add a line `Requests a second: 40` to it"
            )
        package = read_package("model-package.zip", context.path("model-package.zip").read_bytes())
        frame = pd.read_parquet(context.path("holdout-features.parquet"))
        asked = requests_of(frame, package.features, context.seed)
        measured = measure(package.data, asked, work=context.out.parent, progress=context.progress)
        best = measured.best(limit.ms)
        if best is None:
            raise InputError(
                f"one request at a time takes {measured.steps[0].p95_ms:.1f} ms for 95 of 100 answers, above the limit "
                f"of {limit.ms:g} ms ({limit.said}): more servers do not mend that",
                "raise `Latency limit`, or choose a faster model",
            )
        demand = Demand(best.per_second, peak, _mean(statement, peak), *_money(statement))
        try:
            chosen = plan(demand)
        except ValueError:
            raise InputError(
                f"`Budget a month` is {demand.usd_per_month:,.2f} USD and one server costs "
                f"{demand.usd(1) or 0.0:,.2f} USD a month: it pays for none",
                "raise the budget, or find a cheaper server",
            ) from None
        report = _report(config, limit, measured, best, demand, chosen)
        head = f"# {config['name']} {config['version']}, package SHA-256 {config['package']['sha256']}\n"
        text = yaml.safe_dump(autoscaler(config, demand, chosen), sort_keys=False, width=120)
        context.write_text("autoscaling.yaml", head + _HEAD + text)
        text = yaml.safe_dump(metric_rules(), sort_keys=False, width=120)
        context.write_text("autoscaling-metrics.yaml", _RULES_HEAD + text)
        context.write_json("capacity.json", report)
        _draw(context.out / "capacity.svg", rows(demand, chosen), chosen, demand)
        context.write_text("capacity.md", _document(context, limit, measured, best, demand, chosen))
        return _output(demand, chosen, best, limit)


_HEAD = """\
# In place of the HorizontalPodAutoscaler of the same name in kubernetes.yaml: apply that file first, then this one.
# It reads a metric of the pods, which something has to offer: autoscaling-metrics.yaml is the rule for that.
"""
_RULES_HEAD = """\
# Rule for the Prometheus adapter, which offers the requests that the model servers count as a metric of their pods.
"""


def autoscaler(config: dict[str, Any], demand: Demand, chosen: Plan) -> dict[str, Any]:
    """A HorizontalPodAutoscaler (autoscaling/v2) that keeps each server at its planned requests a second."""
    name = deployment_name(config)
    target = {"type": "AverageValue", "averageValue": f"{max(1, int(demand.target * 1000))}m"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": chosen.least,
            "maxReplicas": chosen.most,
            "metrics": [{"type": "Pods", "pods": {"metric": {"name": METRIC}, "target": target}}],
            "behavior": {
                "scaleUp": {
                    "stabilizationWindowSeconds": 0,
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
                },
                "scaleDown": {
                    "stabilizationWindowSeconds": SETTLE_SECONDS,
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                },
            },
        },
    }


def metric_rules() -> dict[str, Any]:
    """A rule file of the Prometheus adapter: requests for predictions a second, of each pod."""
    return {
        "rules": [
            {
                "seriesQuery": 'model_requests_total{path="/predict",namespace!="",pod!=""}',
                "resources": {"overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}},
                "name": {"as": METRIC},
                "metricsQuery": 'sum(rate(model_requests_total{<<.LabelMatchers>>,path="/predict"}[2m])) '
                "by (<<.GroupBy>>)",
            }
        ]
    }


def _limit(statement: Statement, config: dict[str, Any]) -> Limit:
    said = _positive(statement, "latency limit")
    if said is not None:
        return Limit(said, FROM_TICKET)
    measured = ((config.get("health") or {}).get("latency_ms") or {}).get("warn_above")
    if measured is None:
        raise InputError(
            "neither the ticket's text nor deployment-config.yaml says how long an answer may take",
            "add a line `Latency limit: 200 ms` to the ticket",
        )
    return Limit(float(measured), "deployment-config.yaml, `health.latency_ms.warn_above`")


def _positive(statement: Statement, label: str) -> float | None:
    value = statement.number(label)
    if value is not None and value <= 0:
        raise InputError(f"the ticket's text says {label!r} is {value:g}", "write a number above zero")
    return value


def _mean(statement: Statement, peak: float) -> float | None:
    cases = statement.number("cases per year")
    mean = None if cases is None else cases / _YEAR_SECONDS
    if mean is not None and mean > peak:
        raise InputError(
            f"`Cases per year` is {cases:,.0f}, {mean:.3g} a second over the year, more than `Requests a second`, "
            f"{peak:g}",
            "correct one of them",
        )
    return mean


def _money(statement: Statement) -> tuple[float | None, float | None]:
    """Price of a server's hour and budget of a month."""
    price, budget = _positive(statement, "price of a replica hour"), _positive(statement, "budget a month")
    if budget is not None and price is None:
        raise InputError(
            "the ticket's text says a budget a month and no price of a server: it cannot be kept",
            "add a line `Price of a replica hour: 0.05` to it",
        )
    return price, budget


def _report(
    config: dict[str, Any], limit: Limit, measured: Measured, best: Step, demand: Demand, chosen: Plan
) -> dict[str, Any]:
    return {
        "package_sha256": config["package"]["sha256"],
        "latency_limit_ms": limit.ms,
        "latency_limit_from": limit.said,
        "measured": measured.as_dict(),
        "per_replica": {"requests_per_second": best.per_second, "p95_ms": best.p95_ms, "clients": best.clients},
        "target_per_replica": round(demand.target, 6),
        "stated": {
            "peak_requests_per_second": demand.peak, "mean_requests_per_second": demand.mean,
            "usd_per_replica_hour": demand.usd_per_hour, "usd_per_month": demand.usd_per_month, "from": FROM_TICKET,
        },
        "replicas": {
            "least": chosen.least, "most": chosen.most, "needed": chosen.needed, "affordable": chosen.affordable
        },
        "carried_requests_per_second": round(chosen.carried, 6),
        "budget_carries_the_load": chosen.fits,
        "loads": [row.as_dict() for row in rows(demand, chosen)],
    }  # fmt: skip


def _output(demand: Demand, chosen: Plan, best: Step, limit: Limit) -> SkillOutput:
    usd = demand.usd(chosen.most)
    measurements = [
        Measurement(scope="autoscale", name="requests_per_second", value=best.per_second),
        Measurement(scope="autoscale", name="least", value=float(chosen.least)),
        Measurement(scope="autoscale", name="most", value=float(chosen.most)),
        Measurement(scope="autoscale", name="carried", value=float(chosen.fits)),
    ]
    if usd is not None:
        measurements.append(Measurement(scope="autoscale", name="usd_per_month", value=usd))
    warnings = []
    if not chosen.fits:
        warnings.append(_short_of(demand, chosen))
    if chosen.least < LEAST:
        warnings.append("one server at rest: while it is replaced or fails, nobody answers")
    if usd is None:
        warnings.append("the ticket names no `Price of a replica hour`: nothing is said about money")
    cost = "" if usd is None else f", at most {usd:,.2f} USD a month"
    return SkillOutput(
        summary=f"one server carries {best.per_second:.0f} requests a second within {limit.ms:g} ms; {chosen.least} to "
        f"{chosen.most} servers for {demand.peak:g} a second{cost}",
        measurements=tuple(measurements),
        warnings=tuple(warnings),
    )


def _short_of(demand: Demand, chosen: Plan) -> str:
    return (
        f"the budget does not carry the load: {demand.peak:g} requests a second need {chosen.needed} servers "
        f"({demand.usd(chosen.needed) or 0.0:,.2f} USD a month), {demand.usd_per_month or 0.0:,.2f} USD pay for "
        f"{chosen.most}, which carry {chosen.carried:.4g} a second; beyond that answers come late"
    )


def _draw(path: Path, loads: list[Row], chosen: Plan, demand: Demand) -> None:
    """Servers over load, as needed and as given."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from agents.skills.evaluation.figure import BLUE, GREY, STYLE

    with mpl.rc_context(STYLE):
        picture = Figure(figsize=(8, 3.4), layout="constrained")
        axes = picture.subplots()
        steps = [each.load for each in loads]
        axes.step(steps, [each.needed for each in loads], "--", where="pre", color=GREY, label="needed")
        axes.step(steps, [each.given for each in loads], where="pre", color=BLUE, label="given")
        axes.axvline(demand.peak, linestyle=":", color=GREY)
        axes.set(title="Servers by load (dotted: the greatest expected)", xlabel="requests a second", ylim=(0, None))
        axes.set_ylabel("servers")
        if demand.usd_per_hour is not None:
            right = axes.twinx()
            right.set_ylim(0, axes.get_ylim()[1] * demand.usd_per_hour * HOURS)
            right.set_ylabel("USD a month")
        axes.legend(loc="upper left", frameon=False)
        picture.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _document(context: SkillContext, limit: Limit, measured: Measured, best: Step, demand: Demand, chosen: Plan) -> str:
    steps = [
        (step.clients, figure(step.per_second), f"{step.p50_ms:.1f}", f"{step.p95_ms:.1f}", step.failed,
         "yes" if step.within(limit.ms) else "no")
        for step in measured.steps
    ]  # fmt: skip
    loads = [
        (figure(each.load), each.needed, f"{each.given}{'' if each.given >= each.needed else ' (too few)'}",
         f"{each.used:.0%}", _usd(each.usd), _usd(each.idle_usd))
        for each in rows(demand, chosen)
    ]  # fmt: skip
    said = [
        ("greatest load, requests a second", figure(demand.peak)),
        ("ordinary load, requests a second", "not said" if demand.mean is None else figure(demand.mean)),
        ("price of a server's hour, USD", "not said" if demand.usd_per_hour is None else f"{demand.usd_per_hour:g}"),
        ("budget a month, USD", "not said" if demand.usd_per_month is None else f"{demand.usd_per_month:,.2f}"),
    ]
    verdict = "The greatest load is carried." if chosen.fits else f"**{cell(_short_of(demand, chosen), 400)}.**"
    return "\n".join([
        f"# Capacity: {cell(context.ticket.title, 300)}", "", *origin_note(context.ticket),
        f"One server carried {figure(best.per_second)} requests a second with 95 of 100 answers within "
        f"{best.p95_ms:.1f} ms (limit {limit.ms:g} ms, {limit.said}). Each is planned to carry {ROOM:.0%} of that, "
        f"{figure(demand.target)}; the rest is for the {measured.start_seconds:.1f} s that another takes to start. "
        f"So {chosen.least} servers at rest and {chosen.most} at most. {verdict}",
        "", "![Servers by load](capacity.svg)", "", "## By load", "",
        *table(("requests a second", "servers needed", "given", "used", "USD a month", "of it idle, USD"), loads), "",
        f"Money: servers x price x {HOURS:g} hours, if the load lasted all month. `Used` is of what was measured; what "
        f"idles is the price of answering in time, and of {LEAST} servers, so that one may fail.",
        "", f"## What people said ({FROM_TICKET})", "", *table(("what", "value"), said), "",
        "## What was measured", "",
        *table(("clients at once", "answers a second", "median ms", "p95 ms", "failed", "within the limit"), steps), "",
        f"One server in a process of its own on this machine ({measured.cores} cores, shared with the clients): "
        f"{measured.cpu_ms:.2f} ms of CPU for a request, {measured.peak_bytes / 1e6:.0f} MB at most. Each client sends "
        "its next request when it has the last answer, so waiting in a longer queue is not seen. Measure again on the "
        "machines that will serve; a busy machine here makes the plan dearer, not riskier.",
    ])  # fmt: skip


def _usd(value: float | None) -> str:
    return "–" if value is None else f"{value:,.2f}"
