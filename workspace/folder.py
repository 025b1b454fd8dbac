"""The ticket folder: what a session's branch shows of the record. Pure rendering: same input, same bytes.

Files are projections of events. Nobody reads them back to decide anything; a hand edit changes the file, not the state.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from schemas.ticket import Ticket
from schemas.values import ArtifactRef

COMMITTED_BYTES = 5_000_000
"""Larger artifacts are named in the manifest and stay in the artifact store: git keeps every version for ever."""

NEVER_COMMITTED = (".parquet", ".db")


@dataclass(frozen=True, slots=True)
class ItemEntry:
    """A checklist item; `evidence` is None while it is not ticked."""

    id: str
    text: str
    required: bool
    evidence: str | None


@dataclass(frozen=True, slots=True)
class PhaseEntry:
    """One phase as the folder shows it."""

    name: str
    agent: str
    mode: str
    status: str
    attempt: int
    summary: str
    items: tuple[ItemEntry, ...]
    artifacts: tuple[ArtifactRef, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GateEntry:
    """One gate as the folder shows it."""

    id: str
    phase: str
    kind: str
    status: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class TicketFolder:
    """All that is rendered. `updated` is ISO 8601 UTC; `measured` maps `scope.name` to the value."""

    session: str
    ticket: Ticket
    pipeline: str
    branch: str
    base_commit: str
    status: str
    phase: str
    updated: str
    acceptance: tuple[str, ...]
    phases: tuple[PhaseEntry, ...]
    gates: tuple[GateEntry, ...]
    measured: dict[str, float]
    cost_usd: float
    seconds: float


def committed(artifact: ArtifactRef) -> tuple[bool, str]:
    """Whether an artifact's bytes go into git, and why not."""
    if artifact.sealed:
        return False, "sealed: hold-out labels are not shown to anybody"
    if artifact.name.endswith(NEVER_COMMITTED):
        return False, "a table; it stays in the artifact store"
    if artifact.size > COMMITTED_BYTES:
        return False, f"larger than {COMMITTED_BYTES:,} bytes"
    return True, ""


def render(folder: TicketFolder, read: Callable[[str], bytes]) -> dict[str, bytes]:
    """Relative path → content. `read` gives an artifact's bytes by SHA-256 and may raise; nothing is swallowed."""
    files: dict[str, bytes] = {
        "ACTIVE_SESSION.md": _session(folder).encode(),
        "checklist.md": _checklist(folder).encode(),
        "ticket.yml": _ticket(folder.ticket).encode(),
        "artifacts/manifest.json": _manifest(folder).encode(),
    }
    for phase in folder.phases:
        for artifact in phase.artifacts:
            if committed(artifact)[0]:
                files[f"artifacts/{phase.name}/{artifact.name}"] = read(artifact.sha256)
    return files


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)


def _session(folder: TicketFolder) -> str:
    head = {
        "session": folder.session,
        "ticket": folder.ticket.id,
        "title": folder.ticket.title,
        "pipeline": folder.pipeline,
        "status": folder.status,
        "phase": folder.phase,
        "branch": folder.branch,
        "base_commit": folder.base_commit,
        "updated": folder.updated,
        "cost_usd": round(folder.cost_usd, 6),
        "skill_seconds": round(folder.seconds, 1),
        "gates": [{"gate": g.id, "status": g.status, "by": g.by} for g in folder.gates],
    }
    lines = ["---", _yaml(head).rstrip(), "---", "", f"# Ticket {folder.ticket.id}: {_plain(folder.ticket.title)}", ""]
    lines += ["Rendered from the event record; editing this file changes nothing.", ""]
    lines += ["| phase | agent | status | attempt | what came out |", "|---|---|---|---|---|"]
    for p in folder.phases:
        lines.append(f"| {p.name} | {p.agent} | {p.status} | {p.attempt or ''} | {_plain(p.summary)} |")
    if folder.acceptance:
        lines += ["", "## Acceptance criteria", "", *(f"- `{c}`" for c in folder.acceptance)]
    warnings = [(p.name, w) for p in folder.phases for w in p.warnings]
    if warnings:
        lines += ["", "## Warnings", "", *(f"- {name}: {_plain(text)}" for name, text in warnings)]
    if folder.measured:
        lines += ["", "## Measured", "", "| figure | value |", "|---|---|"]
        lines += [f"| {name} | {value:.6g} |" for name, value in sorted(folder.measured.items())]
    return "\n".join(lines) + "\n"


def _checklist(folder: TicketFolder) -> str:
    lines = [f"# Checklist of ticket {folder.ticket.id}", ""]
    for phase in folder.phases:
        lines += [f"## {phase.name}", ""]
        for item in phase.items:
            mark = "x" if item.evidence is not None else " "
            note = f" — {_plain(item.evidence)}" if item.evidence else ""
            lines.append(f"- [{mark}] {item.text}{'' if item.required else ' (optional)'}{note}")
        lines.append("")
    return "\n".join(lines)


def _ticket(ticket: Ticket) -> str:
    return _yaml(ticket.model_dump(mode="json", exclude_none=True))


def _manifest(folder: TicketFolder) -> str:
    rows = []
    for phase in folder.phases:
        for artifact in phase.artifacts:
            yes, why = committed(artifact)
            row = {"phase": phase.name, "name": artifact.name, "sha256": artifact.sha256, "bytes": artifact.size}
            rows.append(row | ({"committed": True} if yes else {"committed": False, "why": why}))
    return json.dumps(rows, indent=2) + "\n"


def _plain(text: str) -> str:
    """Text from outside on one line, unable to break a table or start markup."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
