"""Plugins: skills that are not shipped, from files in named folders and from named packages.

Their code never runs in a process that holds a login or a key. A process of its own describes them
(`agents.plugin_side`); here each becomes a class that knows what the skill says of itself and cannot run; and the
child that does the skill's work imports the code. What a plugin may not do is checked here and by the workbench:

- its area (`AREA.verb`) is its own: no shipped skill has it, no shipped figure begins with it;
- it measures figures of its own area only, so no criterion of a shipped pipeline reads its numbers;
- it is not of the harness, reads nothing sealed, and writes no artifact that a skill of the harness writes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ConfigDict

from agents.discovery import AnySkill, shipped
from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from schemas.figures import ALWAYS, MEASURED
from schemas.values import Mode, Role

DESCRIBE_SECONDS = 60.0
_BOOT = (
    "import json, sys; order = json.loads(sys.argv[1]); sys.path[:] = order['path']; "
    "from agents.plugin_side import main; main(sys.argv[1])"
)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}\.[a-z][a-z0-9_]{0,62}")
_ARTIFACT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class PluginError(Exception):
    """A plugin that cannot be used. The message names it, the reason and what to do."""


class PluginSkill(Skill[Parameters, SkillOutput]):
    """Base of the classes that stand for plugins' skills outside of their children."""

    origin: Mapping[str, Any]
    """Where the child finds the code: `file` or `module`, and `class`."""

    def run(self, parameters: Parameters, context: SkillContext) -> NoReturn:
        """Never called: the code runs in a child."""
        raise NotImplementedError(f"{self.name} is a plugin's skill: it runs in a child of its own")


class _Described(Parameters):
    """Parameters that were described in JSON: the child checks them against the real model."""

    model_config = ConfigDict(extra="allow")


def find(folders: Sequence[Path], packages: Sequence[str]) -> list[type[PluginSkill]]:
    """The skills in `folders` (every `*.py` there that does not begin with `_`) and of `packages` (installed
    distributions with entry points in the group `valuetrain.skills`).

    Raises PluginError naming the first plugin that cannot be used: none is left out silently.
    """
    files = [str(path) for folder in folders for path in _files(folder)]
    if not files and not packages:
        return []
    found: dict[str, type[PluginSkill]] = {}
    for card in _described(files, packages):
        cls = _class(card)
        if cls.name in found:
            raise PluginError(
                f"plugin {card['where']}: skill {cls.name} is also in {_where(found[cls.name])}; rename one of them"
            )
        found[cls.name] = cls
    return list(found.values())


def own_area(name: str) -> str:
    """What a plugin's figures begin with: `acme` for the skill `acme.outliers`."""
    return name.partition(".")[0]


def _where(cls: type[PluginSkill]) -> str:
    return str(cls.origin["file"] or f"package {cls.origin['package']}")


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise PluginError(f"{folder} is no folder; make it, or take it out of the setting `skill_folders`")
    return sorted(path.resolve() for path in folder.glob("*.py") if not path.name.startswith("_"))


def _described(files: Sequence[str], packages: Sequence[str]) -> Iterable[dict[str, Any]]:
    """What the plugins say of themselves, asked in a process without our environment. Raises PluginError."""
    order = json.dumps({"path": sys.path, "files": list(files), "packages": list(packages)})
    with tempfile.TemporaryDirectory(prefix="value-train-") as home:
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": home, "TMPDIR": home}
        try:
            done = subprocess.run(
                [sys.executable, "-s", "-P", "-c", _BOOT, order],
                env=environment,
                cwd=home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=DESCRIBE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PluginError(
                f"plugins {', '.join([*files, *packages])}: importing them takes over {DESCRIBE_SECONDS:.0f} s; "
                "import heavy libraries inside `run`"
            ) from None
    try:
        cards: list[dict[str, Any]] = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:300]
        raise PluginError(
            f"plugins {', '.join([*files, *packages])}: importing them ended the process (exit {done.returncode}: "
            f"{last}); import one after the other to find out which"
        ) from None
    return cards


def _class(card: dict[str, Any]) -> type[PluginSkill]:
    """The stand-in of one described skill. Raises PluginError."""

    def refuse(reason: str) -> NoReturn:
        raise PluginError(f"plugin {card['where']}: {reason}")

    if "problem" in card:
        refuse(f"{card['problem']}; repair it, or take it out of the settings")
    name = card["name"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        refuse(f"its skill is called {name!r}; write AREA.verb in small letters, for example acme.outliers")
    taken = {own_area(skill) for skill in shipped()} | {_scope(figure) for figure in _shipped_figures()}
    if own_area(name) in taken:
        refuse(
            f"skill {name}: the area {own_area(name)!r} is the train's own; choose another than "
            f"{', '.join(sorted(taken))}"
        )
    if card["harness"]:
        refuse(f"skill {name} says `harness = True`: only shipped skills measure what gates read; leave it out")
    if card["sealed"]:
        refuse(f"skill {name} seals artifacts, which only shipped skills could read; leave `sealed` out")
    if card["role"] not in list(Role):
        refuse(f"skill {name}: there is no agent {card['role']!r}; agents are {', '.join(Role)}")
    if not card["modes"] or (strange := sorted(set(card["modes"]) - set(Mode))):
        refuse(f"skill {name}: `modes` is {strange if card['modes'] else 'empty'}; modes are {', '.join(Mode)}")
    if not card["text"]:
        refuse(f"skill {name} has no docstring; say in its first line what it does")
    if not 0.0 < card["seconds"] <= 86400.0:
        refuse(f"skill {name}: `seconds` is {card['seconds']}; write a number above 0, at most a day")
    _check_artifacts(card, refuse)
    return _made(card)


def _check_artifacts(card: dict[str, Any], refuse: Any) -> None:
    for artifact in (*card["needs"], *card["optional"], *card["produces"]):
        if not isinstance(artifact, str) or not _ARTIFACT.fullmatch(artifact):
            refuse(f"skill {card['name']}: {artifact!r} is no file name")
    measured = {artifact for skill in shipped().values() if skill.harness for artifact in skill.produces}
    if forged := sorted(measured & set(card["produces"])):
        refuse(f"skill {card['name']} produces {', '.join(forged)}, which only the harness writes; name it otherwise")


def _made(card: dict[str, Any]) -> type[PluginSkill]:
    schema = card["schema"]

    class _Parameters(_Described):
        @classmethod
        def model_json_schema(cls, *positional: Any, **named: Any) -> dict[str, Any]:
            return dict(schema)

    fields: dict[str, Any] = {
        "__doc__": card["text"],
        "__module__": __name__,
        "name": card["name"],
        "role": Role(card["role"]),
        "modes": frozenset(Mode(mode) for mode in card["modes"]),
        "needs": tuple(card["needs"]),
        "optional": tuple(card["optional"]),
        "produces": tuple(card["produces"]),
        "seconds": float(card["seconds"]),
        "resumes": bool(card["resumes"]),
        "beside": bool(card["beside"]),
        "parameters": _Parameters,
        "origin": card["origin"],
    }
    return type(card["origin"]["class"], (PluginSkill,), fields)


def _shipped_figures() -> Iterable[str]:
    return (*ALWAYS, *(figure for figures in MEASURED.values() for figure in figures))


def _scope(figure: str) -> str:
    return figure.partition(".")[0]


def note(cls: AnySkill) -> tuple[str, ...]:
    """The sentence that a reviewer of a plugin's work should see; nothing for a shipped skill."""
    if not issubclass(cls, PluginSkill):
        return ()
    return (f"{cls.name} is a plugin's skill ({cls.origin['shown']}), not a shipped one",)


def claims(cls: AnySkill, output: SkillOutput) -> str:
    """Why a plugin's skill may not say what it said, or an empty string. A shipped skill may always."""
    if not issubclass(cls, PluginSkill):
        return ""
    if strange := sorted({m.scope for m in output.measurements} - {own_area(cls.name)}):
        return f"may measure figures of {own_area(cls.name)} only, not of {', '.join(strange)}"
    if output.acceptance:
        return "may not propose acceptance criteria"
    return ""
