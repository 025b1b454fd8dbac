"""From a board row to the ticket folder. Pure."""

from __future__ import annotations

from datetime import datetime

from autopilot.board import SessionRow
from schemas.envelope import timestamp
from workspace.folder import GateEntry, ItemEntry, PhaseEntry, TicketFolder


def folder_of(row: SessionRow, when: datetime) -> TicketFolder:
    """What the branch of `row` shows at `when`."""
    phases = []
    for definition in row.pipeline.phases:
        phase = row.phases[definition.name]
        items = tuple(ItemEntry(i.id, i.text, i.required, phase.ticked.get(i.id)) for i in definition.checklist)
        phases.append(
            PhaseEntry(
                name=phase.name,
                agent=phase.agent,
                mode=definition.mode.value,
                status=phase.status,
                attempt=phase.attempt,
                summary=phase.summary,
                items=items,
                artifacts=tuple(phase.artifacts.values()),
                warnings=phase.warnings,
            )
        )
    return TicketFolder(
        session=row.id,
        ticket=row.ticket,
        pipeline=row.pipeline.name,
        branch=row.branch,
        base_commit=row.base_commit,
        forked_from=f"{row.forked.session} after event {row.forked.sequence}" if row.forked else "",
        status=row.status,
        phase=row.phase,
        updated=timestamp(when),
        acceptance=row.acceptance,
        phases=tuple(phases),
        gates=tuple(GateEntry(g.id, g.phase, g.kind, g.status, ", ".join(g.by), g.reason) for g in row.gates.values()),
        measured={f"{m.scope}.{m.name}": m.value for p in row.phases.values() for m in p.measurements},
        cost_usd=row.usage.usd,
        seconds=row.usage.wall_seconds,
    )
