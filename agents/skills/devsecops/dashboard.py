"""Skill `devsecops.dashboard`: the limits of a monitoring configuration as a Grafana dashboard and Prometheus rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from agents.skills.devsecops.manifests import label
from schemas.values import Mode, Role, TickedItem

_PREDICT = 'path="/predict",job=~"$job"'
WINDOW = "5m"


@dataclass(frozen=True)
class Shown:
    """How a signal of the configuration is read from the inference server's metrics: PromQL, the unit it has in
    Grafana, and by how much its limit is multiplied to be in that unit."""

    title: str
    expression: str
    unit: str
    factor: float


SIGNALS: dict[str, Shown] = {
    "errors": Shown(
        "Share of requests without a good answer",
        f'sum(rate(model_requests_total{{{_PREDICT},code!="200"}}[{WINDOW}])) / '
        f"sum(rate(model_requests_total{{{_PREDICT}}}[{WINDOW}]))",
        "percentunit",
        1.0,
    ),
    "latency_p95": Shown(
        "95th percentile",
        f'histogram_quantile(0.95, sum by (le) (rate(model_request_seconds_bucket{{job=~"$job"}}[{WINDOW}])))',
        "s",
        0.001,
    ),
    "latency_p99": Shown(
        "99th percentile",
        f'histogram_quantile(0.99, sum by (le) (rate(model_request_seconds_bucket{{job=~"$job"}}[{WINDOW}])))',
        "s",
        0.001,
    ),
}
"""The signals that the inference server's own metrics show; the others need rows and are measured by a phase."""
TRAFFIC = (
    ("Requests a second", f"sum by (code) (rate(model_requests_total{{{_PREDICT}}}[{WINDOW}]))", "reqps"),
    ("Rows a second", f'sum(rate(model_rows_total{{job=~"$job"}}[{WINDOW}]))', "short"),
    ("Predicted classes", f'sum by (class) (rate(model_predictions_total{{job=~"$job"}}[{WINDOW}]))', "short"),
    ("Versions that serve", 'count by (name, version) (model_info{job=~"$job"})', "short"),
)


class DevsecopsDashboard(Skill[Parameters, SkillOutput]):
    """Write a Grafana dashboard and Prometheus alert rules with the limits of the monitoring configuration."""

    name = "devsecops.dashboard"
    role = Role.DEVSECOPS
    modes = frozenset({Mode.OPERATE, Mode.DELIVER})
    needs = ("monitoring-config.yaml",)
    produces = ("grafana-dashboard.json", "prometheus-rules.yaml")
    seconds = 60.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write both. Raises InputError when the configuration is none."""
        import yaml

        config = yaml.safe_load(context.path("monitoring-config.yaml").read_text("utf-8"))
        try:
            limits = {each["name"]: float(each["limit"]) for each in config["signals"]}
            name, version, tell = str(config["name"]), str(config["version"]), str(config["tell"])
            actions = {each["name"]: str(each["action"]) for each in config["signals"]}
        except (KeyError, TypeError, ValueError) as problem:
            raise InputError(f"monitoring-config.yaml lacks {problem}", "let devsecops.monitor write it") from problem
        shown = [signal for signal in SIGNALS if signal in limits]
        unseen = sorted(set(limits) - set(shown))
        context.write_json("grafana-dashboard.json", dashboard(name, version, limits, shown, unseen))
        text = yaml.safe_dump(rules(name, limits, shown, actions, tell), sort_keys=False, allow_unicode=True, width=120)
        context.write_text("prometheus-rules.yaml", f"# {name} {version}\n{text}")
        return SkillOutput(
            summary=f"{len(shown)} limits on a dashboard and as alerts; {len(unseen)} signals need rows: "
            + (", ".join(unseen) or "none"),
            ticked=(
                TickedItem(item="dashboard-written", evidence=f"grafana-dashboard.json: limits of {', '.join(shown)}"),
            ),
            warnings=tuple(f"{each} is not in the server's metrics: it is measured by a phase" for each in unseen),
        )


def dashboard(name: str, version: str, limits: dict[str, float], shown: list[str], unseen: list[str]) -> dict[str, Any]:
    """A dashboard as Grafana imports it; its data source and the job are chosen there."""
    panels = [
        _panel(number, SIGNALS[signal].title, SIGNALS[signal].expression, SIGNALS[signal].unit,
               limits[signal] * SIGNALS[signal].factor)
        for number, signal in enumerate(shown)
    ]  # fmt: skip
    panels += [_panel(len(panels) + n, title, query, unit) for n, (title, query, unit) in enumerate(TRAFFIC)]
    told = ", ".join(unseen) or "none"
    panels.append(
        {
            "id": len(panels) + 1, "type": "text", "title": "Not on this dashboard",
            "gridPos": {"h": 4, "w": 24, "x": 0, "y": 8 * ((len(panels) + 1) // 2)},
            "options": {"mode": "markdown", "content": f"Signals that need rows, measured by a phase: {told}."},
        }
    )  # fmt: skip
    source = {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}
    job = {
        "name": "job", "label": "Job", "type": "query", "datasource": {"type": "prometheus", "uid": "${source}"},
        "query": "label_values(model_info, job)", "includeAll": True, "multi": True, "refresh": 2,
    }  # fmt: skip
    return {
        "uid": label(name)[:40], "title": f"Model {name}", "description": f"Limits as measured for {version}.",
        "tags": ["value-train"], "schemaVersion": 39, "version": 1, "editable": True, "timezone": "utc",
        "time": {"from": "now-6h", "to": "now"}, "refresh": "30s", "templating": {"list": [source, job]},
        "panels": panels,
    }  # fmt: skip


def _panel(number: int, title: str, query: str, unit: str, limit: float | None = None) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    custom: dict[str, Any] = {"lineWidth": 1}
    if limit is not None:
        steps.append({"color": "red", "value": round(limit, 9)})
        custom["thresholdsStyle"] = {"mode": "line"}
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number + 1, "type": "timeseries", "title": title, "datasource": source,
        "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
        "targets": [{"refId": "A", "expr": query, "datasource": source}],
        "fieldConfig": {
            "defaults": {"unit": unit, "custom": custom, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
    }  # fmt: skip


def rules(name: str, limits: dict[str, float], shown: list[str], actions: dict[str, str], tell: str) -> dict[str, Any]:
    """A rule file of Prometheus: one alert for each limit, and one for a server that is away."""
    job = label(name)
    alerts = [
        {
            "alert": f"Model{''.join(part.capitalize() for part in signal.split('_'))}",
            "expr": f"{_of(signal, job)} > {limits[signal] * SIGNALS[signal].factor:.9g}",
            "for": WINDOW,
            "labels": {"severity": "critical" if actions[signal] == "go back" else "warning", "model": name},
            "annotations": {"summary": f"{SIGNALS[signal].title} of {name}", "action": actions[signal], "tell": tell},
        }
        for signal in shown
    ]
    away = {
        "alert": "ModelAway", "expr": f'absent(model_info{{job=~"{job}"}})', "for": "2m",
        "labels": {"severity": "critical", "model": name},
        "annotations": {"summary": f"No server of {name} answers", "action": "look", "tell": tell},
    }  # fmt: skip
    return {"groups": [{"name": f"model-{job}", "interval": "15s", "rules": [*alerts, away]}]}


def _of(signal: str, job: str) -> str:
    """The signal's expression for one job."""
    return SIGNALS[signal].expression.replace("$job", job)
