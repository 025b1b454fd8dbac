"""The pure core is pure by what it imports, and every message says in a sentence what it means."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from schemas.registry import COMMANDS, EVENTS

ROOT = Path(__file__).parents[2]

CORE = [
    ROOT / "conductor" / f"{name}.py"
    for name in (
        "state",
        "evolve",
        "decide",
        "process",
        "gates",
        "criteria",
        "fold",
        "drives",
        "views",
        "compare",
        "rests",
        "undo",
        "change",
        "goback",
        "compensate",
        "refusal",
        "gate_rules",
        "operating",
        "spending",
        "model_calls",
        "forking",
        "fetching",
    )
]
SCHEMAS = sorted(p for p in (ROOT / "schemas").glob("*.py") if p.name != "ids.py")
LATER = [p for p in (ROOT / "autopilot" / "board.py", ROOT / "autopilot" / "select.py") if p.exists()]
PURE = [*CORE, *SCHEMAS, *LATER]

FORBIDDEN = {
    "anyio", "asyncio", "logging", "nats", "os", "random", "secrets", "socket", "sqlalchemy", "sqlmodel", "structlog",
    "subprocess", "time", "uuid",
}  # fmt: skip
"""What brings a clock, ids, chance, IO or a log."""

CLOCKS = {"now", "utcnow", "today", "uuid4", "uuid7", "monotonic", "open", "print", "input"}
"""Calls that would bring the outside in by a door that is not an import."""


def imported(tree: ast.AST) -> set[str]:
    """The top-level names a module imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def called(tree: ast.AST) -> set[str]:
    """The last name of everything a module calls."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            names.add(function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", ""))
    return names


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_the_core_is_where_it_was() -> None:
    """A module that was moved would be checked no longer."""
    assert [name_of(p) for p in CORE if not p.exists()] == []
    assert len(SCHEMAS) > 10


@pytest.mark.parametrize("path", PURE, ids=name_of)
def test_a_pure_module_imports_no_clock_ids_chance_or_io(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert imported(tree) & FORBIDDEN == set()
    assert called(tree) & CLOCKS == set()


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_knows_no_store_bus_or_workspace(path: Path) -> None:
    assert imported(ast.parse(path.read_text("utf-8"))) & {"store", "bus", "workspace", "agents", "cli"} == set()


@pytest.mark.parametrize("path", SCHEMAS, ids=name_of)
def test_schemas_stand_alone(path: Path) -> None:
    ours = {"store", "bus", "workspace", "forge", "ingest", "conductor", "agents", "autopilot", "cli"} | {
        "chatops",
        "console",
    }
    assert imported(ast.parse(path.read_text("utf-8"))) & ours == set()


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import os.path", {"os"}),
        ("from time import sleep as rest", {"time"}),
        ("def f():\n    import random, json", {"random", "json"}),
        ("if True:\n    from nats.aio import client", {"nats"}),
        ("x = 'import os'", set()),
    ],
)
def test_imports_are_found_wherever_they_are(source: str, names: set[str]) -> None:
    assert imported(ast.parse(source)) == names


def test_calls_are_found_wherever_they_are() -> None:
    assert called(ast.parse("datetime.now(UTC)\nopen('x')\nf()()")) == {"now", "open", "f", ""}


@pytest.mark.parametrize("kind", [*EVENTS.values(), *COMMANDS.values()], ids=lambda k: f"{k.kind}-{k.name}")
def test_every_message_says_in_a_sentence_what_it_means(kind: object) -> None:
    text = (kind.cls.__doc__ or "").strip()  # type: ignore[attr-defined]
    first = re.split(r"(?<=[.!?])\s", text)[0]
    assert re.match(r"[A-Z]", first), text
    assert first.endswith("."), text
    assert len(first.split()) >= 3, text
