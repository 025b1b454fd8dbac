"""What a review looks for in a change besides test results: weaker tests, other dependencies, another licence."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import PurePosixPath
from typing import Any

from agents.skills.change.coverage import is_configuration, is_test
from agents.skills.change.shapes import Finding
from agents.skills.change.unsafe import RULES, added
from workspace.changes import Changed
from workspace.checkout import CleanCheckout

UNSAFE = "unsafe-code"
MANY_LINES = 1000
"""A change with more lines than that asks too much of the person who reads it."""
_LICENCE = re.compile(r"^(licen[cs]e|copying|notice|unlicense)([.-].*)?$", re.IGNORECASE)
_REQUIREMENTS = re.compile(r"^(requirements|constraints)[\w.-]*\.(txt|in)$", re.IGNORECASE)
_SKIPS = ("skip", "skipif", "xfail", "skipIf", "skipUnless", "expectedFailure", "importorskip")


def inspect(checkout: CleanCheckout, changes: tuple[Changed, ...]) -> list[Finding]:
    """Everything found in the changed files; nothing of it is executed."""
    found: list[Finding] = []
    for each in changes:
        before, after = checkout.read(each.path, base=True), checkout.read(each.path)
        if is_test(each.path) and before is not None and after is not None:
            found += _weaker(each.path, before, after)
        if each.path.endswith((".py", ".pyi")) and after is not None:
            found += _unsafe(each.path, before, after)
        if is_configuration(each.path):
            found.append(_attention("test-configuration", "decides how tests are run and reported", each.path))
        if _LICENCE.match(PurePosixPath(each.path).name):
            found.append(_blocking("licence", "the licence's own text is altered", each.path))
        if PurePosixPath(each.path).name == "pyproject.toml":
            found += _project(each.path, before or "", after or "")
        if _REQUIREMENTS.match(PurePosixPath(each.path).name):
            found += _dependencies(each.path, _lines(before or ""), _lines(after or ""))
    lines = sum(each.added + each.removed for each in changes)
    if lines > MANY_LINES:
        found.append(_attention("size", f"{lines:,} lines in {len(changes)} files are much for one review"))
    code = [each.path for each in changes if each.path.endswith(".py") and not is_test(each.path)]
    if code and not any(is_test(each.path) for each in changes):
        found.append(_attention("no-test", f"{len(code)} modules change and no test does"))
    return found


def _unsafe(path: str, before: str | None, after: str) -> list[Finding]:
    """Unsafe calls the change adds; in tests they are named, too."""
    return [
        _attention(UNSAFE, f"{each.rule}: {RULES[each.rule]}: {each.call}"[:300], f"{path}:{each.line}")
        for each in added(before, after)
    ]


def _weaker(path: str, before: str, after: str) -> list[Finding]:
    """Tests that are there before and after, and check less."""
    try:
        old, new = _tests(before), _tests(after)
    except (SyntaxError, ValueError) as problem:
        return [_blocking("weaker-test", f"cannot be read as Python: {problem}", path)]
    found = []
    for name in sorted(old.keys() & new.keys()):
        (checks, skips), (checks_now, skips_now) = old[name], new[name]
        if checks_now < checks:
            found.append(_blocking("weaker-test", f"{name} had {checks} checks and has {checks_now}", path))
        if skips_now > skips:
            found.append(_blocking("weaker-test", f"{name} is now skipped, or allowed to fail", path))
    if _module_skips(after) > _module_skips(before):
        found.append(_blocking("weaker-test", "the whole file is now skipped, or allowed to fail", path))
    return found


def _tests(text: str) -> dict[str, tuple[int, int]]:
    """By the test's name: how many checks it makes, and how many marks let it be skipped or fail."""
    found: dict[str, tuple[int, int]] = {}

    def visit(node: ast.AST, prefix: str, inherited: int) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                visit(child, f"{prefix}{child.name}.", inherited + _marks(child))
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and child.name.startswith("test"):
                inner = [n for statement in child.body for n in ast.walk(statement)]
                skips = inherited + _marks(child) + sum(isinstance(n, ast.Call) and _is_skip(n.func) for n in inner)
                found[f"{prefix}{child.name}"] = sum(map(_is_check, inner)), skips

    visit(ast.parse(text), "", 0)
    return found


def _is_check(node: ast.AST) -> bool:
    """An assertion that can fail."""
    if isinstance(node, ast.Assert):
        return not (isinstance(node.test, ast.Constant) and node.test.value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        name = node.func.attr
        return name.startswith(("assert", "fail")) or name in ("raises", "warns")
    return False


def _marks(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return sum(_is_skip(mark.func if isinstance(mark, ast.Call) else mark) for mark in node.decorator_list)


def _is_skip(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name in _SKIPS


def _module_skips(text: str) -> int:
    """Marks and calls of the module itself (`pytestmark`, `pytest.importorskip`)."""
    outside = [n for n in ast.parse(text).body if not isinstance(n, ast.FunctionDef | ast.ClassDef)]
    nodes = [inner for node in outside for inner in ast.walk(node)]
    return sum(isinstance(node, ast.Attribute | ast.Name) and _is_skip(node) for node in nodes)


def _project(path: str, before: str, after: str) -> list[Finding]:
    try:
        old, new = tomllib.loads(before), tomllib.loads(after)
    except tomllib.TOMLDecodeError as problem:
        return [_blocking("project-file", f"is no TOML: {problem}", path)]
    found = _dependencies(path, _requirements(old), _requirements(new))
    one, two = old.get("project", {}), new.get("project", {})
    if any(one.get(name) != two.get(name) for name in ("license", "license-files")):
        found.append(
            _blocking("licence", f"the licence was {one.get('license')!r} and is {two.get('license')!r}", path)
        )
    one, two = old.get("tool", {}), new.get("tool", {})
    if one.get("pytest") != two.get("pytest"):
        found.append(_attention("test-configuration", "decides how tests are run and reported", path))
    if one.get("valuetrain") != two.get("valuetrain"):
        found.append(_blocking("train-settings", "[tool.valuetrain] says how the train treats this repository", path))
    return found


def _requirements(project: dict[str, Any]) -> set[str]:
    table = project.get("project", {})
    groups = [table.get("dependencies", []), *table.get("optional-dependencies", {}).values()]
    groups += [project.get("build-system", {}).get("requires", []), *project.get("dependency-groups", {}).values()]
    return {each for group in groups for each in group if isinstance(each, str)}


def _lines(text: str) -> set[str]:
    return {line.partition(" #")[0].strip() for line in text.splitlines() if line.strip() and line[0] not in "#"}


def _dependencies(path: str, before: set[str], after: set[str]) -> list[Finding]:
    found = [_attention("dependency", f"new or altered: {each}", path) for each in sorted(after - before)]
    return found + [_attention("dependency", f"no longer there: {each}", path) for each in sorted(before - after)]


def _blocking(rule: str, what: str, where: str = "") -> Finding:
    return Finding(level="blocking", rule=rule, what=what, where=where)


def _attention(rule: str, what: str, where: str = "") -> Finding:
    return Finding(level="attention", rule=rule, what=what, where=where)
