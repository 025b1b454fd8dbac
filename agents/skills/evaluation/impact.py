"""Skill `evaluation.impact`: what the delivered package does, compared with what was promised and planned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillError, SkillOutput
from agents.skills.data.markdown import cell, figure, origin_note, table
from agents.skills.devsecops.modelcard import PERSON
from agents.skills.evaluation.costs import cost_report
from agents.skills.evaluation.promise import Promise, compare, compare_groups, kpi
from agents.skills.evaluation.replay import Replayed
from agents.skills.evaluation.slices import MIN_ROWS, SliceReport
from agents.skills.evaluation.text import number
from agents.skills.shapes import ScopeSpec
from schemas.ticket import Ticket
from schemas.values import Measurement, Mode, Role, TickedItem

SAME = 1e-6
"""Largest difference of a prediction that arithmetic explains."""


@dataclass(frozen=True)
class Impact:
    """Everything compared."""

    rows: int
    scope: ScopeSpec
    version: str
    replayed: Replayed
    promises: list[Promise]
    kpi: dict[str, Any]
    people: list[str]
    groups: SliceReport | None
    costs: dict[str, Any]
    watched: list[str]

    @property
    def kept(self) -> bool:
        """Whether the optimised metric came as promised, from the model that was evaluated."""
        return self.replayed.skew <= SAME and next(p.kept for p in self.promises if p.metric == self.scope.metric)


class EvaluationImpact(Skill[Parameters, SkillOutput]):
    """Replay the hold-out requests through the delivered package and compare with promise, KPI, groups and plan.

    True outcomes are those of the sealed hold-out rows: until outcomes of real use are recorded, nothing else is true.
    """

    name = "evaluation.impact"
    role = Role.EVALUATION
    modes = frozenset({Mode.OPERATE})
    needs = (
        "metrics.json", "monitoring-config.yaml", "deployment-config.yaml", "model-package.zip", "scope.json",
        "predictions.parquet", "holdout-labels.parquet", "holdout-features.parquet",
    )  # fmt: skip
    optional = ("opportunity-brief.json", "cost-plan.json")
    produces = ("impact-report.json", "impact-report.md", "cost-report.json")
    harness = True
    seconds = 300.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the reports. Raises SkillError when the package is not the one that was deployed and described."""
        impact = _measure(context)
        context.write_json("impact-report.json", _json(impact))
        context.write_json("cost-report.json", impact.costs)
        context.write_text("impact-report.md", _document(context.ticket, impact))
        return _output(impact)


def _measure(context: SkillContext) -> Impact:
    from agents.skills.evaluation.outcomes import read_holdout
    from agents.skills.evaluation.replay import delivered, replay

    scope = ScopeSpec.model_validate(context.read_json("scope.json"))
    deployed = _yaml(context, "deployment-config.yaml")
    watched = _yaml(context, "monitoring-config.yaml")
    brief = context.read_json("opportunity-brief.json") if "opportunity-brief.json" in context.inputs else None
    plan = context.read_json("cost-plan.json") if "cost-plan.json" in context.inputs else None
    files = [context.path(f"{name}.parquet") for name in ("predictions", "holdout-labels", "holdout-features")]
    holdout = read_holdout(files[0], files[1], files[2], scope, context.ticket.groups)
    package = delivered(context.path("model-package.zip"), str((deployed.get("package") or {}).get("sha256")))
    context.progress(f"replaying {holdout.rows} requests through {package.manifest['version']!s}")
    replayed = replay(package, holdout.features, holdout.model)
    promised = context.read_json("metrics.json")["metrics"]
    promises = compare(promised, replayed.outcome, holdout.groups, context.seed, context.seconds * 0.5)
    if scope.metric not in {each.metric for each in promises}:
        raise SkillError(f"metrics.json does not promise {scope.metric}", "run evaluation.measure again")
    people, groups = compare_groups(
        replayed.outcome, holdout.baseline, holdout.features, holdout.groups, scope, context.seed
    )
    measured = kpi(replayed.outcome, holdout.baseline, brief)
    timed = (replayed.one_ms, "one request, in this process")
    if (served := context.measured.get("monitoring", {}).get("cpu_ms")) is not None:
        timed = (served, "CPU time of the real server")
    costs = cost_report(
        context.facts.get("usage") or {}, plan, scope.budget_usd, scope.budget_minutes,
        timed, measured["cases_per_year"],
    )  # fmt: skip
    return Impact(
        holdout.rows,
        scope,
        str(package.manifest["version"]),
        replayed,
        promises,
        measured,
        people,
        groups,
        costs,
        _signals(watched),
    )


def _yaml(context: SkillContext, name: str) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(context.path(name).read_text("utf-8"))
    except yaml.YAMLError as problem:
        raise SkillError(f"{name} is no YAML: {str(problem).splitlines()[0]}", "run the phase that wrote it") from None
    if not isinstance(found, dict):
        raise SkillError(f"{name} is not a mapping", "run the phase that wrote it")
    return found


def _signals(config: dict[str, Any]) -> list[str]:
    """The names of the watched signals."""
    return [str(each.get("name")) for each in config.get("signals") or () if isinstance(each, dict)]


def _json(impact: Impact) -> dict[str, Any]:
    groups = impact.groups
    return {
        "rows": impact.rows,
        "package": impact.version,
        "truth": "sealed hold-out rows, replayed as requests; no outcome of real use is recorded yet",
        "skew": impact.replayed.skew,
        "inputs": [{"column": name, "share": share} for name, share in sorted(impact.replayed.inputs.items())],
        "kept": impact.kept,
        "metric": impact.scope.metric,
        "metrics": [each.as_dict() for each in impact.promises],
        "kpi": impact.kpi,
        "groups": {
            "columns": impact.people,
            "judged": groups.judged if groups else 0,
            "worst": [each.as_dict() for each in groups.worst] if groups else [],
        },
        "latency_ms": impact.replayed.one_ms,
        "request_bytes": impact.replayed.bytes_per_request,
        "watched": impact.watched,
    }


def _document(ticket: Ticket, impact: Impact) -> str:
    verdict = "kept" if impact.kept else "NOT kept"
    own = next(each for each in impact.promises if each.metric == impact.scope.metric)
    lines = [f"# Impact: {cell(ticket.title, 300)}", "", *origin_note(ticket)]
    lines += [
        f"**The promise is {verdict}**: {impact.scope.metric} {own.delivered.text} delivered, "
        f"{number(own.promised['value'])} [{number(own.promised['lower'])}, {number(own.promised['upper'])}] promised.",
        "",
        f"{impact.rows} requests (the sealed hold-out rows as JSON) went through package {cell(impact.version)} as it "
        f"was delivered. The largest difference from the evaluated predictions: {impact.replayed.skew:.2g}.",
        "",
        "These outcomes are the hold-out's. What happened to real cases after the release is not recorded here:",
        "",
        f"- {PERSON} true outcomes of real use, as a data file, once there are some.",
        "",
        "## Promised and delivered",
        "",
        *table(
            ("metric", "promised [95 % interval]", "delivered [95 % interval]", "difference", "kept"),
            [
                (each.metric, _interval(each.promised), each.delivered.text, f"{each.difference:+.4g}",
                 "yes" if each.kept else "no")
                for each in impact.promises
            ],
        ),
        "",
        *_kpi_lines(impact),
        *_group_lines(impact),
        *_cost_lines(impact),
    ]  # fmt: skip
    return "\n".join(lines)


def _interval(value: Any) -> str:
    return f"{number(value['value'])} [{number(value['lower'])}, {number(value['upper'])}]"


def _kpi_lines(impact: Impact) -> list[str]:
    found = impact.kpi
    lines = ["## The KPI", ""]
    lines.append(
        f"{found['unit'].capitalize()}: {figure(round(found['before'], 4))} before ({cell(found['before_from'])}), "
        f"{figure(round(found['now'], 4))} now."
    )
    if found["usd_per_year"] is None:
        return [*lines, "", f"{PERSON} what one error costs and how many cases a year there are; no money follows.", ""]
    low, high = found["promised_usd_per_year"]
    expected = (
        "" if low is None or high is None else f" The brief expected {figure(round(low))} to {figure(round(high))}."
    )
    return [
        *lines,
        "",
        f"At {figure(found['cases_per_year'])} cases a year and {figure(found['cost_of_an_error'])} USD an error (from "
        f"the ticket, not verified): **{figure(round(found['usd_per_year']))} USD a year**.{expected}",
        "",
    ]


def _group_lines(impact: Impact) -> list[str]:
    lines = ["## Groups of people", ""]
    if impact.groups is None:
        return [*lines, "No column that rules recognise tells of people, so no groups could be compared.", ""]
    columns = ", ".join(cell(name) for name in impact.people)
    lines.append(f"Compared by {columns}: {impact.groups.judged} groups have rows enough ({MIN_ROWS}).")
    if not impact.groups.worst:
        return [*lines, "", "**None can be judged: whether a group is served worse cannot be seen here.**", ""]
    worse = [part for part in impact.groups.worst if part.clearly_worse]
    said = "Clearly worse than all: " + "; ".join(f"{cell(p.column)} {cell(p.values)}" for p in worse) if worse else (
        "No group is clearly worse than all."
    )  # fmt: skip
    return [
        *lines,
        "",
        f"**{said}**",
        "",
        *table(
            ("group", "values", "rows", f"{impact.groups.metric} [95 % interval]", "clearly worse"),
            [
                (p.column, p.values, p.rows, p.interval.text, "yes" if p.clearly_worse else "no")
                for p in impact.groups.worst
            ],
        ),
        "",
    ]


def _cost_lines(impact: Impact) -> list[str]:
    costs = impact.costs
    planned, used = costs["planned"], costs["used"]
    against = "no plan to compare with" if planned["wall_seconds"] is None else f"{planned['wall_seconds']:g} s planned"
    prediction = costs["prediction"]
    yearly = prediction["usd_per_year"]
    return [
        "## Costs",
        "",
        f"So far {used['wall_seconds']:.1f} s of skills ({against}) and {used['usd']:.6f} USD of "
        f"{costs['budget']['usd']:g} USD allowed, at {costs['usd_per_cpu_hour']:.3g} USD a core and hour "
        f"({costs['price_from']}).",
        "",
        f"One prediction takes {prediction['milliseconds']:.2f} ms ({prediction['measured']}); 1,000 cost "
        f"{prediction['usd_per_1000']:.6f} USD" + ("." if yearly is None else f", a year's {yearly:.2f} USD."),
        "",
        f"Not counted: {', '.join(costs['not_counted'])}.",
    ]


def _output(impact: Impact) -> SkillOutput:
    own = next(each for each in impact.promises if each.metric == impact.scope.metric)
    worse = [part for part in (impact.groups.worst if impact.groups else ()) if part.clearly_worse]
    groups = "no column tells of people" if impact.groups is None else f"{impact.groups.judged} groups judged"
    warnings = [f"group {part.column} {part.values} is clearly worse served: {part.interval.text}" for part in worse]
    if impact.replayed.skew > SAME:
        warnings.append(
            f"the package answers differently from the evaluated model (by up to {impact.replayed.skew:.2g})"
        )
    warnings += [
        f"the package prepares {name} otherwise than training did in {share:.1%} of the rows"
        for name, share in sorted(impact.replayed.inputs.items())
    ]
    if impact.kpi["avoided_per_case"] <= 0:
        warnings.append(
            f"the KPI is no better than before: {impact.kpi['now']:.4g} now, {impact.kpi['before']:.4g} before"
        )
    costs = impact.costs
    planned = costs["planned"]["wall_seconds"]
    return SkillOutput(
        summary=f"promise {'kept' if impact.kept else 'not kept'}: {impact.scope.metric} {own.delivered.text}; "
        f"{costs['prediction']['usd_per_1000']:.6f} USD for 1,000 predictions",
        ticked=(
            TickedItem(
                item="truth-collected", evidence=f"impact-report.json: {impact.rows} outcomes joined with predictions"
            ),
            TickedItem(
                item="live-metrics-compared",
                evidence=f"impact-report.json: {len(impact.promises)} metrics, {impact.scope.metric} differs by "
                f"{own.difference:+.4g}",
            ),
            TickedItem(
                item="kpi-compared",
                evidence=f"impact-report.json: {impact.kpi['before']:.4g} before, {impact.kpi['now']:.4g} now",
            ),
            TickedItem(item="groups-compared", evidence=f"impact-report.md: {groups}, {len(worse)} clearly worse"),
            TickedItem(
                item="cost-compared",
                evidence=f"cost-report.json: {costs['used']['wall_seconds']:.1f} s used, "
                + ("no plan" if planned is None else f"{planned:g} s planned"),
            ),
        ),
        measurements=(
            Measurement(scope="impact", name="skew", value=impact.replayed.skew),
            Measurement(scope="impact", name="kept", value=1.0 if impact.kept else 0.0),
            Measurement(scope="impact", name="usd_per_1000", value=costs["prediction"]["usd_per_1000"]),
        ),
        warnings=tuple(warnings),
    )
