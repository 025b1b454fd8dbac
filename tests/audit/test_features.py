"""Definitions of inputs over sessions: the same one is found again, with what it was worth and cost elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from agents.skills.evaluation.featurecosts import as_json, input_costs
from agents.skills.feature.pipeline import map_features
from cli.features import Told, definitions, sentence
from tests.audit.homes import completed

VOTES = Path(__file__).resolve().parents[1] / "data" / "votes.csv"
SCOPE = {
    "task": "classification", "target": "vote", "metric": "roc_auc", "higher_is_better": True,
    "classes": ["Clinton", "Dole"], "acceptance": [], "acceptance_from": "ticket", "budget_minutes": 1,
    "budget_usd": 1,
}  # fmt: skip


def told(session: str, frame: pd.DataFrame, **documents: Any) -> Told:
    """A session with the feature map that the train makes of these rows."""
    row = {"session": session, "status": "completed", "ticket": 3}
    features = map_features(frame, None, None).model_dump(mode="json")
    return Told(row, {"feature-map.json": features, "scope.json": SCOPE} | documents)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return pd.read_csv(VOTES).drop(columns="vote")


def test_one_definition_of_two_tickets_is_one_row(rows: pd.DataFrame) -> None:
    """The same column prepared otherwise is another definition."""
    text = rows.assign(educ=[f"level {value}" for value in rows["educ"]])
    found, problems = definitions([told("s1", rows), told("s2", rows.drop(columns="age")), told("s3", text)])
    assert problems == []
    of = {(row["name"], row["kind"]): [use["session"] for use in row["uses"]] for row in found}
    assert of["age", "numeric"] == ["s1", "s3"]
    assert of["income", "numeric"] == ["s1", "s2", "s3"]
    assert (of["educ", "numeric"], of["educ", "categorical"]) == (["s1", "s2"], ["s3"])
    assert len({row["definition"] for row in found}) == len(found)
    counts = [len(row["uses"]) for row in found]
    assert counts == sorted(counts, reverse=True)


def test_worth_and_cost_are_those_measured_in_that_session(rows: pd.DataFrame) -> None:
    importance = [{"column": "age", "loss": 0.031, "se": 0.004, "clear": True}]
    costs = {"inputs": as_json(input_costs(rows, map_features(rows, None, None)))}
    measured = told("s1", rows, **{"performance-analysis.json": {"importance": importance}, "robustness.json": costs})
    found, _ = definitions([measured, told("s2", rows)])
    [age] = [row["uses"] for row in found if row["name"] == "age"]
    assert (age[0]["loss"], age[0]["clear"], age[1]["loss"], age[1]["row_us"]) == (0.031, True, None, None)
    assert age[0]["row_us"] > 0
    assert "target vote: without it roc_auc loses 0.031 ± 0.004 (clear)" in sentence(age[0])
    assert sentence(age[1]) == "session s2 (completed), ticket 3, target vote"
    [income] = [row["uses"] for row in found if row["name"] == "income"]
    assert income[0]["loss"] is None


@pytest.mark.parametrize("broken", [{"columns": "all"}, [], {"columns": [{"name": 1}], "dropped": {}, "signature": ""}])
def test_a_session_that_cannot_be_read_is_named_and_the_others_are_told(rows: pd.DataFrame, broken: Any) -> None:
    bad = Told({"session": "s1", "status": "completed", "ticket": 1}, {"feature-map.json": broken})
    found, problems = definitions([bad, told("s2", rows)])
    assert len(found) == rows.shape[1]
    assert problems[0].startswith("session s1 is left out")
    assert all([use["session"] for use in row["uses"]] == ["s2"] for row in found)


def test_the_command_reads_the_record(rows: pd.DataFrame, tmp_path: Path, blank: Path) -> None:
    documents = told("s1", rows).documents
    extra = {name: json.dumps(document).encode() for name, document in documents.items()}
    place = completed(tmp_path / "home", blank, extra)
    code, found = place.run("feature", "list", "--column", "age")
    assert (code, found["left_out"]) == (0, [])
    [row] = found["definitions"]
    [use] = row["uses"]
    assert (row["name"], use["target"], use["ticket"]) == ("age", "vote", 12)
    said = place.say("feature", "list")
    assert f"definition {row['definition'][:12]}, sessions: 1" in said
    assert place.say("feature", "list", "--column", "height") == "No session used a column 'height'.\n"
    for path in (place.home.blobs / "open").rglob("*"):
        if path.is_file() and path.read_bytes() == extra["feature-map.json"]:
            path.unlink()
    code, found = place.run("feature", "list")
    assert (code, found["definitions"]) == (0, [])
    assert "is left out" in found["left_out"][0], "an artifact that was removed is named, not passed over"


def test_a_home_without_feature_maps_says_so(tmp_path: Path, blank: Path) -> None:
    place = completed(tmp_path / "home", blank)
    assert place.run("feature", "list") == (0, {"definitions": [], "left_out": []})
    assert "No session has made a feature map yet." in place.say("feature", "list")
