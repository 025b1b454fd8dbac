"""Which lines of a comment are commands, and every way that was thought of to make one of something else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatops.grammar import LONGEST, LONGEST_WORDS, MOST, commands_in, plain_lines


def names(text: str) -> list[str]:
    return [f"{said.name} {said.words}".strip() for said in commands_in(text).said]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/approve", ["approve"]),
        ("/APPROVE", ["approve"]),
        ("/approve s1-a.risk-review.1 abcdef0", ["approve s1-a.risk-review.1 abcdef0"]),
        ("/reject \t recall too low  ", ["reject recall too low"]),
        ("Looks good.\n/approve\nThanks!", ["approve"]),
        ("/hold\r\n/status\r\n", ["hold", "status"]),
        ("/hold\r/status", ["hold", "status"]),
        ("/reject `recall` is too low", ["reject `recall` is too low"]),
        ("/reject recall < 0.9", ["reject recall < 0.9"]),
        ("/reject see <b>this</b>", ["reject see <b>this</b>"]),
        ("```\nlog\n```\n/approve", ["approve"]),
        ("~~~ python\n```\n~~~~\n/approve", ["approve"]),
        ("<!-- a template's hint -->\n\n/approve", ["approve"]),
        ("<!-- a\nlong hint\n-->\n\n/approve", ["approve"]),
        ("> was it so?\n\n/approve", ["approve"]),
        ("> ```\n> log\n> ```\n\n/approve", ["approve"]),
        ("`code` in a sentence.\n\n/approve", ["approve"]),
    ],
)
def test_what_is_a_command(text: str, found: list[str]) -> None:
    assert names(text) == found


@pytest.mark.parametrize(
    "text",
    [
        " /approve",
        "\t/approve",
        "I say /approve",
        "> /approve",
        "   > /approve",
        "> what a quotation goes on with\n/approve",
        "- /approve",
        "* /approve",
        "1. /approve",
        "# /approve",
        "    /approve",
        "`/approve`",
        "`not\n/approve\nyet`",
        "``` \n/approve\n```",
        "```\n/approve\n~~~\n/approve\n```",
        "````\n```\n/approve\n````",
        "~~~\n/approve",
        "~~~\n/approve\n```\n",
        "```\n``` not the end\n/approve\n```",
        "   ```\n/approve\n   ```",
        "- a\n  ```\n```\n/approve\n```",
        "- ```\n  /approve\n  ```\n/approve",
        "1. ~~~\n/approve\n   ~~~",
        "    ```\n```\n/approve\n```",
        "\t```\n```\n/approve",
        "```\n    ```\n/approve\n```",
        "```\n\t```\n/approve\n```",
        "\r```\r/approve\r```",
        "<!-- /approve -->",
        "<!--\n/approve\n-->",
        "<!--\n/approve",
        "<!-- a --> <!--\n/approve\n-->",
        "<!-- a -->\n/approve",
        "`<!--`\n```\n-->\n/approve\n```",
        "<div>\n```\n\n```\n/approve\n```",
        "<pre>\n/approve\n</pre>",
        "see <pre>\n/approve\n</pre>",
        "<details><summary>log</summary>\n\n/approve\n</details>",
        "//approve",
        "/ approve",
        "/approve:now",
        "/approve,",
        "/approved!",
        "\\/approve",
        "&#47;approve",
        "/approve\u00a0gate",
        "/approve\u200b",
        "/approve now\u200bnot",
        "/reject a\u202egood",
        "/approve\x00",
        "\u200b/approve",
        "\ufeff/approve",
        "no\u2028/approve",
        "no\x0b/approve",
        "no\x85/approve",
        "⁄approve",
        "∕approve",
        "／approve",
        "/аpprove",  # a Cyrillic а
        "/ａpprove",
        "/re\u017fume",
        "/Approve\u0301",
        "/hel\u212a",
        f"/reject {'x' * (LONGEST_WORDS + 1)}",
        "x" * LONGEST + "\n/approve",
        "/approve\n" + "x" * 1_000_000,
        "",
    ],
)
def test_what_is_none(text: str) -> None:
    assert [said for said in names(text) if not said.startswith("approved")] == []


def test_names_of_other_programs_are_not_ours() -> None:
    heard = commands_in("/label bug\n/approve\n/usr bin", frozenset({"approve"}))
    assert [(said.name, said.number) for said in heard.said] == [("approve", 1)]


def test_no_more_than_a_few_a_comment() -> None:
    heard = commands_in("/status\n" * (MOST + 3))
    assert (len(heard.said), heard.more) == (MOST, 3)
    assert [said.number for said in heard.said] == list(range(1, MOST + 1))


@pytest.mark.parametrize(
    "line", ["/approve ", "> ", "`", "<!--", "```", "~~~", "- ", "<", "/", " ", "\r", "\n", "/a" * 8, "a`<!--`"]
)
def test_a_megabyte_of_anything_is_read_once(line: str) -> None:
    """What takes time with the square of the length would not come back."""
    assert sum(1 for _ in plain_lines(line * (1_000_000 // len(line)))) >= 0
    assert sum(1 for _ in plain_lines((line + "\n") * (1_000_000 // (len(line) + 1)))) >= 0


PIECES = st.sampled_from(
    ["/approve", "/approve now", "```", "~~~", "````", "   ```", "    ```", "> ", "> ```", "- ```", "<!--", "-->", "`",
     "a", "", "<div>", "`<!--`", "\t", "-"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12))
def test_a_command_stands_alone_on_its_line(lines: list[str]) -> None:
    text = "\n".join(lines)
    for said in commands_in(text).said:
        assert f"/{said.name} {said.words}".strip() in lines


@given(st.lists(PIECES, max_size=8), st.sampled_from(["```", "~~~", "````"]))
def test_what_stands_in_a_fence_never_counts(lines: list[str], fence: str) -> None:
    body = [line for line in lines if not line.strip().startswith(fence[0] * 3)]
    assert names("\n".join([fence, *body, fence])) == []
    assert names("\n".join([f"> {line}" for line in lines])) == []


@given(st.text(max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    for said in commands_in(text).said:
        assert said.name.isascii()
        assert f"/{said.name}" in text.lower()
