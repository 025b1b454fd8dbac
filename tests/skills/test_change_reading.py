"""What the skills of a code change read: JUnit reports, patches with credentials in them, tests that check less."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.skills.change.coverage import covering
from agents.skills.change.inspecting import _tests
from agents.skills.change.junit import ReportError, read_junit
from agents.skills.change.secrets import PATTERNS, find_secrets
from agents.skills.change.shapes import TestReport, TestRun

# Put together from parts, so that nothing here looks like a credential to others who search for them.
SAMPLES = {
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "AWS access key": "AKIA" + "A1B2C3D4E5F6G7H8",
    "GitHub token": "ghp_" + "a1B2" * 9,
    "GitLab token": "glpat-" + "a1B2c3D4e5F6g7H8i9J0",
    "Slack token": "xoxb-" + "1234567890-abcdef",
    "Google API key": "AIza" + "a1B2c" * 7,
    "API key of a model provider": "sk-" + "proj-" + "a1B2c3D4" * 5,
    "NATS seed": "SU" + "A2B3" * 14,
    "JSON web token": "eyJ" + "hbGciOiJIUz" + ".eyJ" + "zdWIiOiIxMjM" + "." + "a1B2c3D4e5F6",
    "password in a URL": "postgresql://app:" + "s3cretpass" + "@db/x",
}


def patch(*added: str, path: str = "a.py") -> bytes:
    lines = [f"diff --git a/{path} b/{path}", "--- /dev/null", f"+++ b/{path}", f"@@ -0,0 +1,{len(added)} @@"]
    return "\n".join([*lines, *(f"+{line}" for line in added), ""]).encode()


def test_every_pattern_has_a_sample() -> None:
    assert set(SAMPLES) == set(PATTERNS)


@pytest.mark.parametrize("kind", SAMPLES)
def test_credentials_are_found_by_kind_and_place(kind: str) -> None:
    (found,) = find_secrets(patch("# nothing", f"x = f({SAMPLES[kind]!r})", path="src/b.py"))
    assert (found.kind, found.path, found.line) == (kind, "src/b.py", 2)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("PASSWORD = '" + "kX9!" + "vQ2#mZ7pLw" + "'", True),
        ('"api_key": "' + "a8f3k2" + "9dk3l1m0s8" + '"', True),
        ("password = 'changeme-please'", False),
        ("token = '{{ secrets.TOKEN_FOR_CI_1 }}'", False),
        ("token = os.environ['SERVICE_TOKEN_1']", False),
        ("tokenizer = 'bert-base-uncased'", False),
        ("postgresql://app:{password}@db/x", False),
    ],
)
def test_random_text_under_a_telling_name(line: str, found: bool) -> None:
    assert bool(find_secrets(patch(line))) is found


def test_only_what_is_added_counts() -> None:
    old = SAMPLES["AWS access key"]
    text = f"--- a/a.py\n+++ b/a.py\n@@ -1,3 +1,2 @@\n {old}\n-{old}\n-x\n+y\n"
    assert find_secrets(text.encode()) == ()


@given(st.binary(max_size=400))
def test_any_bytes_can_be_searched(data: bytes) -> None:
    find_secrets(data)
    find_secrets(patch("x") + data)


def report(tmp_path: Path, text: str) -> dict[str, str]:
    place = tmp_path / "junit.xml"
    place.write_text(text)
    return dict(read_junit(place))


def test_a_report_is_read(tmp_path: Path) -> None:
    text = (
        "<testsuites><testsuite><testcase classname='a' name='one'/><testcase classname='a' name='two'><failure/>"
        "</testcase><testcase classname='a' name='two'/><testcase name='three'><skipped/></testcase>"
        "<testcase classname='b' name='four'><error>x</error></testcase></testsuite></testsuites>"
    )
    assert report(tmp_path, text) == {"a::one": "passed", "a::two": "failed", "::three": "skipped", "b::four": "failed"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no XML"),
        ("<testsuite>", "is no XML"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>", "document type"),
    ],
)
def test_what_is_no_report(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ReportError, match=says):
        report(tmp_path, text)


def test_a_report_that_is_a_link_or_missing_is_none(tmp_path: Path) -> None:
    (tmp_path / "there.xml").write_text("<testsuite/>")
    (tmp_path / "junit.xml").symlink_to(tmp_path / "there.xml")
    for name in ("junit.xml", "nowhere.xml"):
        with pytest.raises(ReportError, match="wrote no JUnit report"):
            read_junit(tmp_path / name)


OUTCOMES = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["passed", "failed", "skipped"]))


@given(OUTCOMES, OUTCOMES)
def test_every_test_is_in_its_place(before: dict[str, str], after: dict[str, str]) -> None:
    runs = [
        TestRun.model_validate({"command": ["x"], "outcomes": each, "seconds": 1.0, "exit_code": 0, "contained": True})
        for each in (before, after)
    ]
    compared = TestReport(patch_sha256="0" * 64, base_commit="0" * 40, before=runs[0], after=runs[1])
    assert compared.new | set(before) == set(before) | set(after)
    assert compared.removed | set(after) == set(before) | set(after)
    groups = [compared.new, compared.removed, compared.fixed, compared.broken, compared.silenced]
    assert sum(map(len, groups)) == len(set().union(*groups)), "no test is in two of them"
    same = {name for name in before.keys() & after.keys() if before[name] == after[name]}
    assert not same & set().union(*groups)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("def test_x():\n    assert f()\n    assert True", {"test_x": (1, 0)}),
        ("class TestA:\n    def test_x(self):\n        self.assertEqual(1, f())", {"TestA.test_x": (1, 0)}),
        (
            "@pytest.mark.skipif(True)\nclass TestA:\n    def test_x(self):\n        assert f()",
            {"TestA.test_x": (1, 1)},
        ),
        ("def test_x():\n    pytest.skip('no')\n    with pytest.raises(E):\n        f()", {"test_x": (1, 1)}),
        ("async def test_x():\n    pass\ndef helper():\n    assert f()", {"test_x": (0, 0)}),
    ],
)
def test_checks_are_counted(body: str, expected: dict[str, tuple[int, int]]) -> None:
    assert _tests(body) == expected


def test_tests_are_found_by_what_they_import() -> None:
    files = {
        "src/shop/loader.py": "", "shop/cart.py": "", "lonely.py": "",
        "tests/test_a.py": "from shop.loader import load", "tests/test_b.py": "from shop import cart",
        "tests/test_c.py": "import shop.cart as c\nbroken(", "tests/test_d.py": "import shop.cart",
    }  # fmt: skip
    assert covering(["src/shop/loader.py", "shop/cart.py", "lonely.py", "x.md"], files, files.get) == {
        "src/shop/loader.py": ["tests/test_a.py"],
        "shop/cart.py": ["tests/test_b.py", "tests/test_d.py"],
        "lonely.py": [],
    }
