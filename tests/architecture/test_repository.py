"""Rules about the repository itself: the lock, what files may name, how long modules are, what an import costs."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
DATA_ONLY = {"pipelines"}
LONGEST_MODULE = 400

# Put together from parts, so that this file does not hold what it looks for.
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.~$})-])/(?:" + "|".join(["ro" + "ot", "wo" + "rk", "ho" + r"me/[\w.-]+", "Us" + r"ers/[\w.-]+"]) + ")/"
)
REGISTRY_HOST = re.compile(
    "|".join(
        re.escape(".".join(parts))
        for parts in [
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("npmjs", "org"),
            ("npmjs", "com"),
            ("anaconda", "org"),
            ("crates", "io"),
            ("rubygems", "org"),
            ("golang", "org"),
            ("maven", "org"),
            ("debian", "org"),
        ]
    )
)

# Seconds each when imported cold: only workers may pay for them.
HEAVY = {
    "cyclonedx", "fairlearn", "github", "langchain_core", "matplotlib", "mlflow", "numba", "numpy", "onnx",
    "onnxruntime", "openai", "optuna", "pandas", "pandera", "pyarrow", "ray", "scipy", "shap",
    "skops", "sklearn", "statsmodels",
}  # fmt: skip
SQL = {"alembic", "sqlalchemy", "sqlmodel"}
NATS = {"nats", "nkeys"}
PYDANTIC = {"annotated_types", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection"}


@cache
def files_of_the_repository() -> tuple[Path, ...]:
    """Every file that is committed or would be by `git add --all`."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode != 0:
        pytest.skip(f"not a git checkout: {listing.stderr.strip()}")
    paths = (ROOT / name for name in listing.stdout.split("\0") if name)
    return tuple(sorted(path for path in paths if path.is_file()))


def text_lines() -> Iterator[tuple[str, str]]:
    """(place, line) of each text file of the repository."""
    for path in files_of_the_repository():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
            yield f"{path.relative_to(ROOT)}:{number}", line


def locked() -> dict[str, str]:
    """Locked version by package, read as strictly as the lock has to be: anything else in it fails."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    entry = re.compile(r"([A-Za-z0-9][\w.-]*)==([\w.!+]+)(?: ; [^#]+?)?((?:\s+--hash=sha256:[0-9a-f]{64})+)\s*")
    versions: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = entry.fullmatch(line)
        assert match, f"constraints.txt: not a package with its exact version and hashes: {line[:100]!r}"
        name = canonicalize_name(match[1])
        assert name not in versions, f"constraints.txt: {name} is locked twice, so not every Python runs the same"
        versions[name] = match[2]
    return versions


def test_every_locked_package_has_an_exact_version_and_hashes() -> None:
    assert len(locked()) > 50


def test_the_lock_names_no_place() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    found = [
        line
        for line in text.splitlines()
        if "://" in line or line.startswith("-") or "file:" in line or re.search(r"(^|[\s'\"=(@])/", line)
    ]
    assert found == []


def test_the_lock_covers_what_pyproject_asks_for() -> None:
    project = PYPROJECT["project"]
    wanted: list[str] = [*PYPROJECT["build-system"]["requires"], *project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    versions = locked()
    missing = [
        str(requirement)
        for requirement in map(Requirement, wanted)
        if not requirement.specifier.contains(versions.get(canonicalize_name(requirement.name), "0"), prereleases=True)
    ]
    assert missing == [], "run scripts/lock"


def test_no_file_names_a_place_of_one_machine_or_a_registry() -> None:
    found = [place for place, line in text_lines() if ABSOLUTE_PATH.search(line) or REGISTRY_HOST.search(line)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("open('/" + "root/x')", True),
        ("cd /" + "work/main", True),
        ("/" + "home/alice/code", True),
        ("index = https://" + "pypi" + ".org/simple", True),
        ("docs/work/plan.md", False),
        ("/home/<user>/", False),
        ("$HOME/work/x", False),
        ("/workspace/x", False),
    ],
)
def test_places_are_recognised(text: str, is_found: bool) -> None:
    assert bool(ABSOLUTE_PATH.search(text) or REGISTRY_HOST.search(text)) is is_found


def test_modules_are_short() -> None:
    too_long = {
        str(path.relative_to(ROOT)): lines
        for path in files_of_the_repository()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] != "tests"
        if (lines := len(path.read_bytes().splitlines())) > LONGEST_MODULE
    }
    assert too_long == {}, "one concept a module"


def test_ci_runs_what_a_contributor_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "exec make test" in script.read_text(encoding="utf-8").splitlines()
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_the_tools_look_at_every_package() -> None:
    with_code = sorted(set(PACKAGES) - DATA_ONLY)
    assert sorted(PYPROJECT["tool"]["mypy"]["files"]) == with_code
    assert sorted(PYPROJECT["tool"]["importlinter"]["root_packages"]) == with_code


REPORT_IMPORT = """
import importlib, json, sys, threading
before = set(sys.modules)
importlib.import_module(sys.argv[1])
loaded = sorted({name.partition(".")[0] for name in set(sys.modules) - before})
with open(sys.argv[2], "w") as report:
    json.dump({"loaded": loaded, "threads": threading.active_count()}, report)
"""


@pytest.mark.parametrize("module", [*PACKAGES, "cli.main"])
def test_importing_starts_nothing_prints_nothing_and_is_light(module: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    report = tmp_path / "report.json"
    # An environment of its own: no coverage, no warning flags, nothing that could print or load for us.
    done = subprocess.run(
        [sys.executable, "-c", REPORT_IMPORT, module, str(report)],
        cwd=empty,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(empty.iterdir()) == []
    seen = json.loads(report.read_text(encoding="utf-8"))
    assert seen["threads"] == 1
    loaded = set(seen["loaded"])
    package = module.partition(".")[0]
    if package == "schemas":
        assert loaded - set(sys.stdlib_module_names) - PYDANTIC <= {"schemas"}
    unwanted = set(HEAVY)
    if package not in {"store", "conductor", "cli"}:
        unwanted |= SQL
    if package not in {"bus", "conductor", "cli"}:
        unwanted |= NATS
    assert loaded & unwanted == set()


def test_schemas_need_only_the_standard_library_and_pydantic() -> None:
    allowed = set(sys.stdlib_module_names) | PYDANTIC | {"schemas"}
    foreign = {
        (str(path.relative_to(ROOT)), name)
        for path in sorted((ROOT / "schemas").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in imported_names(node)
        if name.partition(".")[0] not in allowed
    }
    assert foreign == set()


def imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def pure_modules() -> list[str]:
    (contract,) = [
        contract
        for contract in PYPROJECT["tool"]["importlinter"]["contracts"]
        if "time" in contract.get("forbidden_modules", [])
    ]
    modules: list[str] = contract["source_modules"]
    return modules


def ambient_calls(source: str) -> list[str]:
    """Calls that reach outside without an import the contracts could see: datetime's clock, files, the console."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr in {"now", "utcnow", "today"}:
                found.append(f"{node.lineno}: .{node.func.attr}()")
            elif isinstance(node.func, ast.Name) and node.func.id in {
                "open", "print", "input", "exec", "eval", "__import__",
            }:  # fmt: skip
                found.append(f"{node.lineno}: {node.func.id}()")
    return found


@pytest.mark.parametrize("module", pure_modules())
def test_the_pure_core_takes_nothing_from_its_surroundings(module: str) -> None:
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    assert ambient_calls(path.read_text(encoding="utf-8")) == []


def test_ambient_calls_are_recognised() -> None:
    assert ambient_calls("from datetime import datetime\nx = datetime.now()\nprint(x)\ny = at.isoformat()\n") == [
        "2: .now()",
        "3: print()",
    ]


def test_components_start_without_the_code_of_any_skill() -> None:
    """It is loaded where it is used: in a skill's child, or by a command that reads a ticket's text."""
    code = "import agents.skills; agents.skills.__path__[:] = []; import cli.app, cli.components"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
