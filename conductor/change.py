"""Changing frozen states: a copy with some fields set anew. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from conductor.state import PhaseState, SessionState, Stage, replace
from schemas.values import ArtifactRef

Phases = Mapping[str, PhaseState]


def put(mapping: Mapping[str, Any], key: str, value: Any) -> Mapping[str, Any]:
    """The mapping with one more or another value."""
    return MappingProxyType({**mapping, key: value})


def with_phase(state: SessionState, name: str, **changes: Any) -> Phases:
    """The session's phases with changes in one of them."""
    return put(state.phases, name, replace(state.phases.get(name, PhaseState(name)), **changes))


def still(phase: PhaseState, **changes: Any) -> PhaseState:
    """The phase with nothing going on in it."""
    quiet = replace(phase, stage=Stage.IDLE, lease=0, holder="", due=None, gate="", escalated=False)
    return replace(quiet, **changes) if changes else quiet


def artifacts_of(phases: Phases) -> Mapping[str, ArtifactRef]:
    """What the newest report of each phase produced; a later phase's artifact of the same name counts."""
    return MappingProxyType({a.name: a for phase in phases.values() for a in phase.artifacts})


def figures_of(phases: Phases) -> Mapping[str, Mapping[str, float]]:
    """What the newest report of each phase measured: a figure an attempt no longer gives must not pass a criterion."""
    measured: dict[str, dict[str, float]] = {}
    for phase in phases.values():
        for m in phase.measurements:
            measured.setdefault(m.scope, {})[m.name] = m.value
    return MappingProxyType({scope: MappingProxyType(values) for scope, values in measured.items()})
