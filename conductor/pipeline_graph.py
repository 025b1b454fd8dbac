"""The order of a pipeline's phases, rule by rule: what comes after what, which ways lead back, what runs in parallel.

Phases go by their numbers here, since two may bear one name by mistake. Nothing here reads a file.
"""

from __future__ import annotations

from typing import Any

from conductor.catalog import doubled
from conductor.yamlfile import Document, misspelt
from schemas.values import Mode

_BACK_TO = (Mode.BUILD.value, Mode.DESIGN.value)
"""The modes of phases to which a session may go back."""


class Order:
    """For each phase those it comes after: `direct`, and `before`, also by way of others."""

    def __init__(self, document: Document) -> None:
        self.names: list[Any] = []
        self.direct: list[tuple[int, ...]] = []
        self.before: list[tuple[int, ...]] = []
        for at, phase in document.items("phases"):
            after = document.at("phases", at, "after")
            direct = tuple(n for n in range(at) if self.names[n] in after) if isinstance(after, list) else ()
            if after is None:
                direct = (at - 1,) if at else ()
            self.direct.append(direct)
            self.names.append(phase.get("name") if isinstance(phase, dict) else None)
            found = {*direct, *(n for parent in direct for n in self.before[parent])}
            wrong = after is not None and not (isinstance(after, list) and all(a in self.names[:at] for a in after))
            self.before.append(tuple(range(at)) if wrong else tuple(sorted(found)))  # a slip is one mistake, not many


def check(document: Document, order: Order) -> None:
    """Add to `document` what is wrong with the order of its phases."""
    for at, phase in document.items("phases"):
        if isinstance(phase, dict):
            _after(document, order, at)
            _ways_back(document, order, at)
            _parallel(document, order, at)


def _after(document: Document, order: Order, at: int) -> None:
    path, above = ("phases", at, "after"), [name for name in order.names[:at] if isinstance(name, str)]
    for number, name in document.items(*path):
        doubled(document, (*path, number), document.at(*path)[:number], "phase")
        if not isinstance(name, str) or name in above:
            continue
        hint = misspelt(name, above)
        if name in order.names:
            hint = "move it up, or remove it here: a phase comes only after phases above it in the file"
        document.add((*path, number), f"comes after {name!r}, which is no phase above this one; {hint}")


def _ways_back(document: Document, order: Order, at: int) -> None:
    path = ("phases", at, "repeat")
    before = {order.names[n]: n for n in order.before[at] if isinstance(order.names[n], str)}
    rules = [rule.get("to") if isinstance(rule, dict) else None for _, rule in document.items(*path)]
    for number, name in enumerate(rules):
        if not isinstance(name, str):
            continue
        place = (*path, number, "to")
        doubled(document, place, rules[:number], "phase")
        if name not in before:
            document.add(
                place, f"goes back to {name!r}, which does not come before this phase; {misspelt(name, before)}"
            )
            continue
        mode = document.at("phases", before[name], "mode")
        if mode in list(Mode) and mode not in _BACK_TO:
            reason = f"goes back to {name!r}, which is of mode {mode}; name a phase of mode build or design"
            document.add(place, reason)


def _parallel(document: Document, order: Order, at: int) -> None:
    """Which of two parallel phases wrote an artifact last would be chance."""
    for number, artifact in document.items("phases", at, "artifacts"):
        for other in range(at):
            theirs = document.at("phases", other, "artifacts")
            if other not in order.before[at] and isinstance(theirs, list) and artifact in theirs:
                reason = f"{artifact!r} is produced by {order.names[other]} too, which may run at the same time; "
                document.add(("phases", at, "artifacts", number), reason + "give one of the two another name")
