"""Pipeline files: what is wrong with one is said with file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from conductor.pipelines import PipelineError, _line, load, parse

GOOD = """\
name: mine
description: Mine.
phases:
  - name: first
    agent: data
    mode: build
    purpose: Do it.
    skills: [data.extract]
    artifacts: [a.json]
    criteria:
      - data.rows > 1.0
      - data.rows < 9.0
    gate:
      human: when
      when: data.rows > 5.0
  - name: second
    agent: risk
    mode: evaluate
    purpose: Judge it.
    skills: [risk.profile]
"""


def test_a_good_file() -> None:
    definition = parse(GOOD, "mine.yaml", "mine")
    assert [p.name for p in definition.phases] == ["first", "second"]
    assert definition.phases[0].criteria == ("data.rows > 1.0", "data.rows < 9.0")
    assert parse(GOOD, "mine.yaml") == definition


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("agent: risk", "agent: boss", "mine.yaml:17: phases.1.agent: Input should be 'lead'"),
        ("    agent: risk\n", "", "mine.yaml:16: phases.1.agent: Field required"),
        ("mode: build", "mode: dream", "mine.yaml:6: phases.0.mode: Input should be"),
        ("purpose: Do it.", "purpos: Do it.", "mine.yaml:4: phases.0.purpose: Field required"),
        ("purpose: Judge it.", "purpose: Judge it.\n    extra: 1", "mine.yaml:20: phases.1.extra: Extra inputs"),
        ("name: second", "name: first", "mine.yaml:1: the file: Value error, phase named twice: first"),
        ("name: second", "name: Second", "mine.yaml:16: phases.1.name: String should match"),
        ("artifacts: [a.json]", "artifacts: [a.json, a.json]", "mine.yaml:4: phases.0: Value error, artifact named"),
        ("artifacts: [a.json]", "sign: [a.json]", "mine.yaml:4: phases.0: Value error, `sign` names what is not"),
        ("artifacts: [a.json]", "artifacts: [a/b]", "mine.yaml:9: phases.0.artifacts.0: String should match"),
        ("artifacts: [a.json]", "artifacts: [a.dsse.json]", "signatures are made by `sign`, not by the phase"),
        ("data.rows < 9.0", "data.rows <", "mine.yaml:12: criterion 'data.rows <' is not valid CEL"),
        ("data.rows < 9.0", '"[1].all(x, true)"', "mine.yaml:12: criterion '[1].all(x, true)' loops over a list"),
        ("when: data.rows > 5.0", "when: data.rows >", "mine.yaml:15: criterion 'data.rows >' is not valid CEL"),
        ("      when: data.rows > 5.0\n", "", "mine.yaml:13: phases.0.gate: Value error, `when: <criterion>` goes"),
        ("human: when", "human: never", "phases.0.gate: Value error, `when: <criterion>` goes with"),
        ("name: mine\n", "name: yours\n", "mine.yaml: the file's name and `name: yours` must be the same"),
        ("description: Mine.", "description: [", "mine.yaml:4: not YAML: expected the node content"),
        ("description: Mine.", "description: 2026-13-45", "mine.yaml: not YAML: month must be in 1..12"),
        ("description: Mine.", "description: !!python/object:os.x", "mine.yaml:2: not YAML: could not determine a"),
        ("description: Mine.", "description: A\n...\n---\n", "mine.yaml:4: not YAML: but found another document"),
        ("description: Mine.", "description: \x00", "mine.yaml: not YAML: "),
        ("    gate:\n", "    criteria: []\n    gate:\n", "mine.yaml:13: 'criteria' is given twice"),
        ("name: mine\n", "name: mine\nname: mine\n", "mine.yaml:2: 'name' is given twice"),
        ("description: Mine.", "description: {? [a] : b}", "mine.yaml:2: not YAML: found unhashable key"),
        ("phases:", "phases: []\nrest:", "mine.yaml:3: phases: Tuple should have at least 1 item"),
        ("version", "version", None),
    ],
)
def test_what_is_wrong_and_where(old: str, new: str, said: str | None) -> None:
    text = GOOD.replace(old, new)
    if said is None:
        assert parse(text, "mine.yaml", "mine")
        return
    assert text != GOOD
    with pytest.raises(PipelineError) as caught:
        parse(text, "mine.yaml", "mine")
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a", "just words", "42"])
def test_what_is_no_definition_at_all(text: str) -> None:
    with pytest.raises(PipelineError, match=r"x\.yaml:1: the file: Input should be"):
        parse(text, "x.yaml")


def test_the_line_of_what_is_not_there_is_that_of_what_should_hold_it() -> None:
    tree = yaml.compose(GOOD, Loader=yaml.SafeLoader)
    assert _line(tree, ("phases", 1, "gate", "when")) == 16
    assert _line(tree, ("phases", 1, "agent", "deeper", 0)) == 17
    assert _line(tree, ("phases", 9, "agent")) == 3
    assert _line(tree, ()) == 1
    assert _line(None, ("name",)) == 1


def test_an_anchor_that_holds_itself() -> None:
    with pytest.raises(PipelineError, match=r"x\.yaml:\d+: "):
        parse("name: x\ndescription: &a [*a]\n", "x.yaml")


def test_an_anchor_used_twice_is_no_double() -> None:
    text = GOOD.replace("skills: [data.extract]", "skills: &s [data.extract]").replace("[risk.profile]", "*s")
    assert parse(text, "mine.yaml").phases[1].skills == ("data.extract",)


def test_the_shipped_pipelines_are_good() -> None:
    definition = load("ml-delivery")
    assert len(definition.phases) == 11
    assert definition.phases[0].name == "scope"


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    with pytest.raises(PipelineError, match=r"there is no pipeline 'yours'; there are .*mine.*ml-delivery"):
        load("yours", [tmp_path, tmp_path / "missing"])


def test_the_user_s_own_come_first_in_the_order_given(tmp_path: Path) -> None:
    for index in (1, 2):
        folder = tmp_path / str(index)
        folder.mkdir()
        (folder / "mine.yaml").write_text(GOOD.replace("Mine.", f"Number {index}."))
    folders = [tmp_path / "1", tmp_path / "2"]
    assert load("mine", folders).description == "Number 1."
    assert load("mine", folders[::-1]).description == "Number 2."
    own = GOOD.replace("name: mine", "name: ml-delivery")
    (tmp_path / "1" / "ml-delivery.yaml").write_text(own)
    assert load("ml-delivery", folders).description == "Mine."


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PipelineError, match=r"mine\.yaml: cannot be read as UTF-8 text"):
        load("mine", [tmp_path])
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(PipelineError, match=r"folder\.yaml: cannot be read"):
        load("folder", [tmp_path])
