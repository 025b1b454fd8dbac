"""docs/pipelines.md: its example is loaded and checked as it stands, its tables name what there is, and it runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from cli.pipelines import skills
from conductor.pipelines import Catalog, PipelineError, load
from schemas.pipeline import GateDefinition, PipelineDefinition, RepeatRule, RetryPolicy
from schemas.pipeline_source import Checklist, EvidencedItem, ModeDefinition, ModeLimits, PhaseSource
from schemas.values import Mode, Role
from tests.integration.train import make

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "pipelines.md").read_text("utf-8")
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```yaml\n(.*?)```", PAGE, flags=re.DOTALL))

CHECKLIST = "checklists/fit-for-training.yaml"
MODELS = [
    PipelineDefinition,
    PhaseSource,
    GateDefinition,
    RepeatRule,
    RetryPolicy,
    Checklist,
    EvidencedItem,
    ModeDefinition,
]


def write(folder: Path, files: dict[str, str]) -> Path:
    """The files of the example below `folder`."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return folder


def test_the_example_can_be_run(tmp_path: Path) -> None:
    assert set(FILES) == {"data-check.yaml", CHECKLIST}
    definition = load("data-check", [write(tmp_path, FILES)], skills())
    assert [phase.name for phase in definition.phases] == ["scope", "data-sources", "extraction", "quality"]
    assert [item.id for item in definition.phases[3].checklist] == re.findall(r"- id: (.+)", FILES[CHECKLIST])


def test_the_mistakes_it_shows_are_answered_as_it_shows(tmp_path: Path) -> None:
    shown = [line for line in PAGE.splitlines() if line.startswith("data-check.yaml:")]
    text = FILES["data-check.yaml"].replace("data.rows >=", "data.rws >=").replace("agent: data", "agent: dta", 1)
    folder = write(tmp_path, FILES | {"data-check.yaml": text})
    with pytest.raises(PipelineError) as caught:
        load("data-check", [folder])
    assert [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems] == shown


@pytest.mark.parametrize("model", [*MODELS, ModeLimits])
def test_every_field_is_documented(model: type[BaseModel]) -> None:
    for name in model.model_fields:
        assert f"`{name}`" in PAGE


def test_every_agent_mode_and_shipped_pipeline_is_named() -> None:
    for name in (*Role, *Catalog().origins["pipeline"]):
        assert f"`{name}`" in PAGE
    for mode in Mode:
        leads_to = ", ".join(f"`{other.value}`" for other in Catalog().mode(mode).leads_to)
        assert re.search(rf"^\| `{mode.value}` \|.*\| {leads_to} \|$", PAGE, flags=re.MULTILINE)


@pytest.mark.slow
def test_a_drive_takes_the_example_and_refuses_what_no_agent_can_do(tmp_path: Path) -> None:
    train = make(tmp_path / "repo")
    write(train.home / "pipelines", FILES)
    later = FILES["data-check.yaml"].replace("name: data-check", "name: later").replace("[lead.scope]", "[lead.dream]")
    (train.home / "pipelines" / "later.yaml").write_text(later)
    data = train.data("wine.csv")
    train.ticket(1, "Is it fit", data=data, target="cultivar", pipeline="data-check")
    train.ticket(2, "A new model", data=data, target="cultivar", pipeline="later")
    ran = train.run("drive", "--backlog", "backlog", "--json")
    summary = ran.json
    assert [row["ticket"] for row in summary["completed"]] == [1], summary
    (skipped,) = summary["skipped"]
    assert skipped["ticket"] == 2
    assert "pipeline 'later' cannot run: no agent has these skills yet: scope wants lead.dream" in skipped["reason"]
    sessions = train.run("session", "list", "--json").json
    assert [row["ticket"] for row in sessions] == [1]
