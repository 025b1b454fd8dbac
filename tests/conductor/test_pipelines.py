"""Pipeline files: what is wrong with one is said with file, line, field and what to do, all of it at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from conductor.pipelines import Catalog, PipelineError, SkillFacts, check, find, load, missing_skills, parse
from conductor.yamlfile import Problem, read
from schemas.values import Mode, Role

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
    needs: [a.json]
    checklist:
      - {id: judged, text: It is judged, evidence: a.json}
"""
CATALOG = Catalog()


def wrong(text: str, name: str | None = "mine", catalog: Catalog = CATALOG) -> list[str]:
    """Every problem of the text, as people see it."""
    with pytest.raises(PipelineError) as caught:
        check(read(text, "mine.yaml"), name, catalog)
    assert str(caught.value).startswith(str(caught.value.problems[0]))
    return [str(problem) for problem in caught.value.problems]


def test_a_good_file() -> None:
    definition = parse(GOOD, "mine.yaml", "mine")
    assert [p.name for p in definition.phases] == ["first", "second"]
    assert definition.phases[0].criteria == ("data.rows > 1.0", "data.rows < 9.0")
    assert parse(GOOD, "mine.yaml") == definition


def test_what_only_the_check_needs_is_not_recorded() -> None:
    recorded = parse(GOOD, "mine.yaml").model_dump(mode="json")["phases"][1]
    assert not {"needs", "measures"} & set(recorded)
    assert recorded["checklist"] == [{"id": "judged", "text": "It is judged", "required": True}]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("agent: risk", "agent: rsk", "mine.yaml:17: phases.1.agent: is 'rsk'; did you mean 'risk'? known are data,"),
        ("    agent: risk\n", "", "mine.yaml:16: phases.1.agent: is missing; add `agent: …`"),
        ("mode: build", "mode: dream", "mine.yaml:6: phases.0.mode: is 'dream'; known are build, deliver, design,"),
        ("purpose: Do it.", "purpos: Do it.", "mine.yaml:7: phases.0.purpos: is no known field; did you mean 'p"),
        ("purpose: Judge it.", "purpose: Judge it.\n    extra: 1", "mine.yaml:20: phases.1.extra: is no known field;"),
        ("human: when", "humn: when", "mine.yaml:14: phases.0.gate.humn: is no known field; did you mean 'human'?"),
        ("name: second", "name: first", "mine.yaml:16: phases.1.name: phase 'first' is named twice;"),
        ("name: second", "name: Second", "mine.yaml:16: phases.1.name: is 'Second', but it must be 2 to 41 lower-case"),
        ("[a.json]", "[a.json, a.json]", "mine.yaml:9: phases.0.artifacts.1: artifact 'a.json' is named twice"),
        ("[risk.profile]", "[risk.profile, risk.profile]", "phases.1.skills.1: skill 'risk.profile' is named twice"),
        ("    artifacts: [a.json]", "    sign: [a.json]", "mine.yaml:4: phases.0: `sign` names what is not among the"),
        ("[a.json]", "[a/b]", "mine.yaml:9: phases.0.artifacts.0: is 'a/b', but it must be one file name of"),
        ("[a.json]", "[a.dsse.json]", "mine.yaml:4: phases.0: signatures are made by `sign`, not by the phase"),
        ("[a.json]", "a.json", "mine.yaml:9: phases.0.artifacts: is 'a.json', but must be a list, such as `[a, b]`"),
        ("skills: [data.extract]", "skills: []", "mine.yaml:8: phases.0.skills: must have at least 1 entry"),
        ("purpose: Do it.", "purpose: no", "mine.yaml:7: phases.0.purpose: is 'False', but must be text; put quotes"),
        ("data.rows < 9.0", "data.rows <", "mine.yaml:12: phases.0.criteria.1: criterion 'data.rows <' is not valid"),
        ("data.rows < 9.0", '"[1].all(x, true)"', "mine.yaml:12: phases.0.criteria.1: criterion '[1].all(x, true)' l"),
        ("data.rows < 9.0", "data.rws < 9.0", "mine.yaml:12: phases.0.criteria.1: criterion 'data.rws < 9.0' reads"),
        ("data.rows < 9.0", "risk.tier < 1.0", "reads risk.tier, which nothing measures up to this phase"),
        ("data.rows < 9.0", "data.rows < 'x'", "phases.0.criteria.1: criterion \"data.rows < 'x'\" compares a double"),
        ("data.rows < 9.0", "data.rows > 1.0", "mine.yaml:12: phases.0.criteria.1: criterion 'data.rows > 1.0' is nam"),
        ("when: data.rows > 5.0", "when: data.rows >", "mine.yaml:15: phases.0.gate.when: criterion 'data.rows >' is"),
        ("when: data.rows > 5.0", "when: data.rows", "phases.0.gate.when: criterion 'data.rows' comes to a double"),
        ("      when: data.rows > 5.0\n", "", "mine.yaml:13: phases.0.gate: `when: <criterion>` goes with `human:"),
        ("human: when", "human: never", "mine.yaml:13: phases.0.gate: `when: <criterion>` goes with"),
        ("    gate:\n", "    gate:\n      quorum: 2\n      human: never\n    x:\n", "phases.0.gate.quorum: is without"),
        ("name: mine\n", "name: yours\n", "mine.yaml:1: name: is 'yours', but the file is mine.yaml: both must be"),
        ("description: Mine.", "description: [", "mine.yaml:4: not YAML: expected the node content"),
        ("description: Mine.", "description: !!python/object:os.x", "mine.yaml:2: description: uses the tag"),
        ("description: Mine.", "description: !!set {a}", "mine.yaml:2: description: uses the tag 'set'"),
        ("description: Mine.", "description: A\n...\n---\n", "mine.yaml:4: not YAML: but found another document"),
        ("description: Mine.", "description: \x00", "mine.yaml:2: not YAML: special characters are not allowed"),
        ("description: Mine.", "description: {? [a] : b}", "mine.yaml:2: description: has a field name that is no"),
        ("description: Mine.", "<<: {a: b}", "mine.yaml:2: `<<` is not taken; write the fields out"),
        ("description: Mine.", "version: " + "9" * 5000, "mine.yaml:2: version: '9999"),
        ("description: Mine.", "description:\n\t- x", "use spaces, not tabs"),
        ("description: Mine.", "description: a: b", "put quotes around a value with a colon in it"),
        ("    gate:\n", "    criteria: []\n    gate:\n", "mine.yaml:13: phases.0.criteria: 'criteria' is given twice"),
        ("name: mine\n", "name: mine\nname: mine\n", "mine.yaml:2: name: 'name' is given twice; keep one of the two"),
        ("phases:", "phases: []\nrest:", "mine.yaml:3: phases: must have at least 1 entry"),
        ("needs: [a.json]", "needs: [b.json]", "mine.yaml:21: phases.1.needs.0: needs 'b.json', which no phase"),
        ("needs: [a.json]", "needs: [a.jsn]", "which no phase before this one produces; did you mean 'a.json'?"),
        ("evidence: a.json", "evidence: b.md", "mine.yaml:23: phases.1.checklist.0.evidence: judged: its evidence"),
        ("mode: evaluate", "mode: operate", "mine.yaml:18: phases.1.mode: is 'operate', but build leads only to"),
        ("agent: data", "agent: lead", "mine.yaml:5: phases.0.agent: lead is no agent of mode build; agents there"),
        ("[data.extract]", "[data.extract, lead.x]", "phases.0.skills.1: mode build does not allow 'lead.x'; it all"),
        ("    gate:\n", "    timeout_seconds: 86401\n    gate:\n", "mine.yaml:13: phases.0.timeout_seconds: is 864"),
        ("    gate:\n", "    retry: {max_attempts: 6}\n    gate:\n", "mine.yaml:13: phases.0.retry.max_attempts: is 6"),
        ("    gate:\n", "    checklist: extration\n    gate:\n", "mine.yaml:13: phases.0.checklist: there is no che"),
        ("    gate:\n", "    checklist: scope\n    gate:\n", "phases.0.checklist: checklist 'scope' belongs to lead"),
        ("    gate:\n", "    checklist: extraction\n    gate:\n", "phases.0.checklist.0.evidence: extraction, item r"),
        ("    gate:\n", "    measures: [rows]\n    gate:\n", "mine.yaml:13: phases.0.measures.0: is 'rows', but it"),
    ],
)  # fmt: skip
def test_what_is_wrong_and_where(old: str, new: str, said: str) -> None:
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    found = wrong(text)
    assert any(said in line for line in found), found


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_the_file() -> None:
    text = (
        GOOD.replace("agent: data", "agent: boss")
        .replace("data.rows < 9.0", "data.rws < 9.0")
        .replace("purpose: Judge it.", "purpos: Judge it.")
        .replace("needs: [a.json]", "needs: [b.json]")
        .replace("name: mine", "name: yours")
    )
    found = wrong(text)
    assert [line.partition(": ")[0] for line in found] == [
        "mine.yaml:1", "mine.yaml:5", "mine.yaml:12", "mine.yaml:16", "mine.yaml:19", "mine.yaml:21",
    ]  # fmt: skip
    with pytest.raises(PipelineError, match=r"and 5 more: `valuetrain pipeline check` lists all"):
        parse(text, "mine.yaml", "mine")


def test_a_wrong_phase_still_produces_for_the_next() -> None:
    found = wrong(GOOD.replace("agent: data", "agent: boss"))
    assert len(found) == 1, found


@pytest.mark.parametrize("text", ["- a", "just words", "42"])
def test_what_is_no_definition_at_all(text: str) -> None:
    assert wrong(text)[0].startswith("mine.yaml:1: ")
    assert "must be `field: value` lines" in wrong(text)[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("x" * 300_000, "is longer than 256000 characters"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: " + "{b: " * 3000, "nested too deeply"),
    ],
)
def test_what_is_too_little_or_too_much(text: str, said: str) -> None:
    assert said in wrong(text)[0]


def test_the_line_of_what_is_not_there_is_that_of_what_should_hold_it() -> None:
    document = read(GOOD, "mine.yaml")
    assert document.line(("phases", 1, "gate", "when")) == 16
    assert document.line(("phases", 1, "agent", "deeper", 0)) == 17
    assert document.line(("phases", 9, "agent")) == 3
    assert document.line(()) == 1


def test_an_anchor_that_holds_itself() -> None:
    assert any("is an anchor that holds itself" in line for line in wrong("name: mine\ndescription: &a [*a]\n"))


def test_anchors_used_twice_are_no_doubles() -> None:
    text = GOOD.replace("skills: [data.extract]", "skills: &s [data.extract]").replace("[risk.profile]", "*s")
    assert "mode evaluate does not allow 'data.extract'" in wrong(text)[0]
    same = (
        "phases: [&p {name: one, agent: lead, mode: scope, purpose: X., skills: [lead.a], checklist: mode-scope}, *p]"
    )
    assert wrong(f"name: mine\ndescription: X.\n{same}\n") == [
        "mine.yaml:3: phases.1.name: phase 'one' is named twice; give one another name or remove it"
    ]


def test_a_problem_is_one_line_whatever_the_file_holds() -> None:
    (line,) = wrong(GOOD + '    "a\\n\\e[31m": 1\n')
    assert line.startswith(
        "mine.yaml:24: phases.1.a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[31m: is no known"
    )


def test_a_date_is_text() -> None:
    assert parse(GOOD.replace("Mine.", "2026-13-45"), "mine.yaml").description == "2026-13-45"


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


def test_the_user_s_checklists_and_modes_are_used(tmp_path: Path) -> None:
    (tmp_path / "checklists").mkdir()
    (tmp_path / "modes").mkdir()
    (tmp_path / "mine.yaml").write_text(GOOD.replace("    gate:", "    checklist: own\n    gate:", 1))
    own = tmp_path / "checklists" / "own.yaml"
    own.write_text("name: own\ntitle: Own\nowner: data\nitems:\n  - {id: seen, text: It was seen, evidence: a.json}\n")
    assert [item.id for item in load("mine", [tmp_path]).phases[0].checklist] == ["seen"]

    own.write_text("name: own\ntitle: Own\nitems:\n  - {id: seen, txt: It was seen}\n")
    with pytest.raises(PipelineError) as caught:
        load("mine", [tmp_path])
    assert [str(p) for p in caught.value.problems] == [
        f"{own}:4: items.0.text: is missing; add `text: …`",
        f"{own}:4: items.0.txt: is no known field; did you mean 'text'? known are evidence, id, required, text",
    ]

    own.write_text("name: own\ntitle: Own\nitems:\n  - {id: seen, text: It was seen}\n")
    shipped = CATALOG.origins["mode"]["build"].file.read_text("utf-8")
    (tmp_path / "modes" / "build.yaml").write_text(shipped.replace("agents: [data, ", "agents: ["))
    with pytest.raises(PipelineError, match="data is no agent of mode build"):
        load("mine", [tmp_path])


def test_an_item_named_twice_in_a_checklist(tmp_path: Path) -> None:
    (tmp_path / "checklists").mkdir()
    own = tmp_path / "checklists" / "own.yaml"
    own.write_text("name: own\ntitle: Own\nitems:\n  - {id: seen, text: A}\n  - {id: seen, text: B}\n")
    with pytest.raises(PipelineError, match=r"own\.yaml:5: items\.1\.id: item 'seen' is named twice"):
        Catalog([tmp_path]).checklist("own")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PipelineError, match=r"mine\.yaml:1: cannot be read as UTF-8 text"):
        load("mine", [tmp_path])
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(PipelineError, match=r"folder\.yaml:1: cannot be read"):
        load("folder", [tmp_path])


BUILD = frozenset({Mode.BUILD})
SKILLS = {
    "data.extract": SkillFacts(Role.DATA, BUILD, (), ("a.json", "b.json")),
    "risk.profile": SkillFacts(Role.RISK, frozenset({Mode.EVALUATE}), ("b.json",), ("c.json",)),
}


def test_a_pipeline_whose_skills_nobody_has_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD.replace("[risk.profile]", "[risk.profile, risk.guess]"))
    assert load("mine", [tmp_path]).name == "mine"
    with pytest.raises(PipelineError, match=r"'mine' cannot run: no agent has these skills yet: second wants risk\.gu"):
        load("mine", [tmp_path], SKILLS)
    source = find(Catalog([tmp_path]), "mine", SKILLS)
    assert missing_skills(source, SKILLS) == {"second": ("risk.guess",)}
    assert missing_skills(source, [*SKILLS, "risk.guess"]) == {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[a.json]\n    crit", "[a.json, z.json]\n    crit", "phases.0.artifacts.1: no skill of the phase produces 'z"),
        ("skills: [data.extract]", "skills: [data.other]", "risk.profile needs b.json, which nothing before it"),
        ("mode: build", "mode: design", "phases.0.skills.0: data.extract is for mode build, not design; give"),
        ("agent: data", "agent: feature", "phases.0.skills.0: data.extract belongs to agent data, not to feature"),
    ],
)
def test_what_the_skills_cannot_do(old: str, new: str, said: str) -> None:
    check(read(GOOD, "mine.yaml"), "mine", CATALOG, SKILLS)
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    with pytest.raises(PipelineError) as caught:
        check(read(text, "mine.yaml"), "mine", CATALOG, SKILLS)
    assert any(said in str(problem) for problem in caught.value.problems), caught.value.problems


def _judge(text: str) -> None:
    """It is a pipeline, or each problem has a line of the file; nothing else comes out."""
    problems: tuple[Problem, ...] = ()
    try:
        parse(text, "x.yaml", "mine", CATALOG)
    except PipelineError as problem:
        problems = problem.problems or (Problem("nobody said", 0, "", ""),)
    for one in problems:
        assert one.file == "x.yaml"
        assert 1 <= one.line <= len(text.splitlines()) + 1
        assert one.reason
        assert "\n" not in str(one)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_random_damage_to_the_text(data: st.DataObject) -> None:
    text = GOOD
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        end = min(len(text), at + data.draw(st.integers(0, 40)))
        text = (
            text[:at] + data.draw(st.text(alphabet="abz09 :-#'\"[]{}&*!|>%@`,.\n\t<?~é\x00", max_size=8)) + text[end:]
        )
    _judge(text)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["first", "a.json", "build", "data.rows > 1.0", "scope", "data.extract", "~", "1e9999"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, below in inner for place in _places(below, (*path, key)))]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_random_values_at_random_places(data: st.DataObject) -> None:
    tree = yaml.safe_load(GOOD)
    place = data.draw(st.sampled_from(_places(tree)[1:]))
    holder = tree
    for part in place[:-1]:
        holder = holder[part]
    holder[place[-1]] = data.draw(JUNK)
    _judge(json.dumps(tree) if data.draw(st.booleans()) else yaml.safe_dump(tree, sort_keys=False))


def phase(name: str, *lines: str, mode: str = "build", agent: str = "data") -> str:
    """A phase as it stands in a file, on five lines and those given."""
    words = [f"- name: {name}", f"  agent: {agent}", f"  mode: {mode}", "  purpose: X.", f"  skills: [{agent}.x]"]
    return "".join(f"  {line}\n" for line in [*words, *(f"  {line}" for line in lines)])


FORK = "name: mine\ndescription: X.\nphases:\n" + "".join(
    [
        phase("sources", "artifacts: [rows.csv]", "measures: [data.size]", mode="design"),
        phase("left", "artifacts: [left.json]", "measures: [l.score]", "needs: [rows.csv]"),
        phase("right", "after: [sources]", "artifacts: [right.json]", "measures: [r.score]", "needs: [rows.csv]"),
        phase("again", "after: [right]", "skip_when: r.score > 0.9"),
        phase("join", "after: [left, right]", "needs: [left.json, right.json]", "criteria: [l.score < r.score]",
              "repeat: [{to: sources, when: l.score < 0.1, iterations: 2}]", agent="risk", mode="evaluate"),
    ]
)  # fmt: skip


def test_phases_that_fork_and_join() -> None:
    definition = parse(FORK, "mine.yaml", "mine")
    assert definition.before["join"] == ("left", "right")
    assert definition.phases[3].skip_when == "r.score > 0.9"
    assert definition.phases[4].repeat[0].iterations == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("after: [right]", "after: [rigth]", "mine.yaml:33: phases.3.after.0: comes after 'rigth', which is no p"),
        ("after: [sources]", "after: [join]", "mine.yaml:24: phases.2.after.0: comes after 'join', which is no phase "),
        ("after: [right]", "after: [right, right]", "phases.3.after.1: phase 'right' is named twice"),
        ("after: [right]", "after: right", "mine.yaml:33: phases.3.after: is 'right', but must be a list"),
        ("l.score < r.score", "again.x > 1.0", "mine.yaml:42: phases.4.criteria.0: criterion 'again.x > 1.0' reads"),
        ("skip_when: r.score", "skip_when: l.score", "mine.yaml:34: phases.3.skip_when: criterion 'l.score > 0.9"),
        ("skip_when: r.score > 0.9", "skip_when: r.score", "phases.3.skip_when: criterion 'r.score' comes to a double"),
        ("skip_when: r.score > 0.9", "skip_when: r.score >", "mine.yaml:34: phases.3.skip_when: criterion 'r.sco"),
        ("r.score > 0.9", "own.score > 0.9\n    measures: [own.score]", "phases.3.skip_when: criterion 'own.scor"),
        ("when: l.score < 0.1", "when: l.scor < 0.1", "mine.yaml:43: phases.4.repeat.0.when: criterion 'l.scor <"),
        ("when: l.score < 0.1", "when: l.score", "mine.yaml:43: phases.4.repeat.0.when: criterion 'l.score' comes to"),
        ("{to: sources", "{to: source", "phases.4.repeat.0.to: goes back to 'source', which does not come before this"),
        ("{to: sources", "{to: join", "mine.yaml:43: phases.4.repeat.0.to: goes back to 'join', which does not come"),
        ("{to: sources", "{to: again", "mine.yaml:43: phases.4.repeat.0.to: goes back to 'again', which does not come"),
        ("2}]", "2}, {to: sources, iterations: 1}]", "phases.4.repeat.1.to: phase 'sources' is named twice"),
        ("iterations: 2", "iterations: 0", "mine.yaml:43: phases.4.repeat.0.iterations: is '0', but"),
        ("mode: design", "mode: scope", "phases.4.repeat.0.to: goes back to 'sources', which is of mode scope"),
        ("[left.json, right.json]", "[again.json]", "mine.yaml:41: phases.4.needs.0: needs 'again.json', which n"),
        ("[left, right]", "[left]", "phases.4.needs.1: needs 'right.json', which no phase before this one produc"),
        ("[right.json]", "[left.json]", "phases.2.artifacts.0: 'left.json' is produced by left too, which may run at"),
        ("after: [right]", "idle_seconds: 600", "mine.yaml:33: phases.3.idle_seconds: is 600, but an attempt end"),
        ("after: [right]", "gate: {expires_seconds: 9}", "mine.yaml:33: phases.3.gate.expires_seconds: is withou"),
        ("after: [left, right]", "after: [sources]", "phases.4.mode: is 'evaluate', but design leads only to des"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_order(old: str, new: str, said: str) -> None:
    text = FORK.replace(old, new, 1)
    assert text != FORK
    found = wrong(text)
    assert any(said in line for line in found), found


def test_a_slip_in_the_order_is_one_mistake() -> None:
    assert len(wrong(FORK.replace("[left, right]", "[left, rigth]", 1))) == 1


def test_skills_find_what_phases_before_them_left_and_not_those_beside_them() -> None:
    skills = {"data.y": SkillFacts(Role.DATA, BUILD, ("right.json",), ())}
    text = FORK.replace("    skip_when: r.score > 0.9\n", "")
    at = text.index("- name: again")
    text = text[:at] + text[at:].replace("[data.x]", "[data.y]", 1)
    check(read(text, "mine.yaml"), "mine", CATALOG, skills)
    with pytest.raises(
        PipelineError, match=r"phases\.3\.skills\.0: data\.y needs right\.json, which nothing before it"
    ):
        check(read(text.replace("[right]", "[left]"), "mine.yaml"), "mine", CATALOG, skills)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_random_values_in_the_graph(data: st.DataObject) -> None:
    tree = yaml.safe_load(FORK)
    names = ["sources", "left", "right", "again", "join", "nobody"]
    for _ in range(data.draw(st.integers(1, 3))):
        one = data.draw(st.sampled_from(tree["phases"]))
        one["after"] = data.draw(st.lists(st.sampled_from(names), max_size=3) | st.none() | JUNK)
        one["repeat"] = data.draw(
            st.lists(st.fixed_dictionaries({"to": st.sampled_from(names) | JUNK, "iterations": st.just(1)}), max_size=2)
        )
        one["name"] = data.draw(st.sampled_from([one["name"], *names]) | JUNK)
        one["artifacts"] = data.draw(st.lists(st.sampled_from(["left.json", "right.json", "rows.csv"]), max_size=2))
    _judge(json.dumps(tree))
