"""Which tickets branches and open pull requests serve already. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from autopilot.sources.port import Serving
from forge.reading import Pull

_OURS = re.compile(r"^phase/[a-z0-9][a-z0-9-]*_(?P<number>\d+)(-|$)")
_FROM_ISSUE = re.compile(r"^(?P<number>\d+)-")
"""How GitHub names a branch that somebody makes from an issue."""
_CLOSES = r"(?i)\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?):?[ \t]+(?:{0}#|https?://\S+/{0}/issues/|#)(?P<number>\d+)\b"


def ticket_of(branch: str) -> int | None:
    """The ticket a branch is for, by its name: `phase/delivery_12-k7m2p`, `12-flag-tumours`."""
    found = _OURS.match(branch) or _FROM_ISSUE.match(branch)
    return int(found["number"]) if found else None


def closed_by(text: str, repository: str) -> frozenset[int]:
    """The issues a pull request's text says it closes, in GitHub's own words: `Fixes #12`."""
    return frozenset(int(found["number"]) for found in re.finditer(_CLOSES.format(re.escape(repository)), text))


def serving(branches: Iterable[str], pulls: Mapping[int, Pull], repository: str) -> dict[int, tuple[Serving, ...]]:
    """By ticket, what serves it: open pull requests first, then branches without one."""
    found: dict[int, list[Serving]] = {}
    with_pull = set()
    for number in sorted(pulls):
        pull = pulls[number]
        author = pull.author.login if pull.author else "an account that is gone"
        tickets = closed_by(f"{pull.title}\n{pull.body}", repository)
        if (pull.head_repository or "").lower() == repository.lower():
            with_pull.add(pull.head_ref)
            if (named := ticket_of(pull.head_ref)) is not None:
                tickets |= {named}
        for ticket in sorted(tickets):
            found.setdefault(ticket, []).append(Serving(pull.head_ref, number, author))
    for branch in sorted(branches):
        named = ticket_of(branch)
        if named is not None and branch not in with_pull:
            found.setdefault(named, []).append(Serving(branch))
    return {ticket: tuple(rows) for ticket, rows in found.items()}
