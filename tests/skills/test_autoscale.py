"""Autoscaling: a real server's throughput, and a plan that keeps the latency limit within the budget, or says not."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from agents.skill import InputError
from agents.skills.devsecops.autoscale import METRIC, DevsecopsAutoscale, metric_rules
from agents.skills.devsecops.infrastructure import DevsecopsInfrastructure
from agents.skills.devsecops.load import Measured, Step
from agents.skills.devsecops.manifests import DevsecopsManifests
from agents.skills.devsecops.replica import request
from agents.skills.devsecops.sizing import HOURS, LEAST, Demand, plan, row, rows
from agents.skills.training.inuse import Package
from tests.skills.harness import run_skill
from tests.skills.ml_inputs import binary_wine, ticket
from tests.skills.test_manifests import delivery
from tests.skills.test_serving import package, served  # noqa: F401  # its fixture
from tests.skills.test_serving import rows as some_rows

SCHEMA = json.loads((Path(__file__).parents[1] / "fixtures" / "kubernetes-1.37.schema.json").read_text("utf-8"))
SAID = "Requests a second: 40\nLatency limit: 5000 ms\nCases per year: 3,153,600\nPrice of a replica hour: 0.05 USD"
positive = st.floats(0.01, 1e4)


def faults(document: dict[str, Any]) -> list[str]:
    """What Kubernetes' own published schema has against an object."""
    schema = {"$ref": f"#/$defs/{SCHEMA['kinds'][document['kind']]}", "$defs": SCHEMA["$defs"]}
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(document)]


def inputs(folder: Path, package: Package) -> dict[str, Path]:  # noqa: F811
    """A delivery, and rows to ask about."""
    files = delivery(folder, package)
    frame, _ = binary_wine()
    frame.assign(__row__=range(len(frame))).to_parquet(folder / "holdout-features.parquet", index=False)
    return files | {"holdout-features.parquet": folder / "holdout-features.parquet"}


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that carries 100 a second, without starting one."""
    found = Measured((Step(1, 60.0, 10.0, 20.0, 0), Step(2, 100.0, 15.0, 40.0, 0), Step(4, 150.0, 25.0, 90.0, 0)),
                     3.0, 8.0, 250_000_000, 2)  # fmt: skip
    monkeypatch.setattr("agents.skills.devsecops.autoscale.measure", lambda *_, **__: found)


def test_a_real_server_is_measured_and_the_plan_fits_it(package: Package, tmp_path: Path) -> None:  # noqa: F811
    files = inputs(tmp_path / "in", package)
    output, made = run_skill(DevsecopsAutoscale, ticket(body=SAID), tmp_path, files)
    found = json.loads(made["capacity.json"].read_text("utf-8"))
    assert [step["clients"] for step in found["measured"]["steps"]] == [1, 2, 4, 8]
    assert all(step["failed"] == 0 for step in found["measured"]["steps"])
    assert found["measured"]["peak_bytes"] > 50_000_000, "a Python process with scikit-learn in it"
    assert found["measured"]["cpu_ms_per_request"] > 0
    best = max(step["per_second"] for step in found["measured"]["steps"])
    assert found["per_replica"]["requests_per_second"] == best
    assert found["stated"]["mean_requests_per_second"] == pytest.approx(0.1)
    scaler = yaml.safe_load(made["autoscaling.yaml"].read_text("utf-8"))
    assert faults(scaler) == []
    parts = {each["kind"]: each for each in _manifests(tmp_path, files)}
    assert scaler["metadata"] == parts["HorizontalPodAutoscaler"]["metadata"], "it takes its place"
    assert scaler["spec"]["scaleTargetRef"]["name"] == parts["Deployment"]["metadata"]["name"]
    assert output.measurements[-1].name == "usd_per_month"
    assert "![Servers by load](capacity.svg)" in made["capacity.md"].read_text("utf-8")
    _, templates = run_skill(DevsecopsInfrastructure, ticket(), tmp_path, files | made)
    layout = json.loads(templates["infrastructure.json"].read_text("utf-8"))
    assert layout["environments"]["production"]["replicas"] == [
        scaler["spec"][key] for key in ("minReplicas", "maxReplicas")
    ]


def _manifests(folder: Path, files: dict[str, Path]) -> list[dict[str, Any]]:
    _, found = run_skill(DevsecopsManifests, ticket(), folder, files)
    return list(yaml.safe_load_all(found["kubernetes.yaml"].read_text("utf-8")))


def test_the_manifests_are_what_kubernetes_publishes(package: Package, tmp_path: Path) -> None:  # noqa: F811
    for document in _manifests(tmp_path, delivery(tmp_path / "in", package)):
        assert faults(document) == [], document["kind"]
        document["spec"]["replicaz"] = 1
        assert faults(document), "an unknown field is seen"


def test_the_rule_reads_what_the_server_counts(package: Package) -> None:  # noqa: F811
    [rule] = metric_rules()["rules"]
    with served(package) as port:
        request(port, "POST", "/predict", {"rows": some_rows(1)})
        text = str(request(port, "GET", "/metrics").body)
    assert re.search(r'^model_requests_total\{path="/predict",code="200"\} 1$', text, re.M)
    for query in (rule["seriesQuery"], rule["metricsQuery"]):
        assert "model_requests_total{" in query
        assert 'path="/predict"' in query
    assert rule["name"]["as"] == METRIC


@pytest.mark.usefixtures("slow")
def test_the_limit_chooses_the_step_and_the_budget_the_most(package: Package, tmp_path: Path) -> None:  # noqa: F811
    files = inputs(tmp_path / "in", package)
    body = "Requests a second: 400\nLatency limit: 50 ms\nPrice of a replica hour: 0.1\nBudget a month: 300 USD"
    output, made = run_skill(DevsecopsAutoscale, ticket(body=body), tmp_path, files)
    found = json.loads(made["capacity.json"].read_text("utf-8"))
    assert found["per_replica"]["requests_per_second"] == 100.0, "150 a second come too late"
    assert found["replicas"] == {"least": 2, "most": 4, "needed": 6, "affordable": 4}
    assert not found["budget_carries_the_load"]
    assert found["carried_requests_per_second"] == pytest.approx(280)
    said = "the budget does not carry the load: 400 requests a second need 6 servers (438.00 USD a month), 300.00 USD"
    assert output.warnings[0].startswith(said)
    assert said in made["capacity.md"].read_text("utf-8")
    scaler = yaml.safe_load(made["autoscaling.yaml"].read_text("utf-8"))["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 4)
    assert scaler["metrics"][0]["pods"]["target"] == {"type": "AverageValue", "averageValue": "70000m"}
    assert {m.name: m.value for m in output.measurements}["carried"] == 0.0


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("Latency limit: 50", "does not say the greatest load; add a line `Requests a second: 40`"),
        ("Requests a second: 40", r"neither the ticket's text nor deployment-config\.yaml says how long"),
        ("Requests a second: 0\nLatency limit: 50", "above zero"),
        ("Requests a second: many\nLatency limit: 50", "is no number"),
        ("Requests a second: 40\nLatency limit: 5 ms", r"takes 20\.0 ms .* above the limit of 5 ms .* more servers do"),
        ("Requests a second: 40\nLatency limit: 50\nBudget a month: 9", "no price of a server"),
        (
            "Requests a second: 40\nLatency limit: 50\nBudget a month: 9\nPrice of a replica hour: 1",
            r"`Budget a month` is 9\.00 USD and one server costs 730\.00 USD a month: it pays for none",
        ),
        ("Requests a second: 1\nLatency limit: 50\nCases per year: 90,000,000", "more than `Requests a second`, 1"),
    ],
)
def test_what_is_not_said_or_cannot_be_is_asked_for(
    package: Package, tmp_path: Path, body: str, problem: str  # noqa: F811
) -> None:  # fmt: skip
    with pytest.raises(InputError, match=problem):
        run_skill(DevsecopsAutoscale, ticket(body=body), tmp_path, inputs(tmp_path / "in", package))


@pytest.mark.usefixtures("slow")
def test_without_a_price_nothing_is_said_of_money(package: Package, tmp_path: Path) -> None:  # noqa: F811
    body = "Requests a second: 40\nLatency limit: 50"
    output, made = run_skill(DevsecopsAutoscale, ticket(body=body), tmp_path, inputs(tmp_path / "in", package))
    found = json.loads(made["capacity.json"].read_text("utf-8"))
    assert {row["usd_per_month"] for row in found["loads"]} == {None}
    assert not [m for m in output.measurements if "usd" in m.name]
    assert "nothing is said about money" in output.warnings[0]


@given(positive, positive, st.floats(0, 1), st.none() | positive, st.none() | st.floats(0.01, 1e7))
@pytest.mark.untraced
def test_within_the_budget_every_expected_load_has_the_servers_it_needs(
    per_replica: float, peak: float, share: float, price: float | None, budget: float | None
) -> None:
    demand = Demand(per_replica, peak, peak * share, price, budget if price else None)
    try:
        chosen = plan(demand)
    except ValueError:
        assert demand.affordable == 0
        return
    assert 1 <= chosen.least <= chosen.most
    if price and budget:
        assert chosen.most * price * HOURS <= budget * (1 + 1e-6), "all of them, all month, are paid for"
    for load in (0.0, peak * share, peak * 0.5, peak):
        found = row(demand, chosen, load)
        if chosen.fits:
            assert found.given >= found.needed
            assert found.given * demand.target >= load * (1 - 1e-6)
        assert found.given <= chosen.most
    if chosen.fits:
        assert chosen.most == max(LEAST, math.ceil(round(peak / demand.target, 9)))
        assert chosen.carried >= peak * (1 - 1e-6)
    else:
        assert chosen.most < chosen.needed


@given(positive, positive, positive)
@pytest.mark.untraced
def test_more_load_never_needs_fewer_servers_nor_less_money(per_replica: float, peak: float, price: float) -> None:
    demand = Demand(per_replica, peak, 0.0, price)
    table = rows(demand, plan(demand))
    for before, after in itertools.pairwise(table):
        assert before.load < after.load
        assert before.needed <= after.needed
        assert before.given <= after.given
        assert (before.usd or 0) <= (after.usd or 0)
    assert all(0 <= (each.idle_usd or 0) <= (each.usd or 0) for each in table)
