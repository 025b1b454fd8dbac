"""What differs between two states of a session: phases, gates, artifacts, figures, costs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from conductor.state import SessionState


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that changed. `before` or `after` is None where it did not exist; `kind` is `session`, `phase`, `gate`,
    `artifact`, `version` (of a model in the registry), `figure`, `acceptance`, `effect`, `origin` (what the session has
    there) or `cost`."""

    kind: str
    name: str
    before: Any
    after: Any

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def line(self) -> str:
        """For people: `+` came, `-` went, `~` changed."""
        if self.before is None:
            return f"+ {self.kind} {self.name}: {_shown(self.after)}"
        if self.after is None:
            return f"- {self.kind} {self.name}: was {_shown(self.before)}"
        return f"~ {self.kind} {self.name}: {_shown(self.before)} -> {_shown(self.after)}"


def differences(before: SessionState, after: SessionState) -> tuple[Difference, ...]:
    """All that changed, in a fixed order of kinds; within one, in the order in which it first appeared."""
    found: list[Difference] = []
    for kind, look in _LOOKS.items():
        was, now = look(before), look(after)
        for name in dict.fromkeys([*was, *now]):
            if was.get(name) != now.get(name):
                found.append(Difference(kind, name, was.get(name), now.get(name)))
    return tuple(found)


def _session(state: SessionState) -> Mapping[str, Any]:
    facts = {
        "status": state.status.value,
        "stage": state.stage.value,
        "phase": state.phase,
        "attempt": state.attempt,
        "lease": state.lease,
        "reason": state.reason,
        "branch": state.branch,
        "commit": state.commit,
        "policy_version": state.policy_version,
        "paused": state.paused,
        "priority": state.priority,
    } | {f"went back {way}": times for way, times in state.repeats.items()}
    return {name: value for name, value in facts.items() if value not in ("", 0)}


def _phases(state: SessionState) -> Mapping[str, Any]:
    return {
        p.name: {
            "completed": p.completed,
            "skipped": p.skipped,
            "blocked": p.blocked,
            "attempt": p.attempt,
            "failures": p.failures,
            "summary": p.summary,
            "ticked": dict(p.ticked),
            "warnings": list(p.warnings),
        }
        for p in state.phases.values()
    }


def _gates(state: SessionState) -> Mapping[str, Any]:
    return {
        g.id: {
            "status": g.status,
            "held": g.held,
            "approvals": [a.by.name for a in g.approvals],
            "decided_by": g.decided_by,
        }
        for g in state.gates.values()
    }


def _artifacts(state: SessionState) -> Mapping[str, Any]:
    return {a.name: a.sha256 for a in state.artifacts.values()}


def _versions(state: SessionState) -> Mapping[str, Any]:
    return {f"{r.model} {r.version or r.effect}": r.alias for r in state.registered}


def _figures(state: SessionState) -> Mapping[str, Any]:
    return {f"{scope}.{name}": value for scope, values in state.measured.items() for name, value in values.items()}


def _acceptance(state: SessionState) -> Mapping[str, Any]:
    return dict.fromkeys(state.acceptance, True)


def _at_origin(state: SessionState) -> Mapping[str, Any]:
    here = state.at_origin
    facts = {"claim": here.claim, "pull request": here.pull, "ready": here.ready, "finished": here.finished}
    return {name: value for name, value in facts.items() if value}


def _effects(state: SessionState) -> Mapping[str, Any]:
    return {effect.id: effect.kind for effect in state.effects}


def _costs(state: SessionState) -> Mapping[str, Any]:
    usage = state.usage
    return {
        "usd": round(usage.usd, 6),
        "wall_seconds": round(usage.wall_seconds, 3),
        "cpu_seconds": round(usage.cpu_seconds, 3),
        "tokens": usage.tokens,
        "decisions": state.interventions,
    }


_LOOKS = {
    "session": _session,
    "phase": _phases,
    "gate": _gates,
    "artifact": _artifacts,
    "version": _versions,
    "figure": _figures,
    "acceptance": _acceptance,
    "effect": _effects,
    "origin": _at_origin,
    "cost": _costs,
}


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items() if inner not in ("", [], {}, 0))
    if isinstance(value, list):
        return " and ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
