"""Changing frozen states: a copy with some fields set anew. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from conductor.state import PhaseState, SessionState, Stage, replace
from schemas.values import ArtifactRef

Phases = Mapping[str, PhaseState]
K = TypeVar("K")
V = TypeVar("V")


def copied(mapping: Mapping[K, V]) -> dict[K, V]:
    """A dict with the same values; the mapping is a dict or a view of one, and its own copy costs a fifth of dict()."""
    return mapping.copy()  # type: ignore[attr-defined,no-any-return]


def put(mapping: Mapping[str, Any], key: str, value: Any) -> Mapping[str, Any]:
    """The mapping with one more or another value."""
    changed = copied(mapping)
    changed[key] = value
    return MappingProxyType(changed)


def with_phase(state: SessionState, name: str, **changes: Any) -> Phases:
    """The session's phases with changes in one of them."""
    phases = copied(state.phases)
    known = phases.get(name)
    phases[name] = replace(PhaseState(name) if known is None else known, **changes)
    return MappingProxyType(phases)


def still(phase: PhaseState, **changes: Any) -> PhaseState:
    """The phase with nothing going on in it."""
    return replace(phase, **{**_QUIET, **changes})


_QUIET: dict[str, Any] = {
    "stage": Stage.IDLE, "lease": 0, "holder": "", "due": None, "gate": "", "escalated": False,
}  # fmt: skip


def artifacts_of(phases: Phases) -> Mapping[str, ArtifactRef]:
    """What the newest report of each phase produced; a later phase's artifact of the same name counts."""
    return MappingProxyType({a.name: a for phase in phases.values() if phase.artifacts for a in phase.artifacts})


def figures_of(phases: Phases) -> Mapping[str, Mapping[str, float]]:
    """What the newest report of each phase measured: a figure an attempt no longer gives must not pass a criterion."""
    measured: dict[str, dict[str, float]] = {}
    for phase in [p for p in phases.values() if p.measurements]:
        for m in phase.measurements:
            if (values := measured.get(m.scope)) is None:
                values = measured[m.scope] = {}
            values[m.name] = m.value
    return MappingProxyType({scope: MappingProxyType(values) for scope, values in measured.items()})
