"""A repository's own code scanner on a real change: a scanner of JavaScript in awk, the real sandbox, SARIF."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.skill import InputError
from agents.skills.change.junit import ReportError
from agents.skills.change.sarif import LARGEST, read_sarif
from agents.skills.change.scanning import judge_scan, new_findings, scan
from agents.skills.change.shapes import CodeScan, ScanFinding
from agents.skills.devsecops.change import DevsecopsChange
from agents.skills.evaluation.review import EvaluationReview
from agents.skills.lead.change_scope import LeadChangeScope
from schemas.figures import MEASURED
from tests.skills.code_project import PROJECT, fix, git, make_project, patch_of, ticket_for
from tests.skills.harness import run_chain
from tests.workspace.bwrap import needs_bubblewrap
from workspace.checkout import CleanCheckout
from workspace.sandbox.opening import open_sandbox
from workspace.sandbox.port import BUBBLEWRAP

SCANNER = r"""# Finds eval and document.write in JavaScript; a comment "scan: ok" on the line suppresses the finding.
out=$1
find . -name '*.js' | sort | xargs awk '
function result(rule, what) {
  gsub(/"/, "\\\"", what)
  printf "%s{\"ruleId\":\"%s\",\"message\":{\"text\":\"%s\"},\"locations\":[{\"physicalLocation\":{", sep, rule, what
  printf "\"artifactLocation\":{\"uri\":\"%s\"},\"region\":{\"startLine\":%d}}}]", FILENAME, FNR
  if ($0 ~ /scan: ok/) printf ",\"suppressions\":[{\"kind\":\"inSource\"}]"
  printf "}"; sep = ","
}
BEGIN {
  printf "{\"version\":\"2.1.0\",\"runs\":[{\"tool\":{\"driver\":{\"name\":\"jsgrep\",\"rules\":["
  printf "{\"id\":\"no-eval\",\"defaultConfiguration\":{\"level\":\"error\"}},{\"id\":\"no-write\"}]}},\"results\":["
}
/eval\(/ { result("no-eval", "runs text as code") }
/document\.write\(/ { result("no-write", "writes markup") }
END { printf "]}]}" }
' > "$out"
exit 1
"""
PAGE = "function show(x) {\n  document.write(x);\n}\n"
COMMAND = "sh .valuetrain/scan.sh {sarif}"
REPORT: dict[str, Any] = {
    "version": "2.1.0",
    "runs": [
        {
            "tool": {"driver": {"name": "t", "rules": [{"id": "a", "defaultConfiguration": {"level": "error"}}]}},
            "results": [{"ruleId": "a", "message": {"text": "bad"}}],
        }
    ],
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The project with a page, and a scanner that only its owners can change."""
    needs_bubblewrap()
    return project(tmp_path / "shop", COMMAND)


def project(place: Path, command: str, scanner: str = SCANNER, where: str = ".valuetrain/scan.sh") -> Path:
    make_project(place)
    for name, text in {where: scanner, "web/page.js": PAGE}.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(text)
    (place / "pyproject.toml").write_text(f'{PROJECT}scan_command = "{command}"\n')
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "-m", "Scan")
    return place


def reviewed(
    shop: Path, place: Path, change: Callable[[Path], None]
) -> tuple[dict[str, float], list[dict[str, str]], str]:  # fmt: skip
    """Figures, findings and the document of the review of a change, which fixes the loader besides."""

    def both(tree: Path) -> None:
        fix(tree)
        change(tree)

    backlog = place / "backlog"
    ticket = ticket_for(shop, backlog, patch_of(shop, both), acceptance_tests=())
    skills = (LeadChangeScope, DevsecopsChange, EvaluationReview)
    outputs, files = run_chain(skills, ticket, place / "work", roots=(backlog,))
    figures = {f"{each.scope}.{each.name}": each.value for each in outputs["evaluation.review"].measurements}
    report = json.loads(files["review-report.json"].read_text())
    return figures, report["findings"], files["review-report.md"].read_text()


def test_what_a_change_adds_in_another_language_is_found_by_the_repositorys_own_scanner(
    shop: Path, tmp_path: Path
) -> None:  # fmt: skip
    def change(tree: Path) -> None:
        text = "// moved\n" + PAGE + "eval(location.hash);\nshow(eval(1)); // scan: ok\ndocument.write(2);\n"
        (tree / "web" / "page.js").write_text(text)

    figures, findings, document = reviewed(shop, tmp_path, change)
    assert set(figures) == set(MEASURED["evaluation.review"])
    scanned = {name: value for name, value in figures.items() if "scan" in name}
    assert scanned == {
        "review.scan_error": 1.0, "review.scan_warning": 1.0, "review.scan_note": 0.0, "review.scan_suppressed": 1.0
    }  # fmt: skip
    assert figures["review.blocking"] == 0.0, "a person decides, or a criterion"
    assert [(each["level"], each["what"], each["where"]) for each in findings if each["rule"] == "code-scan"] == [
        ("attention", "error: no-eval: runs text as code", "web/page.js:5"),
        ("attention", "suppressed: no-eval: runs text as code", "web/page.js:6"),
        ("attention", "warning: no-write: writes markup", "web/page.js:7"),
    ], "the one that only moved is not new"
    assert "jsgrep ran in the sandbox on both trees" in document
    assert "1 warning before, 1 error, 1 suppressed, 2 warning after; 3 new, 0 gone." in document


@pytest.mark.parametrize(
    ("scanner", "problem"),
    [
        ("exit 0", "exit code 0 after .* and it wrote no SARIF report: it printed nothing"),
        ('echo \'{"version":"2.0.0","runs":[]}\' > $1', "its report is no SARIF 2.1.0: version: Input should be"),
        ("echo oh no; echo nonsense > $1", "no SARIF 2.1.0: JSONDecodeError: .*: oh no"),
        ("ln -s /etc/passwd $1", "it wrote no SARIF report"),
        ("echo x > web/page.js; echo x > $1", "Read-only file system"),
        ("sleep 60", "stopped after .* at its limit of time"),
    ],
)
def test_a_scan_that_was_none_says_why(tmp_path: Path, scanner: str, problem: str) -> None:
    needs_bubblewrap()
    shop = project(tmp_path / "shop", COMMAND, scanner)
    base = CleanCheckout.create(shop, git(shop, "rev-parse", "HEAD"), tmp_path / "base")
    limit = 1.0 if "sleep" in scanner else 60.0
    command = tuple(COMMAND.split())
    found = scan(open_sandbox(BUBBLEWRAP, []), command, base, base, tmp_path / "scratch", limit)
    assert re.search(problem, found.error), found.error
    assert "without the change: sh .valuetrain/scan.sh {sarif}" in found.error
    assert "with the change: " in found.error
    assert (found.new, found.gone) == ((), 0)
    [judged] = judge_scan(found)
    assert judged.level == "blocking"
    assert judged.what.startswith("the code was not scanned without the change")


def test_a_broken_scan_is_a_reason_against_the_change(tmp_path: Path) -> None:
    needs_bubblewrap()
    figures, findings, document = reviewed(project(tmp_path / "shop", COMMAND, "exit 0"), tmp_path, lambda tree: None)
    assert [each["rule"] for each in findings if each["level"] == "blocking"] == ["code-scan"]
    assert figures["review.blocking"] == 1.0
    assert not [name for name in figures if "scan" in name], "what was not measured passes no criterion"
    assert "Not done" in document


def test_a_change_of_the_scanner_itself_is_not_taken(tmp_path: Path) -> None:
    needs_bubblewrap()
    shop = project(tmp_path / "shop", "sh tools/scan.sh {sarif}", where="tools/scan.sh")

    def change(tree: Path) -> None:
        (tree / "tools" / "scan.sh").write_text(SCANNER.replace("eval", "evil"))
        (tree / "web" / "page.js").write_text(PAGE + "eval(1)\n")

    figures, findings, _ = reviewed(shop, tmp_path, change)
    [found] = [each for each in findings if each["level"] == "blocking"]
    assert (found["rule"], found["where"]) == ("code-scan", "tools/scan.sh")
    assert figures["review.scan_error"] == 0.0, "and this is why"


@pytest.mark.parametrize(
    ("command", "problem"),
    [("scan .", "does not say where its report goes; write {sarif}"), ("'", "write one command, for example semgrep")],
)
def test_a_scan_command_that_is_none_is_refused_in_the_first_phase(
    tmp_path: Path, command: str, problem: str
) -> None:  # fmt: skip
    shop = project(tmp_path / "shop", command)
    with pytest.raises(InputError, match=problem.replace("{", r"\{")):
        reviewed(shop, tmp_path, lambda tree: None)


def read(folder: Path, report: Any) -> list[ScanFinding]:
    path = folder / "r.sarif"
    path.write_text(report if isinstance(report, str) else json.dumps(report), "utf-8")
    return list(read_sarif(path, Path("/tree")).findings)


def changed(**values: Any) -> dict[str, Any]:
    """The report with other values in its only result."""
    report = copy.deepcopy(REPORT)
    report["runs"][0]["results"][0] |= values
    return report


def at(uri: str, line: int | None = 3) -> list[dict[str, Any]]:
    return [{"physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": line} if line else {}}}]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ("a", "error", "bad", "", 0, False)),
        ({"level": "note"}, ("a", "note", "bad", "", 0, False)),
        ({"ruleId": "other"}, ("other", "warning", "bad", "", 0, False)),
        ({"ruleId": None, "ruleIndex": 0}, ("a", "error", "bad", "", 0, False)),
        ({"ruleId": None, "rule": {"id": "a"}}, ("a", "error", "bad", "", 0, False)),
        ({"kind": "open"}, ("a", "note", "bad", "", 0, False)),
        ({"locations": at("src/a%20b.js")}, ("a", "error", "bad", "src/a b.js", 3, False)),
        ({"locations": at("file:///tree/src/a.js", None)}, ("a", "error", "bad", "src/a.js", 0, False)),
        ({"locations": at("./a.js")}, ("a", "error", "bad", "a.js", 3, False)),
        ({"suppressions": [{"kind": "inSource"}]}, ("a", "error", "bad", "", 0, True)),
        ({"suppressions": [{"kind": "external", "status": "rejected"}]}, ("a", "error", "bad", "", 0, False)),
        ({"suppressions": []}, ("a", "error", "bad", "", 0, False)),
        ({"message": {"id": "x", "arguments": ["1"]}}, ("a", "error", "x", "", 0, False)),
        ({"message": {"text": "in /tree/a.js\n<b>"}}, ("a", "error", "in a.js <b>", "", 0, False)),
    ],
)
def test_a_result_is_read_as_the_standard_says(tmp_path: Path, values: Any, expected: Any) -> None:
    [found] = read(tmp_path, changed(**values))
    assert (found.rule, found.level, found.what, found.path, found.line, found.suppressed) == expected


@pytest.mark.parametrize("values", [{"kind": "pass"}, {"level": "none"}, {"baselineState": "absent"}])
def test_what_is_in_order_is_no_finding(tmp_path: Path, values: Any) -> None:
    assert read(tmp_path, changed(**values)) == []


def run(**values: Any) -> dict[str, Any]:
    return {**REPORT, "runs": [REPORT["runs"][0] | values]}


@pytest.mark.parametrize(
    ("report", "problem"),
    [
        ("", "no SARIF 2.1.0: JSONDecodeError"),
        ("[" * 100_000, "no SARIF 2.1.0"),
        ("[]", "no SARIF 2.1.0"),
        ({"version": "2.1.0"}, "runs: Field required"),
        ({"version": "2.1.0", "runs": []}, "holds no run"),
        (changed(level="fatal"), r"runs.0.results.0.level: Input should be 'none', 'note', 'warning' or 'error'"),
        (changed(message="bad"), "runs.0.results.0.message"),
        (changed(locations=at("a.js", -1)), "startLine: Input should be greater"),
        (run(results=None), "t has no `results`: it did not scan"),
        (run(tool={}), "driver: Field required"),
        (run(invocations=[{"executionSuccessful": False}]), "t says that it failed: no reason"),
        (run(invocations=[{}]), "executionSuccessful: Field required"),
        (
            run(
                invocations=[
                    {
                        "executionSuccessful": False,
                        "toolExecutionNotifications": [{"level": "error", "message": {"text": "no\nrules"}}],
                    }
                ]
            ),
            "t says that it failed: no rules",
        ),
        (run(results=REPORT["runs"][0]["results"] * 20_001), "more than 20,000 results"),
        ('"' + "x" * LARGEST + '"', "more than 20,000,000 bytes"),
    ],
)
def test_what_is_no_report_is_never_nothing_found(tmp_path: Path, report: Any, problem: str) -> None:
    with pytest.raises(ReportError, match=problem):
        read(tmp_path, report)


findings = st.lists(
    st.builds(
        ScanFinding, rule=st.sampled_from("ab"), level=st.just("error"), what=st.sampled_from("xy"),
        path=st.sampled_from(["p", "q"]), line=st.integers(0, 9), suppressed=st.booleans(),
    ),
    max_size=12,
)  # fmt: skip


@given(findings, findings, st.integers(1, 50))
@pytest.mark.untraced
def test_nothing_that_was_there_is_new_and_nothing_new_is_missed(
    old: list[ScanFinding], added: list[ScanFinding], moved: int
) -> None:
    before = [each.model_copy(update={"line": each.line + moved}) for each in old]
    assert new_findings(before, old) == ()
    assert len(new_findings(before, [*old, *added])) == len(added)
    assert len(new_findings(old, [])) == 0
    assert new_findings([], added) == tuple(added)


def test_a_flood_of_findings_is_counted_and_the_first_are_named() -> None:
    many = [ScanFinding(rule="a", level="error", what=str(n), path="p.js", line=n) for n in range(50)]
    found = CodeScan(command=("x",), tools=("x",), before={}, after={}, new=tuple(many), gone=0, seconds=1.0,
                     contained=True)  # fmt: skip
    judged = judge_scan(found)
    assert len(judged) == 21
    assert judged[-1].what == "error: 30 more like these"
    assert found.added("error") == 50
