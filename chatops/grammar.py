"""Which lines of a comment are commands: `/command args` at the very start of a line. Pure, and linear in its length.

A command counts only where no reading of the comment shows it as something else: quoted, code, HTML. Markdown has many
ways to nest those, so in doubt a line does not count. A person whose command was passed over writes it again on a line
of its own; one that counted against their will cannot be taken back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 65_536
"""Characters a comment may have; GitHub takes no longer ones."""

MOST = 5
"""Commands of one comment that count."""

LONGEST_WORDS = 2_000
"""Characters that may follow a command on its line."""

_COMMAND = re.compile(r"/([A-Za-z][A-Za-z-]{0,31})(?:[ \t]+([^\n]*))?")
"""Letters are spelt out: ignoring case would let look-alikes of other alphabets match (`ſ` for `s`)."""

_FENCE = re.compile(r" {0,3}(?P<mark>`{3,}(?=[^`\n]*$)|~{3,})")
_LIKE_FENCE = re.compile(r"[ \t>*+\-.)0-9]*(?:`{3}|~{3})")
"""A fence, perhaps in a list or quotation: where such a one ends is a matter of interpretation."""

_HTML = re.compile(r"<[A-Za-z/?!]")
_QUOTE = re.compile(r" {0,3}>")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


@dataclass(frozen=True, slots=True)
class Said:
    """One command of a comment: its name in lower case, the words after it, and which one it is (from 1)."""

    name: str
    words: str
    number: int


@dataclass(frozen=True, slots=True)
class Heard:
    """All commands of a comment that count; `more` are those beyond MOST."""

    said: tuple[Said, ...] = ()
    more: int = 0


def commands_in(text: str, known: frozenset[str] | None = None) -> Heard:
    """The commands in a comment, those called as in `known` if it is given: other programs' are not ours to judge."""
    if len(text) > LONGEST:
        return Heard()
    found: list[Said] = []
    more = 0
    for line in plain_lines(text):
        match = _COMMAND.fullmatch(line)
        if match is None or (known is not None and match[1].lower() not in known):
            continue
        words = (match[2] or "").strip(" \t")
        if len(words) > LONGEST_WORDS or _UNSAFE.search(words):
            continue
        if len(found) < MOST:
            found.append(Said(match[1].lower(), words, len(found) + 1))
        else:
            more += 1
    return Heard(tuple(found), more)


def plain_lines(text: str) -> Iterator[str]:
    """The lines that are neither quoted nor code nor HTML under any reading."""
    fence = ""
    comment = shadow = False
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if fence:
            if _closes(line, fence):
                fence = ""
            continue
        if comment:
            if _LIKE_FENCE.match(line):
                return  # a fence to those who see no comment here
            comment = "-->" not in line
            shadow = True  # what follows on the line of the end, and below it, may belong to the same block
            continue
        if not line.strip(" \t"):
            shadow = False
            continue
        if opened := _FENCE.match(line):
            if opened.start("mark"):
                return  # indented: in a list it ends with the list, elsewhere with a fence
            fence, shadow = opened["mark"], False
            continue
        if _QUOTE.match(line):
            shadow = True  # a quotation goes on over the line's end; a fence in it ends with it
            continue
        if _LIKE_FENCE.match(line):
            return
        begins, _, rest = line.partition("<!--")
        if rest or line.endswith("<!--"):
            if _HTML.search(begins) or "<!--" in rest:
                return
            comment = "-->" not in rest
            shadow = True
            continue
        if not shadow:
            yield line
        if _HTML.search(line):
            return
        shadow = shadow or "`" in line  # until the paragraph ends: a code span goes on over the line's end


def _closes(line: str, fence: str) -> bool:
    bare = line.strip(" \t")
    indent = len(line) - len(line.lstrip(" "))
    return indent <= 3 and len(bare) >= len(fence) and bare == fence[0] * len(bare) and not line.startswith("\t")
