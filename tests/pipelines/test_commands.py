"""`valuetrain pipeline list|show|check|graph`: text for people, one JSON document for programs, honest exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from cli.app import app
from cli.graphs import mermaid, svg
from cli.pipelines import skills
from conductor.pipelines import Catalog, find
from conductor.yamlfile import read
from schemas.pipeline_source import PipelineSource

SVG = "{http://www.w3.org/2000/svg}"
OWN = """\
name: own
description: "Rows & <columns>."
phases:
  - name: look
    agent: data
    mode: discover
    purpose: Look at the source.
    skills: [data.source]
    artifacts: [data-source.json, data-sources.md]
    checklist: looked
    gate: {human: when, when: 'ticket.risk != "low"', quorum: 2}
"""
LATER = OWN.replace("name: own", "name: later").replace("[data.source]", "[data.teleport]")
"""A pipeline with a skill that nobody has."""
LOOKED = "name: looked\ntitle: Looked\nowner: data\nitems:\n  - {id: source-allowed, text: It may be used}\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a pipeline and a checklist of its own."""
    folder = tmp_path / "home" / "pipelines"
    (folder / "checklists").mkdir(parents=True)
    (folder / "own.yaml").write_text(OWN)
    (folder / "later.yaml").write_text(LATER)
    (folder / "checklists" / "looked.yaml").write_text(LOOKED)
    return tmp_path / "home"


def run(home: Path, *words: str, code: int = 0) -> str:
    """What `valuetrain pipeline …` prints."""
    result = CliRunner().invoke(app, ["pipeline", *words, "--home", str(home)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def run_json(home: Path, *words: str, code: int = 0) -> Any:
    """The same with `--json`."""
    return json.loads(run(home, *words, "--json", code=code))


def test_list_says_what_can_run_and_which_skills_are_missing(home: Path) -> None:
    text = run(home, "list")
    assert "ml-delivery        runnable   11 phases" in text
    assert "no agent has these skills yet: look: data.teleport" in text
    rows = {row["pipeline"]: row for row in run_json(home, "list")}
    assert (rows["own"]["runnable"], rows["own"]["shipped"], rows["own"]["phases"]) == (True, False, 1)
    assert rows["later"]["missing_skills"]["look"] == ["data.teleport"]


def test_list_shows_a_broken_one_beside_the_others(home: Path) -> None:
    (home / "pipelines" / "broken.yaml").write_text("name: broken\n")
    rows = {row["pipeline"]: row for row in run_json(home, "list")}
    assert rows["broken"]["runnable"] is False
    assert "broken.yaml:1: description: is missing" in rows["broken"]["problem"]
    assert rows["ml-delivery"]["runnable"] is True
    assert "broken             invalid" in run(home, "list")


def test_show_has_everything_about_a_pipeline(home: Path) -> None:
    text = run(home, "show", "own")
    for words in ("1. look (data, mode discover)", "source-allowed: It may be used", "2 people when ticket.risk"):
        assert words in text
    assert "data.teleport (missing)" in run(home, "show", "later")
    body = run_json(home, "show", "ml-delivery")
    assert (body["pipeline"], body["runnable"], len(body["phases"])) == ("ml-delivery", True, 11)
    assert body["phases"][0]["checklist"][0]["evidence"] == "scope.json"


@pytest.mark.parametrize("words", [("show", "nope"), ("graph", "nope")])
def test_an_unknown_name(home: Path, words: tuple[str, ...]) -> None:
    assert "there is no pipeline 'nope'; there are data-onboarding, later, ml-delivery" in run(home, *words, code=1)
    assert run_json(home, *words, code=1)["error"]["exit"] == 1


def test_check_without_a_file_looks_at_all_there_are(home: Path) -> None:
    assert "checked, 0 wrong" in run(home, "check")
    (home / "pipelines" / "modes").mkdir()
    (home / "pipelines" / "modes" / "dream.yaml").write_text("name: dream\n")
    (home / "pipelines" / "other.yml").write_text(OWN)
    (home / "pipelines" / "checklists" / "looked.yaml").write_text(LOOKED.replace("owner: data", "owner: date"))
    document = run_json(home, "check", code=1)
    said = [f"{Path(p['file']).name}:{p['line']}: {p['field']}" for p in document["problems"]]
    assert {"dream.yaml:1: name", "dream.yaml:1: purpose", "looked.yaml:3: owner", "other.yml:1: "} <= set(said)
    assert {row["kind"] for row in document["checked"] if not row["ok"]} == {"pipeline", "checklist", "mode"}
    assert "looked.yaml:3: owner: is 'date'; did you mean 'data'?" in run(home, "check", code=1)


def test_check_of_files_knows_what_they_are(home: Path, tmp_path: Path) -> None:
    shipped = Catalog().origins
    files = []
    for kind, name in (("mode", "build"), ("checklist", "scope"), ("pipeline", "retrain")):
        path = tmp_path / f"{name}.yaml"
        path.write_text(shipped[kind][name].file.read_text("utf-8"))  # type: ignore[index]
        files.append(str(path))
    rows = run_json(home, "check", *files)["checked"]
    assert [(row["kind"], row["ok"]) for row in rows] == [("mode", True), ("checklist", True), ("pipeline", True)]
    text = run(home, "check", files[2])
    assert "retrain.yaml: ok, a pipeline" in text
    assert "note: no agent has these skills yet" not in text
    note = "later.yaml: note: no agent has these skills yet: look: data.teleport"
    assert note in run(home, "check", str(home / "pipelines" / "later.yaml"))
    assert "no phase has `acceptance: true`" not in text
    own = str(home / "pipelines" / "own.yaml")
    said = "no phase has `acceptance: true`, so a ticket that names acceptance criteria is passed over"
    assert f"own.yaml: note: {said}" in run(home, "check", own)
    assert said in run(home, "show", "own")
    assert said not in run(home, "show", "retrain")
    assert [row["judges_acceptance"] for row in run_json(home, "check", own, files[2])["checked"]] == [False, True]
    assert "nowhere.yaml:1: cannot be read" in run(home, "check", str(tmp_path / "nowhere.yaml"), code=1)


def test_the_picture_is_good_xml_with_a_title_and_every_phase(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "own.svg"
    assert str(target) in run(home, "graph", "own", "--format", "svg", "-o", str(target))
    root = ElementTree.fromstring(target.read_text("utf-8"))
    assert root.get("role") == "img"
    assert (root.get("aria-labelledby") or "").split() == [
        root.find(f"{SVG}title").get("id"),  # type: ignore[union-attr]
        root.find(f"{SVG}desc").get("id"),  # type: ignore[union-attr]
    ]
    texts = ["".join(node.itertext()) for node in root.iter(f"{SVG}text")]
    assert "Rows & <columns>." in texts
    assert 'gate: 2 people when ticket.risk != "low"' in texts
    assert run_json(home, "graph", "own", "--format", "svg")["graph"] == target.read_text("utf-8")


@pytest.mark.parametrize("name", sorted(Catalog().origins["pipeline"]))
def test_every_shipped_pipeline_can_be_drawn_inside_its_frame(name: str) -> None:
    source = find(Catalog(), name, skills())
    root = ElementTree.fromstring(svg(source))
    _, _, width, height = (float(part) for part in (root.get("viewBox") or "").split())
    boxes = [(float(r.get("x", 0)), float(r.get("y", 0)), float(r.get("width", 0)), float(r.get("height", 0)))
             for r in root.iter(f"{SVG}rect")]  # fmt: skip
    assert len(boxes) == len(source.phases) + 1
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in boxes)
    tops = [y for _, y, _, _ in boxes[1:]]
    assert tops == sorted(set(tops))
    assert len(list(root.iter(f"{SVG}path"))) == len(source.phases)  # an arrow between each two, and its tip
    for phase in source.phases:
        assert f'["{phase.name}<br/>' in mermaid(source)


def test_the_mermaid_text_cannot_be_broken_by_a_condition() -> None:
    document = read(OWN.replace("checklist: looked", "checklist: mode-discover"), "own.yaml")
    document.data["phases"][0]["checklist"] = []
    text = mermaid(PipelineSource.model_validate(document.data))
    assert 'g1{"2 people when ticket.risk #33;= #34;low#34;"}' in text
    assert text.startswith("---\ntitle: own 1\n---\nflowchart TD\n")


def test_a_picture_that_cannot_be_written(home: Path, tmp_path: Path) -> None:
    assert "cannot be written" in run(home, "graph", "own", "-o", str(tmp_path), code=1)
    run(home, "graph", "own", "--format", "png", code=2)


FORK = (
    OWN
    + """\
  - name: aside
    agent: data
    mode: discover
    purpose: Look again.
    skills: [data.source]
    after: []
    skip_when: ticket.id > 9.0
    idle_seconds: 60
  - name: plan
    agent: data
    mode: design
    purpose: Plan.
    skills: [data.source]
    after: [look, aside]
  - name: judge
    agent: data
    mode: design
    purpose: Judge.
    skills: [data.source]
    repeat: [{to: plan, when: ticket.id < 2.0, iterations: 2}]
    gate: {human: always, expires_seconds: 90}
"""
)


def test_a_graph_is_drawn_by_what_comes_after_what(home: Path) -> None:
    (home / "pipelines" / "own.yaml").write_text(FORK)
    text = run(home, "graph", "own")
    arrows = ("start --> p1", "start --> p2", "g1 --> p3", "p2 --> p3", "p3 --> p4", "p4 --> g4", "g4 --> done")
    assert [line.strip() for line in text.splitlines() if "-->" in line] == ["start --> p1", "p1 --> g1", *arrows[1:]]
    assert 'g4 -. "when ticket.id #60; 2.0, at most 2 times" .-> p3' in text
    assert "skipped when ticket.id #62; 9.0" in text
    root = ElementTree.fromstring(run(home, "graph", "own", "--format", "svg"))
    paths = [path for path in root.iter(f"{SVG}path") if path.get("marker-end")]
    assert len(paths) == 4  # look and aside to plan, plan to judge, judge back to plan
    assert [path.get("stroke-dasharray") for path in paths].count("6 4") == 1
    assert "plan, after look, aside" in (root.find(f"{SVG}desc").text or "")  # type: ignore[union-attr]
    shown = run(home, "show", "own")
    for words in ("nothing: it starts at once", "look, aside", "when ticket.id > 9.0", "always, within 90 s",
                  "to plan when ticket.id < 2.0, at most 2 times", "60 s without a sign of life"):  # fmt: skip
        assert words in shown
