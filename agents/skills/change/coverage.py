"""Which of a project's test files look at which of its modules, by their imports."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

CONFIGURATION = frozenset({
    "conftest.py", "pytest.ini", "tox.ini", "setup.cfg", "noxfile.py", "sitecustomize.py", "usercustomize.py",
})  # fmt: skip
"""Files that decide how tests are found, run and reported."""


def is_test(path: str) -> bool:
    """Whether a file holds tests, by pytest's own rule for names."""
    name = PurePosixPath(path).name
    return name.endswith(".py") and (name.startswith("test_") or name.endswith("_test.py"))


def is_configuration(path: str) -> bool:
    """Whether a file decides how tests run."""
    pure = PurePosixPath(path)
    return pure.name in CONFIGURATION or pure.suffix == ".pth"


def covering(touched: Iterable[str], files: Iterable[str], read: Callable[[str], str | None]) -> dict[str, list[str]]:
    """For each touched Python module the test files that import it; an empty list where none does."""
    imported = {path: _imports(read(path) or "") for path in files if is_test(path)}
    return {
        path: sorted(test for test, names in imported.items() if names & _modules(path))
        for path in touched
        if path.endswith(".py") and not is_test(path)
    }


def _modules(path: str) -> set[str]:
    """The names a file may be imported by: from the repository's root, or from a folder such as `src`."""
    parts = list(PurePosixPath(path).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    names = {".".join(parts)}
    if len(parts) > 1 and parts[0] in ("src", "lib"):
        names.add(".".join(parts[1:]))
    return names - {""}


def _imports(text: str) -> set[str]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return set()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found
