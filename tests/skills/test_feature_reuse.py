"""The Feature agent is told what the record knows of its columns: definitions used again, and inputs left out."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from agents.skill import InputError
from agents.skills.evaluation.replay import replay
from agents.skills.evaluation.scores import ClassOutcome
from agents.skills.feature.known import NO_WORTH, judge
from agents.skills.feature.pipeline import FeaturePipeline, map_features, signature
from agents.skills.training.inuse import Package
from cli.feature_registry import FeatureFile, uses_of
from cli.features import Told
from schemas.features import FeatureRegistry, FeatureUse
from store.sqlite import SqliteStore
from tests.audit.conftest import blank  # noqa: F401  # an empty record, made once
from tests.audit.homes import completed
from tests.conductor.rig import TENANT
from tests.skills.conftest import DATA, TO_SPLIT, VOTES
from tests.skills.harness import run_chain, run_skill

MADE = datetime(2026, 11, 20, 9, tzinfo=UTC)
SHA = "ab" * 32


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real rows, divided."""
    return run_chain(TO_SPLIT, VOTES, tmp_path_factory.mktemp("votes"), roots=(DATA,))[1]


def told(files: dict[str, Path], session: str = "s1", ticket: int = 3, state: str = "completed", **more: Any) -> Told:
    """A session that left the feature map of these rows, and `more` documents."""
    train = pd.read_parquet(files["train.parquet"])
    documents = {name: json.loads(files[name].read_text("utf-8")) for name in ("data-source.json", "scope.json")}
    features = map_features(train, None, None).model_dump(mode="json")
    row = {"session": session, "status": state, "ticket": ticket}
    return Told(row, {"feature-map.json": features, **documents, **more})


def registry(folder: Path, *sessions: Told) -> dict[str, str]:
    """The facts of an agent beside a record of these sessions."""
    uses = tuple(use for session in sessions for use in uses_of(session, SHA))
    path = folder / "features.json"
    path.write_text(FeatureRegistry(made=MADE, uses=uses).model_dump_json(), "utf-8")
    return {"features": str(path)}


def run(files: dict[str, Path], folder: Path, facts: dict[str, str], **ticket: Any) -> tuple[Any, dict[str, Any], str]:
    output, made = run_skill(FeaturePipeline, VOTES.model_copy(update=ticket), folder, files, facts=facts)
    ElementTree.parse(made["feature-reuse.svg"])
    known = json.loads(made["feature-reuse.json"].read_text("utf-8"))
    return output, known | {"map": json.loads(made["feature-map.json"].read_text())}, made["feature-map.md"].read_text()


def importance(**losses: float) -> dict[str, Any]:
    found = [{"column": name, "loss": loss, "se": 0.0001, "clear": loss > 0.01} for name, loss in losses.items()]
    return {"performance-analysis.json": {"importance": found}}


def of(known: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in known["inputs"] if each["column"] == name)


def test_a_definition_in_good_standing_is_used_again_and_fitted_anew(rows: dict[str, Path], tmp_path: Path) -> None:
    _, alone, page = run(rows, tmp_path, {})
    assert alone["not_asked"] == "this agent runs where the record's features.json is not"
    assert "Other sessions were not asked" in page
    facts = registry(tmp_path, told(rows, "s7", 12, **importance(selfLR=0.2, age=0.05)))
    output, known, page = run(rows, tmp_path, facts)
    assert known["map"] == alone["map"], "a definition is used again: nothing fitted is taken over, nothing changes"
    assert known["count_reused"] == len(known["inputs"]) == len(known["map"]["columns"])
    assert of(known, "age")["ticket"] == 12
    assert (of(known, "age")["session"], of(known, "age")["feature_map"]) == ("s7", SHA)
    assert of(known, "age")["loss_share"] == pytest.approx(0.25)
    assert known["registry_sha256"]
    assert "| reused | the definition of ticket 12 (session s7), fitted anew" in page
    assert "defined as in an earlier session" in output.summary


def test_what_leaked_for_this_target_is_left_out_and_a_person_who_accepted_it_counts(
    rows: dict[str, Path], tmp_path: Path
) -> None:
    tests = [{"test": "single feature", "subject": "PID", "value": 0.99, "threshold": 0.95, "verdict": "suspect"}]
    name = told(rows).documents["feature-map.json"]["columns"][0]["name"]
    tests[0]["subject"] = name
    leak = {"leakage.json": {"tests": tests}}
    output, known, page = run(rows, tmp_path, registry(tmp_path, told(rows, "s1", 4, "blocked", **leak)))
    assert name not in {column["name"] for column in known["map"]["columns"]}
    why = known["map"]["dropped"][name]
    assert why.startswith("left out: suspected of a leak in ticket 4 (session s1): single feature: 0.99, the limit is")
    assert of(known, name)["standing"] == "left out"
    assert "| left out |" in page
    assert any(why in warning for warning in output.warnings)
    accepted = registry(tmp_path, told(rows, "s1", 4, "completed", **leak))
    assert of(run(rows, tmp_path, accepted)[1], name)["standing"] == "reused"
    cleared = registry(tmp_path, told(rows, "s1", 4, "blocked", **leak), told(rows, "s2", **{"leakage.json": {}}))
    assert of(run(rows, tmp_path, cleared)[1], name)["standing"] == "reused", "the newest finding counts"
    other = told(rows, "s1", 4, "blocked", **leak)
    other.documents["scope.json"]["target"] = "income"  # type: ignore[index]
    assert of(run(rows, tmp_path, registry(tmp_path, other))[1], name)["standing"] == "new"
    ignored = run(rows, tmp_path, registry(tmp_path, told(rows, "s1", 4, "blocked", **leak)), reuse=False)[1]
    assert (of(ignored, name)["standing"], ignored["not_asked"]) == ("new", "the ticket says `reuse: false`")


def test_what_was_served_otherwise_than_trained_is_left_out(rows: dict[str, Path], tmp_path: Path) -> None:
    skew = {"impact-report.json": {"inputs": [{"column": "age", "share": 0.125}]}}
    _, known, _ = run(rows, tmp_path, registry(tmp_path, told(rows, "s1", **skew)))
    assert "served otherwise than trained in ticket 3 (session s1): 12.5%" in known["map"]["dropped"]["age"]
    mended = registry(tmp_path, told(rows, "s1", **skew), told(rows, "s2", **{"impact-report.json": {"inputs": []}}))
    assert of(run(rows, tmp_path, mended)[1], "age")["standing"] == "reused"


def test_what_two_sessions_found_without_worth_is_left_out(rows: dict[str, Path], tmp_path: Path) -> None:
    losses = {"selfLR": 0.2, "age": NO_WORTH * 0.2 * 0.5}
    one = registry(tmp_path, told(rows, "s1", **importance(**losses)))
    assert of(run(rows, tmp_path, one)[1], "age")["standing"] == "reused", "one session is not enough"
    two = registry(tmp_path, told(rows, "s1", **importance(**losses)), told(rows, "s2", 5, **importance(**losses)))
    _, known, _ = run(rows, tmp_path, two)
    assert "without worth in 2 sessions" in known["map"]["dropped"]["age"]
    assert "ticket 5 (session s2)" in known["map"]["dropped"]["age"]
    disputed = told(rows, "s0", **importance(selfLR=0.2, age=0.1))
    against = registry(tmp_path, disputed, *[told(rows, f"s{n}", **importance(**losses)) for n in (1, 2)])
    assert of(run(rows, tmp_path, against)[1], "age")["standing"] == "reused"


def test_of_two_that_say_the_same_none_is_left_out_for_its_worth(rows: dict[str, Path]) -> None:
    train = pd.read_parquet(rows["train.parquet"]).assign(years=lambda frame: frame["age"] * 2.0 + 1.0)
    columns = map_features(train, None, None).columns
    [age] = [column for column in columns if column.name == "age"]
    uses = [use(age.name, f"s{n}", loss=0.0, se=0.0, most=0.3, definition=signature([age])) for n in (1, 2)]
    [found] = [each for each in judge(columns, uses, "vote", train) if each.column.name == "age"]
    assert (found.standing, "kept, since years says nearly the same" in found.why) == ("reused", True)
    [found] = [each for each in judge(columns[:-1], uses, "vote", train) if each.column.name == "age"]
    assert found.standing == "left out"


def use(name: str, session: str, **more: Any) -> FeatureUse:
    fields = {
        "session": session, "ticket": 3, "ending": "completed", "map_sha256": SHA, "source": "votes.csv",
        "target": "vote", "metric": "roc_auc", "definition": SHA, "name": name, "kind": "numeric", "impute": "median",
        "encode": "scale",
    }  # fmt: skip
    return FeatureUse(**{**fields, **more})


def test_another_definition_and_an_unfinished_session_are_told_apart(rows: dict[str, Path]) -> None:
    train = pd.read_parquet(rows["train.parquet"])
    columns = [column for column in map_features(train, None, None).columns if column.name == "age"]
    [found] = judge(columns, [use("age", "s1", kind="categorical", encode="one_hot")], "vote", train)
    assert (found.standing, found.why) == (
        "new", "another definition than in ticket 3 (session s1): categorical, median, one_hot there",
    )  # fmt: skip
    [found] = judge(columns, [use("age", "s1", ending="open", definition=signature(columns))], "vote", train)
    assert found.why == "used before, in no session that was completed (the newest: ticket 3 (session s1))"
    assert judge(columns, [], "vote", train)[0].why == "no session used it before"


def test_a_registry_that_is_none_is_refused_and_the_own_session_is_no_other(
    rows: dict[str, Path], tmp_path: Path
) -> None:
    facts = registry(tmp_path, told(rows, "local"))
    assert run(rows, tmp_path, facts)[1]["count_new"] > 0, "a session learns nothing from itself"
    Path(facts["features"]).write_text('{"made": "now"}')
    with pytest.raises(InputError, match=r"features\.json cannot be read"):
        run(rows, tmp_path, facts)


def test_the_file_is_made_from_artifacts_whose_digests_fit(
    rows: dict[str, Path],
    tmp_path: Path,
    blank: Path,  # noqa: F811
) -> None:
    extra = {name: json.dumps(document).encode() for name, document in told(rows).documents.items()}
    place = completed(tmp_path / "home", blank, extra)
    path = place.home.path / "features.json"
    with closing(SqliteStore.open(place.home.record)) as store:
        file = FeatureFile(store, TENANT, place.blobs, path)
        file.write()
        found = FeatureRegistry.model_validate_json(path.read_bytes())
        assert {each.name for each in found.uses} == {
            c["name"] for c in told(rows).documents["feature-map.json"]["columns"]
        }
        assert {(each.source, each.target, each.ending) for each in found.uses} == {("votes.csv", "vote", "completed")}
        assert file.registry().uses == found.uses
        [blob] = [p for p in (place.home.blobs / "open").rglob(found.uses[0].map_sha256) if p.is_file()]
        blob.chmod(0o600)
        blob.write_bytes(blob.read_bytes().replace(b"age", b"agE"))
        again = FeatureFile(store, TENANT, place.blobs, path).registry()
    assert (again.uses, len(again.left_out)) == ((), 1)
    assert "is left out: BlobCorrupt" in again.left_out[0]
    assert not list(place.home.path.glob("features.*.tmp"))


def test_an_input_that_a_request_changes_is_found(monkeypatch: pytest.MonkeyPatch, rows: dict[str, Path]) -> None:
    """A float that JSON cannot carry exactly as trained: here the request rounds it."""
    import numpy as np

    from agents.skills.evaluation import replay as module

    train = pd.read_parquet(rows["train.parquet"]).head(40)
    mapped = map_features(train, None, None)
    scope = json.loads(rows["scope.json"].read_text("utf-8"))
    files = {"feature-map.json": mapped.model_dump_json().encode(), "scope.json": json.dumps(scope).encode()}
    package = Package("p.zip", SHA, {}, files | {"model.skops": b""}, b"")
    monkeypatch.setattr("agents.skills.training.modelfile.loads_model", lambda name, data: None)
    half = np.full((len(train), 2), 0.5)
    monkeypatch.setattr(module, "_answer", lambda model, package, requests: half)
    outcome = ClassOutcome(np.zeros(len(train), dtype=np.intp), half)
    assert replay(package, train, outcome).inputs == {}
    plain = module._request

    def rounded(row: dict[Any, Any]) -> str:
        return plain({**row, "age": row["age"] // 10 * 10})

    monkeypatch.setattr(module, "_request", rounded)
    found = replay(package, train, outcome).inputs
    assert list(found) == ["age"]
    assert 0.5 < found["age"] < 1.0
