"""What makes a pipeline fit together, rule by rule: artifacts, figures, modes, checklists. Nothing here reads a file.

Rules look at the plain data, so that one wrong field hides no other: a phase that is wrong elsewhere still produces its
artifacts for the phases after it.
"""

from __future__ import annotations

from typing import Any

from conductor.catalog import Catalog, PipelineError, doubled
from conductor.criterion_types import Figures, problems
from conductor.pipeline_graph import Order
from conductor.yamlfile import Document, misspelt
from schemas.figures import MEASURED
from schemas.pipeline_source import ModeDefinition
from schemas.values import SIGNATURE, Mode, Role

_RETRIES = 3
_SECONDS = 600.0
"""The defaults of a phase's `retry.max_attempts` and `timeout_seconds`."""


def check(document: Document, catalog: Catalog, order: Order) -> None:
    """Add to `document` what is wrong between its parts."""
    produced: dict[int, list[str]] = {}
    measured: dict[int, set[str]] = {}
    modes: dict[int, ModeDefinition | None] = {}
    for at, phase in document.items("phases"):
        if not isinstance(phase, dict):
            continue
        path = ("phases", at)
        before = order.before[at]
        produced[at] = [*_texts(phase.get("artifacts")), *(f"{a}{SIGNATURE}" for a in _texts(phase.get("sign")))]
        measured[at] = {name for skill in _texts(phase.get("skills")) for name in MEASURED.get(skill, ())}
        measured[at] |= {name for name in _texts(phase.get("measures")) if "." in name}
        known = {name for n in before for name in measured.get(n, ())}
        _names(document, path, at)
        _artifacts(document, path, produced, order)
        _criteria(document, path, Figures(known), Figures(known | measured[at]))
        _gate(document, path)
        _idle(document, path)
        _owner(document, path, catalog)
        modes[at] = _mode(document, path, catalog, [m for n in order.direct[at] if (m := modes.get(n)) is not None])


def _names(document: Document, path: tuple[str | int, ...], at: int) -> None:
    doubled(document, (*path, "name"), [document.at("phases", n, "name") for n in range(at)], "phase")
    for key, what in (("artifacts", "artifact"), ("skills", "skill"), ("needs", "artifact"), ("criteria", "criterion")):
        values = _list(document.at(*path, key))
        for number in range(len(values)):
            doubled(document, (*path, key, number), values[:number], what)
    items = [item.get("id") if isinstance(item, dict) else None for item in _list(document.at(*path, "checklist"))]
    if not isinstance(_written(document, path), str):  # a checklist file is checked by itself
        for number in range(len(items)):
            doubled(document, (*path, "checklist", number, "id"), items[:number], "checklist item")


def _artifacts(document: Document, path: tuple[str, int], produced: dict[int, list[str]], order: Order) -> None:
    at = path[1]
    earlier = [name for n in order.before[at] for name in produced.get(n, ())]
    for number, name in document.items(*path, "needs"):
        if isinstance(name, str) and name not in earlier:
            hint = misspelt(name, earlier)
            makers = [n for n in range(at) if name in produced.get(n, ())]
            if makers:
                hint = f"{order.names[makers[-1]]} above does, so add it to `after`"
            document.add((*path, "needs", number), f"needs {name!r}, which no phase before this one produces; {hint}")
    for number, item in document.items(*path, "checklist"):
        evidence = item.get("evidence") if isinstance(item, dict) else None
        if isinstance(evidence, str) and evidence not in earlier and evidence not in produced[at]:
            where = f"{_written(document, path)}, item " if isinstance(_written(document, path), str) else ""
            reason = f"{where}{item.get('id')}: its evidence {evidence!r} is produced neither here nor earlier; "
            reason += "add it to the phase's `artifacts`, or take a checklist that fits"
            document.add((*path, "checklist", number, "evidence"), reason)


def _criteria(document: Document, path: tuple[str | int, ...], before: Figures, figures: Figures) -> None:
    """`before` is what is measured when the phase's turn comes, `figures` what is after its work."""
    places = [((*path, "criteria", number), figures) for number, _ in document.items(*path, "criteria")]
    places += [((*path, "repeat", number, "when"), figures) for number, _ in document.items(*path, "repeat")]
    places += [((*path, "gate", "when"), figures), ((*path, "skip_when"), before)]
    for place, known in places:
        expression = document.at(*place)
        if isinstance(expression, str):
            for problem in problems(expression, known):
                document.add(place, problem)


def _gate(document: Document, path: tuple[str | int, ...]) -> None:
    gate = document.at(*path, "gate")
    if not isinstance(gate, dict) or gate.get("human", "never") != "never":
        return
    for name in ("quorum", "expires_seconds"):
        if name in gate:
            document.add((*path, "gate", name), "is without effect where no person decides; add `human: always` or "
                         "`human: when`, or remove it")  # fmt: skip


def _idle(document: Document, path: tuple[str | int, ...]) -> None:
    idle, asked = document.at(*path, "idle_seconds"), document.at(*path, "timeout_seconds")
    seconds = _SECONDS if asked is None else asked
    if isinstance(idle, int | float) and isinstance(seconds, int | float) and idle >= seconds:
        reason = f"is {idle:g}, but an attempt ends after {seconds:g} seconds anyway (timeout_seconds); write less"
        document.add((*path, "idle_seconds"), reason)


def _owner(document: Document, path: tuple[str | int, ...], catalog: Catalog) -> None:
    name, agent = _written(document, path), document.at(*path, "agent")
    if not isinstance(name, str) or name not in catalog.origins["checklist"]:
        return
    try:
        owner = catalog.checklist(name).owner
    except PipelineError:
        return  # said where the checklist was looked up
    if owner is not None and agent in list(Role) and agent != owner.value:
        reason = f"checklist {name!r} belongs to {owner.value}, but the phase to {agent}; take another, or that agent"
        document.add((*path, "checklist"), reason)


def _mode(
    document: Document, path: tuple[str | int, ...], catalog: Catalog, before: list[ModeDefinition]
) -> ModeDefinition | None:
    """Hold a phase against its mode and those directly before it; what the mode says, for the phases after it."""
    name = document.at(*path, "mode")
    if name not in list(Mode):
        return None
    try:
        mode = catalog.mode(Mode(name))
    except PipelineError as problem:
        document.problems += [p for p in problem.problems if p not in document.problems]
        return None
    for other in before:
        if mode.name is not other.name and mode.name not in other.leads_to:
            after = ", ".join(m.value for m in (other.name, *other.leads_to))
            reason = f"is {name!r}, but {other.name.value} leads only to {after}; put a phase between"
            document.add((*path, "mode"), reason)
    agent = document.at(*path, "agent")
    if agent in list(Role) and Role(agent) not in mode.agents:
        may = ", ".join(role.value for role in mode.agents)
        document.add((*path, "agent"), f"{agent} is no agent of mode {name}; agents there are {may}")
    for number, skill in document.items(*path, "skills"):
        # A mode speaks of the agents' own areas; a plugin's skill has another and names its modes itself.
        if isinstance(skill, str) and skill.partition(".")[0] in list(Role) and not mode.allows(skill):
            reason = f"mode {name} does not allow {skill!r}; it allows {', '.join(mode.skills)}"
            document.add((*path, "skills", number), reason)
    _limit(document, (*path, "timeout_seconds"), _SECONDS, mode.limits.timeout_seconds, name)
    _limit(document, (*path, "retry", "max_attempts"), _RETRIES, mode.limits.max_attempts, name)
    return mode


def _limit(document: Document, path: tuple[str | int, ...], default: float, most: float, mode: Any) -> None:
    value = document.at(*path)
    asked = default if value is None else value
    if isinstance(asked, int | float) and asked > most:
        said = "" if value is not None else " (the default)"
        document.add(path, f"is {asked:g}{said}, but mode {mode} allows at most {most:g}; write less")


def _written(document: Document, path: tuple[str | int, ...]) -> Any:
    """What stands in the file under `checklist`: a name, or the items."""
    return document.names.get((*path, "checklist"))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [v for v in _list(value) if isinstance(v, str)]
