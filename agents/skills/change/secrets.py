"""Looking for credentials in the lines a patch adds. What is found is named by its kind and place, never shown."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

PATTERNS: dict[str, re.Pattern[str]] = {
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    "AWS access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})\b"),
    "GitLab token": re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}"),
    "Slack token": re.compile(r"\bxox[abposr]-[A-Za-z0-9-]{10,}"),
    "Google API key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"),
    "API key of a model provider": re.compile(r"\bsk-(?:[a-z]+-)*[A-Za-z0-9_-]{32,}"),
    "NATS seed": re.compile(r"\bS[ACNOUX][A-Z2-7]{56}\b"),
    "JSON web token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    "password in a URL": re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@'\"]+:[^\s/:@'\"{}$<>]{6,}@"),
}
"""By kind, each with the form its issuer documents."""

_ASSIGNED = re.compile(
    r"(?i)\b[\w.-]*(?:password|passwd|secret|token|api_?key|access_?key|credential)[\w.-]*['\"]?\s*[:=]\s*"
    r"['\"]([^'\"\s]{12,})['\"]"
)
_RANDOM = 3.5
"""Bits per character from which a text in quotes counts as random: words stay below, keys lie above."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """Something that looks like a credential, on line `line` of the new file `path`."""

    kind: str
    path: str
    line: int


def find_secrets(patch: bytes) -> tuple[Suspect, ...]:
    """The credentials the patch would add, one for each line."""
    found = []
    for path, number, text in _added(patch.decode("utf-8", "replace")):
        if kind := kind_of(text):
            found.append(Suspect(kind, path, number))
    return tuple(found)


def kind_of(line: str) -> str:
    """The kind of credential that a line of text looks like; empty for none."""
    kind = next((kind for kind, pattern in PATTERNS.items() if pattern.search(line)), "")
    if not kind and any(_random(match[1]) for match in _ASSIGNED.finditer(line)):
        kind = "random text under the name of a credential"
    return kind


def _added(patch: str) -> Iterator[tuple[str, int, str]]:
    """Path, line number and text of each line a unified diff adds."""
    path, number, left = "", 0, 0
    for line in patch.split("\n"):
        if left <= 0 and line.startswith("+++ "):
            path = line[4:].split("\t")[0].strip('"').removeprefix("b/")
        elif left <= 0 and (match := re.match(r"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", line)):
            number = int(match[2])
            left = int(match[1] or 1) + int(match[3] or 1)
        elif left > 0 and line.startswith("+"):
            yield path, number, line[1:]
            number, left = number + 1, left - 1
        elif left > 0 and line.startswith("-"):
            left -= 1
        elif left > 0 and not line.startswith("\\"):
            number, left = number + 1, left - 2


def _random(text: str) -> bool:
    if re.fullmatch(r"[A-Za-z_.-]+|.*[<>{}$ ].*", text):  # a name, or a place where a value is put in
        return False
    counts = Counter(text)
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values()) >= _RANDOM
