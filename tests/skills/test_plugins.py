"""Plugins: found where the settings say, described in a child, kept from what gates read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from agents import discovery
from agents.plugins import PluginError, PluginSkill, claims, find
from agents.port import AttemptError
from agents.skill import SkillOutput
from agents.tools import tool
from agents.workbench import Workbench
from schemas.values import FailureClass, Measurement, Mode, Role
from tests.skills.test_workbench import _bench
from workspace.children import ForkServer

SKILL = """
import os
from pathlib import Path
from pydantic import Field
from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from schemas.values import Measurement, Mode, Role

class Words(Parameters):
    word: str = Field(default="hello", description="What to say.")

class Say(Skill[Words, SkillOutput]):
    '''Say a word.'''
    name = {name!r}
    role = Role.TRAINING
    modes = frozenset({{Mode.BUILD}})
    produces = ("said.json",)
    parameters = Words
    {more}

    def run(self, parameters, context):
        context.write_json("said.json", {{"word": parameters.word, "pid": os.getpid(), "env": dict(os.environ)}})
        return SkillOutput(summary="said", measurements=(Measurement(scope={scope!r}, name="words", value=1.0),))
"""


def plugin(folder: Path, name: str = "acme.say", more: str = "", scope: str = "acme", file: str = "say.py") -> Path:
    """A folder with a plugin in it."""
    folder.mkdir(exist_ok=True)
    (folder / file).write_text(SKILL.format(name=name, more=more, scope=scope), "utf-8")
    return folder


@pytest.fixture(autouse=True)
def _none_left() -> Iterator[None]:
    yield
    discovery.use(())


def test_it_is_described_and_not_imported_here(tmp_path: Path) -> None:
    trace = tmp_path / "imported-by"
    folder = plugin(tmp_path / "skills")
    (folder / "say.py").write_text(
        (folder / "say.py").read_text("utf-8")
        + f"\nPath({str(trace)!r}).write_text(str(os.getpid()))\nprint('noise')\n",
        "utf-8",
    )
    (folder / "_helper.py").write_text("raise RuntimeError", "utf-8")
    [cls] = find([folder], [])
    assert trace.read_text("utf-8") != str(os.getpid())
    assert (cls.name, cls.role, cls.modes) == ("acme.say", Role.TRAINING, {Mode.BUILD})
    assert tool(cls)["function"]["parameters"]["properties"]["word"]["description"] == "What to say."
    with pytest.raises(NotImplementedError):
        cls().run(cls.parameters(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "data.profile"}, "area 'data' is the train's own"),
        ({"name": "metrics.say"}, "area 'metrics' is the train's own"),
        ({"name": "ticket.say"}, "area 'ticket' is the train's own"),
        ({"name": "Say"}, "write AREA.verb"),
        ({"more": "harness = True"}, "only shipped skills measure what gates read"),
        ({"more": "sealed = ('said.json',)"}, "seals artifacts"),
        ({"more": "produces = ('metrics.json',)"}, "metrics.json, which only the harness writes"),
        ({"more": "produces = ('../said.json',)"}, "is no file name"),
        ({"more": "modes = frozenset()"}, "`modes` is empty"),
        ({"more": "seconds = -1"}, "`seconds` is -1"),
        ({"more": "raise ValueError('broken')"}, "ValueError: broken"),
        ({"more": "os._exit(3)"}, "ended the process (exit 3"),
    ],
)
def test_what_a_plugin_may_not_be(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    with pytest.raises(PluginError, match="plugin") as caught:
        find([plugin(tmp_path / "skills", **changes)], [])
    assert words in str(caught.value)


def test_what_cannot_be_found_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="skill_folders"):
        find([tmp_path / "gone"], [])
    with pytest.raises(PluginError, match="not installed"):
        find([], ["no-such-package"])
    with pytest.raises(PluginError, match=r"no entry point in the group valuetrain\.skills"):
        find([], ["pytest"])
    (tmp_path / "empty.py").write_text("x = 1", "utf-8")
    with pytest.raises(PluginError, match="no subclass"):
        find([tmp_path], [])


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    folder = plugin(plugin(tmp_path / "skills"), file="other.py")
    with pytest.raises(PluginError, match=r"acme\.say is also in"):
        find([folder], [])


def test_named_by_nobody_it_is_not_there(tmp_path: Path) -> None:
    discovery.use(find([plugin(tmp_path / "skills")], []))
    assert "acme.say" in discovery.skills()
    discovery.use(())
    assert "acme.say" not in discovery.skills()


async def _work(tmp_path: Path, parameters: dict[str, Any]) -> tuple[Any, Workbench]:
    async with ForkServer() as children:
        bench = _bench(tmp_path, children)
        return await bench.run("acme.say", parameters), bench


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = plugin(tmp_path / "skills")
    discovery.use(find([folder], []))
    monkeypatch.setattr("agents.workbench.skill", discovery.skill)
    monkeypatch.setenv("ACME_TOKEN", "secret-of-the-agent")
    return folder


def test_it_runs_in_a_child_without_our_environment(tmp_path: Path, known: Path) -> None:
    result, bench = anyio.run(_work, tmp_path, {"word": "there"})
    said = bench._blobs.path(result.artifacts[0].sha256).read_text("utf-8")
    assert '"word": "there"' in said
    assert "secret-of-the-agent" not in said
    assert f'"pid": {os.getpid()}' not in said
    assert [w for w in result.warnings if w.startswith("acme.say is a plugin's skill (file say.py, SHA-256")]


def test_wrong_parameters_are_an_input_failure(tmp_path: Path, known: Path) -> None:
    with pytest.raises(AttemptError, match="words: Extra inputs") as caught:
        anyio.run(_work, tmp_path, {"words": "x"})
    assert caught.value.failure is FailureClass.INPUT


def test_a_file_that_changed_is_not_run(tmp_path: Path, known: Path) -> None:
    plugin(known, more="# changed")
    with pytest.raises(AttemptError, match="was changed since it was read"):
        anyio.run(_work, tmp_path, {})


def test_it_measures_its_own_area_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    discovery.use(find([plugin(tmp_path / "skills", scope="risk")], []))
    monkeypatch.setattr("agents.workbench.skill", discovery.skill)
    with pytest.raises(AttemptError, match="figures of acme only, not of risk") as caught:
        anyio.run(_work, tmp_path, {})
    assert caught.value.failure is FailureClass.POLICY


def test_it_proposes_no_acceptance(tmp_path: Path) -> None:
    [cls] = find([plugin(tmp_path / "skills")], [])
    assert issubclass(cls, PluginSkill)
    assert "acceptance" in claims(cls, SkillOutput(summary="x", acceptance=("metrics.roc_auc >= 0.1",)))
    own = Measurement(scope="acme", name="x", value=1.0)
    assert claims(cls, SkillOutput(summary="x", measurements=(own,))) == ""
