"""`valuetrain skill`, and the example plugin: built, installed, named in the settings, and driven."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.app import app
from tests.integration.train import DATA, ROOT, Train, make

PAGE = (ROOT / "docs" / "skills.md").read_text("utf-8")
INPUT = re.findall(r"<!-- file: wine.yaml -->\n```yaml\n(.*?)```", PAGE, flags=re.DOTALL)[0]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    train = make(tmp_path / "repo")
    shutil.copy(DATA / "wine.csv", train.repo)
    (train.repo / "wine.yaml").write_text(INPUT, "utf-8")
    return train


def test_skills_of_one_folder_build_on_each_other(train: Train) -> None:
    for skill in ("lead.scope", "data.source", "data.extract"):
        ran = train.run("skill", "run", skill, "--input", "wine.yaml", "-o", "out", "--json")
        assert ran.code == 0, ran.err
    assert ran.json["measurements"] == {"data.columns": 13.0, "data.rows": 178.0}
    assert {a["name"]: a["sealed"] for a in ran.json["artifacts"]} == {
        "dataset.parquet": True,
        "schema-spec.json": False,
    }
    assert json.loads((train.repo / "out" / "output.json").read_text("utf-8"))["skill"] == "data.extract"
    assert (train.repo / "out" / "dataset.parquet").stat().st_size > 0
    assert not (train.home / "record.db").exists()


@pytest.mark.parametrize(
    ("skill", "given", "words"),
    [
        ("data.sourc", INPUT, "did you mean data.source"),
        ("data.extract", INPUT, "needs scope.json, data-source.json: name each under `artifacts`"),
        ("data.source", "tickt: {}", "`tickt`: Extra inputs are not permitted; fields are ticket"),
        ("data.source", "ticket: {id: 1, title: x, risk: huge}", "`ticket.risk`"),
        ("data.source", "ticket: none.md", "none.md cannot be read"),
        ("data.source", "- a list", "must be a mapping"),
        ("data.source", "a: [", "cannot be read"),
        ("data.source", "artifacts: {scope.json: x}", "does not read scope.json; artifacts it reads are none"),
        ("data.source", "mode: operate", "is for mode design, discover, not operate"),
        ("data.source", "parameters: {rows: 3}", "parameters cannot be used: rows: Extra inputs"),
        ("data.source", "ticket: {data: gone.csv, target: y}", "(input failure)"),
    ],
)
def test_what_cannot_be_run_is_named(tmp_path: Path, skill: str, given: str, words: str) -> None:
    (tmp_path / "wine.yaml").write_text(given, "utf-8")
    place = ["--home", str(tmp_path / "home"), "-o", str(tmp_path / "out")]
    ran = CliRunner().invoke(app, ["skill", "run", skill, "--input", str(tmp_path / "wine.yaml"), *place])
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_skill_is_shown_with_its_schema_as_a_tool() -> None:
    shown = json.loads(CliRunner().invoke(app, ["skill", "show", "data.profile", "--json"]).stdout)
    function = shown["tool"]["function"]
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", function["name"])
    assert function["description"] == f"{shown['description']} Needs: train.parquet, scope.json."
    assert function["parameters"]["type"] == "object"
    listed = {row["skill"]: row for row in json.loads(CliRunner().invoke(app, ["skill", "list", "--json"]).stdout)}
    assert listed["data.profile"]["produces"] == shown["produces"]


@pytest.mark.slow
def test_the_example_plugin_is_built_installed_and_driven(tmp_path: Path) -> None:
    site = tmp_path / "site"
    package = shutil.copytree(ROOT / "examples" / "plugin", tmp_path / "plugin")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--no-compile", "--target", str(site), str(package)], check=True, timeout=120)
    train = make(tmp_path / "repo")
    train.ticket(1, "Tell cultivars apart", pipeline="outlier-check", data=train.data("wine.csv"), target="cultivar")
    train.settings["PYTHONPATH"] = f"{ROOT}:{site}"
    (train.home / "pipelines").mkdir(exist_ok=True)
    shutil.copy(package / "pipelines" / "outlier-check.yaml", train.home / "pipelines")
    without = train.run("pipeline", "list", "--json").json
    assert [row["missing_skills"] for row in without if row["pipeline"] == "outlier-check"] == [
        {"outliers": ["outliers.count"]}
    ]
    with (train.home / "config.yaml").open("a", encoding="utf-8") as config:
        config.write("skill_packages: [valuetrain-outliers]\n")
    assert train.run("pipeline", "check").code == 0
    assert "package valuetrain-outliers 0.1.0" in train.run("skill", "list").out
    drive = train.run("drive", "--backlog", "backlog", "--json")
    assert drive.code == 0, drive.err + drive.out
    session = drive.json["completed"][0]["session"]
    shown = train.run("session", "show", session, "--json").out
    assert "outliers.json" in shown
    assert "outliers.count is a plugin's skill (package valuetrain-outliers 0.1.0), not a shipped one" in (
        shown + train.run("tail", "--session", session, "--json").out
    )


def test_a_plugin_that_is_missing_stops_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VALUETRAIN_SKILL_PACKAGES", '["no-such-package"]')
    ran = CliRunner().invoke(app, ["pipeline", "list", "--home", str(tmp_path)])
    assert ran.exit_code == 1
    assert "plugin package no-such-package: it is not installed in this environment" in ran.stderr
