"""Dashboard and alert rules: the limits of the configuration, over metrics that the real server really has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.skill import InputError
from agents.skills.devsecops.dashboard import DevsecopsDashboard
from agents.skills.devsecops.replica import request
from agents.skills.training.inuse import Package
from schemas.ticket import Ticket
from tests.skills.harness import run_skill
from tests.skills.test_serving import package, rows, served  # noqa: F401  # its fixture

CONFIG = {
    "name": "expect-a-vote", "version": "0.1.0", "tell": "alice",
    "signals": [
        {"name": "errors", "limit": 0.01, "action": "go back"},
        {"name": "latency_p95", "limit": 500.0, "action": "tell"},
        {"name": "latency_p99", "limit": 1000.0, "action": "tell"},
        {"name": "cost", "limit": 3.0, "action": "tell"},
        {"name": "input_drift", "limit": 0.2, "action": "retrain"},
    ],
}  # fmt: skip


def written(folder: Path, config: Any = CONFIG) -> tuple[dict[str, Any], dict[str, Any], Any]:
    folder.mkdir(exist_ok=True)
    (folder / "monitoring-config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    files = {"monitoring-config.yaml": folder / "monitoring-config.yaml"}
    output, made = run_skill(DevsecopsDashboard, Ticket(id=1, title="Watch"), folder / "run", files)
    board = json.loads(made["grafana-dashboard.json"].read_text("utf-8"))
    return board, yaml.safe_load(made["prometheus-rules.yaml"].read_text("utf-8")), output


def expressions(board: dict[str, Any], rules: dict[str, Any]) -> list[str]:
    shown = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    return shown + [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def test_every_expression_reads_what_the_server_has(package: Package, tmp_path: Path) -> None:  # noqa: F811
    with served(package) as port:
        assert request(port, "POST", "/predict", {"rows": rows()}).code == 200
        text = str(request(port, "GET", "/metrics").body)
    series = {m[1]: set(re.findall(r'(\w+)="', m[2] or "")) for m in re.finditer(r"^(\w+)(\{.*\})? ", text, re.M)}
    board, rules, _ = written(tmp_path)
    for expression in expressions(board, rules):
        used = set(re.findall(r"\bmodel_\w+", expression))
        assert used
        assert used <= set(series), expression
        for name, labels in re.findall(r"(model_\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)[=!]", labels)) - {"job"} <= series[name], "the job is Prometheus' own label"
        for by in re.findall(r"by \(([^)]*)\)", expression):
            assert {part.strip() for part in by.split(",")} <= set().union(*(series[name] for name in used))
        assert expression.count("(") == expression.count(")")


def test_limits_are_those_of_the_configuration(tmp_path: Path) -> None:
    board, rules, output = written(tmp_path)
    found = {
        panel["title"]: panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"]
        for panel in board["panels"]
        if len(panel.get("fieldConfig", {}).get("defaults", {}).get("thresholds", {}).get("steps", [])) > 1
    }
    assert list(found.values()) == [0.01, 0.5, 1.0], "milliseconds are seconds here"
    alerts = {rule["alert"]: rule for rule in rules["groups"][0]["rules"]}
    assert set(alerts) == {"ModelErrors", "ModelLatencyP95", "ModelLatencyP99", "ModelAway"}
    assert alerts["ModelErrors"]["expr"].endswith("> 0.01")
    assert alerts["ModelErrors"]["labels"]["severity"] == "critical"
    assert alerts["ModelLatencyP95"]["expr"].endswith("> 0.5")
    assert {rule["annotations"]["tell"] for rule in alerts.values()} == {"alice"}
    assert [text.split()[0] for text in output.warnings] == ["cost", "input_drift"]


def test_panels_do_not_lie_on_each_other(tmp_path: Path) -> None:
    board, _, _ = written(tmp_path)
    places = [panel["gridPos"] for panel in board["panels"]]
    taken = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize("config", [{}, {"signals": [{"name": "errors"}]}, {**CONFIG, "signals": None}])
def test_what_is_no_configuration_is_refused(tmp_path: Path, config: Any) -> None:
    with pytest.raises(InputError, match=r"monitoring-config\.yaml lacks"):
        written(tmp_path, config)
