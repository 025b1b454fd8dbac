"""Known flaws from an OSV database of known age, and unsafe calls a change adds."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.skill import InputError
from agents.skills.change.unsafe import RULES, added, find
from agents.skills.devsecops.advisories import DevsecopsAdvisories
from agents.skills.devsecops.osv import read_database
from schemas.ticket import Ticket
from tests.skills.harness import NOW, run_skill

TODAY = datetime.fromisoformat(NOW)
TICKET = Ticket(id=1, title="Look it up")


def record(number: int, name: str, *events: dict[str, str], days: float = 1.0, **more: Any) -> dict[str, Any]:
    """An advisory in the form OSV publishes."""
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, *events]}] if events else []
    affected = {"package": {"ecosystem": "PyPI", "name": name}, "ranges": ranges, "versions": more.pop("versions", [])}
    return {
        "id": f"GHSA-{number}", "modified": (TODAY - timedelta(days=days)).isoformat().replace("+00:00", "Z"),
        "summary": f"flaw {number} <script>", "affected": [affected], **more,
    }  # fmt: skip


def database(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text(json.dumps(list(records)), "utf-8")
    return path


def sbom(folder: Path, *parts: tuple[str, str | None]) -> dict[str, Path]:
    listed = [
        {"type": "library", "name": name, "purl": f"pkg:pypi/{name}"} | ({"version": version} if version else {})
        for name, version in parts
    ]
    path = folder / "sbom.cdx.json"
    path.write_text(json.dumps({"components": [{"type": "data", "name": "rows.csv"}, *listed]}), "utf-8")
    return {path.name: path}


def looked_up(folder: Path, files: dict[str, Path], **facts: str) -> tuple[dict[str, float], dict[str, Any], Any]:
    output, made = run_skill(DevsecopsAdvisories, TICKET, folder / "run", files, facts=facts)
    report = json.loads(made["advisories.json"].read_text("utf-8"))
    return {m.name: m.value for m in output.measurements}, report, (output, made["advisories.md"].read_text("utf-8"))


def test_flaws_of_the_versions_in_use_are_found_and_no_others(tmp_path: Path) -> None:
    source = database(
        tmp_path / "osv.json",
        record(1, "Some_Library", {"fixed": "2.0"}, aliases=["CVE-1"], database_specific={"severity": "HIGH"}),
        record(2, "some-library", {"fixed": "2.0"}, aliases=["CVE-1"]),
        record(3, "some-library", {"last_affected": "1.0"}),
        record(4, "other", versions=["3.1"]),
        record(5, "gone", {"fixed": "9"}, withdrawn="2026-01-01T00:00:00Z"),
    )
    files = sbom(tmp_path, ("some-library", "1.4"), ("other", "3.1"), ("gone", "1"), ("fine", "1"), ("loose", None))
    found, report, (output, text) = looked_up(tmp_path, files, advisories=str(source))
    assert found == {"current": 1.0, "age_days": 1.0, "known": 2.0, "unchecked": 1.0}
    assert [(hit["name"], hit["advisory"], hit["fixed"]) for hit in report["known"]] == [
        ("other", "GHSA-4", []),
        ("some-library", "GHSA-1", ["2.0"]),
    ]
    assert report["unchecked"] == ["loose"]
    assert "<script>" not in text
    assert any("GHSA-1 (HIGH)" in warning for warning in output.warnings)


def test_a_zip_as_osv_publishes_it_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
        for number in (1, 2):
            packed.writestr(f"GHSA-{number}.json", json.dumps(record(number, "a", {"fixed": str(number)})))
        packed.writestr("README", "x")
    found, _, _ = looked_up(tmp_path, sbom(tmp_path, ("a", "1.5")), advisories=str(tmp_path / "all.zip"))
    assert found["known"] == 1.0


def test_an_old_database_does_not_pass_and_counts_nothing(tmp_path: Path) -> None:
    source = database(tmp_path / "osv.json", record(1, "a", {"fixed": "2"}, days=8), record(2, "b", days=400))
    found, report, (output, text) = looked_up(tmp_path, sbom(tmp_path, ("fine", "1")), advisories=str(source))
    assert found == {"current": 0.0, "age_days": 8.0}, "no criterion over `known` may hold by chance"
    assert not output.ticked
    assert "8.0 days old, more than 7" in report["why_not"]
    assert "Does not pass" in text
    longer, _, _ = looked_up(tmp_path, sbom(tmp_path, ("fine", "1")), advisories=str(source), advisories_max_days="10")
    assert longer["current"] == 1.0


def test_without_a_database_nothing_passes(tmp_path: Path) -> None:
    found, report, (output, _) = looked_up(tmp_path, sbom(tmp_path, ("fine", "1")))
    assert found == {"current": 0.0}
    assert not output.ticked
    assert "nothing was looked up" in report["why_not"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{}", "neither a ZIP of records nor a JSON list"),
        ("[]", "has no record"),
        ("[1]", "cannot be read"),
        ("nothing", "cannot be read"),
        (json.dumps([{"id": "x", "modified": "2026-11-01"}]), "without a zone"),
        (json.dumps([record(1, "a", days=-30)]), "in the future"),
    ],
)
def test_what_is_no_database_is_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "osv.json").write_text(content)
    with pytest.raises(InputError, match=says):
        looked_up(tmp_path, sbom(tmp_path, ("a", "1")), advisories=str(tmp_path / "osv.json"))


@given(
    version=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    spans=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=3, unique=True),
)
@pytest.mark.untraced
def test_ranges_are_read_as_the_schema_says(
    tmp_path_factory: pytest.TempPathFactory, version: tuple[int, int], spans: list[tuple[int, int]]
) -> None:
    """Against a plain reading: [introduced, fixed) for each span of its own range."""
    ranges = [
        {"type": "ECOSYSTEM", "events": [{"fixed": f"{end}.0"}, {"introduced": f"{start}.0"}]}
        for start, end in spans if start < end
    ]  # fmt: skip
    one = record(1, "a")
    one["affected"][0]["ranges"] = ranges
    path = database(tmp_path_factory.getbasetemp() / "ranges.json", one)
    expected = any(start <= version[0] < end for start, end in spans)
    found = read_database(path, datetime.now(UTC) + timedelta(days=4000)).about("a", f"{version[0]}.{version[1]}")
    assert bool(found) == expected


UNSAFE = {
    "eval(text)": "runs-text-as-code",
    "import os\nos.system(name)": "shell",
    "from os import popen as p\np(name)": "shell",
    "import subprocess as sp\nsp.run(line, shell=True)": "shell",
    "import pickle\npickle.loads(data)": "loads-objects",
    "from joblib import load\nload(path)": "loads-objects",
    "import torch\ntorch.load(path)": "loads-objects",
    "import yaml\nyaml.load(text, Loader=yaml.Loader)": "yaml-objects",
    "import httpx\nhttpx.get(url, verify=False)": "unverified-tls",
    "import hashlib\nhashlib.md5(data)": "weak-hash",
    "import hashlib\nhashlib.new('SHA1')": "weak-hash",
    "import tempfile\ntempfile.mktemp()": "predictable-file",
    "archive.extractall(folder)": "unpacks-anywhere",
    "server.bind(('0.0.0.0', 80))": "open-to-all",
    "import os\nos.chmod(path, 0o777)": "writable-by-all",
    "cursor.execute(f'select * from t where id = {n}')": "sql-text",
    "cursor.execute('select ' + name)": "sql-text",
    "cursor.execute('select {}'.format(name))": "sql-text",
    "app.run(debug=True)": "debug-server",
    "def broken(": "not-python",
}
SAFE = [
    "eval('1 + 1')",
    "import subprocess\nsubprocess.run(['ls'], shell=False)",
    "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)\nyaml.safe_load(text)",
    "import json\njson.loads(data)",
    "import torch\ntorch.load(path, weights_only=True)",
    "import hashlib\nhashlib.md5(data, usedforsecurity=False)\nhashlib.sha256(data)",
    "archive.extractall(folder, filter='data')",
    "cursor.execute('select * from t where id = ?', (n,))",
    "cursor.execute('select a' + ' from t')",
    "import os\nos.chmod(path, 0o750)",
    "model.eval()",
    "server.bind(('127.0.0.1', 80))",
]


@pytest.mark.parametrize(("code", "rule"), UNSAFE.items())
def test_unsafe_calls_are_found(code: str, rule: str) -> None:
    assert [each.rule for each in find(code)] == [rule]


@pytest.mark.parametrize("code", SAFE)
def test_safe_calls_are_left_alone(code: str) -> None:
    assert find(code) == []


def test_every_rule_is_tested() -> None:
    assert set(UNSAFE.values()) == set(RULES)


def test_only_what_a_change_adds_counts() -> None:
    old = "import os\nos.system('a')\n"
    assert added(old, "import os\n\n\nos.system('a')\n") == [], "it moved"
    assert [each.line for each in added(old, old + "os.system('a')\n")] == [3], "once more"
    assert [each.rule for each in added(None, old)] == ["shell"]
