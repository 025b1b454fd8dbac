"""What people read at the forge: the status comment and the pull request's text. Pure.

Titles, reasons and summaries come from outside and from agents. They are shown as code, so that they mention nobody,
close no issue and give no command.
"""

from __future__ import annotations

from collections.abc import Iterable

from autopilot.board import GateRow, PhaseRow, SessionRow
from schemas import shown_figures

_MARKS = {"completed": "✔", "skipped": "–", "working": "▶", "gate": "⏸", "reported": "▶", "failed": "✘", "pending": " "}
_SHOWN = 300
_FIGURES = 12


def code(text: str, longest: int = _SHOWN) -> str:
    """Text from outside as one line of code."""
    line = " ".join(text.replace("`", "'").split())
    return f"`{line if len(line) <= longest else line[: longest - 1] + '…'}`" if line else ""


def status_comment(row: SessionRow) -> str:
    """Where the session stands now."""
    parts = [f"**Value Train**: {_headline(row)}", _gates(row.open_gates), _table(row.phases.values()), _figures(row)]
    parts += [f"Could not be done here: {kind} ({code(why)})." for kind, why in sorted(row.not_done.items())]
    parts.append(f"<sub>session `{row.id}` · branch `{row.branch}` · this comment is kept up to date</sub>")
    return "\n\n".join(filter(None, parts))


def _headline(row: SessionRow) -> str:
    pull = f" Pull request: #{row.pull}." if row.pull else ""
    match row.status:
        case "completed":
            return f"done, every gate has passed.{pull}"
        case "waiting":
            return f"waits for a person to decide.{pull}"
        case "blocked":
            return f"cannot go on without a person: {code(row.reason)}.{pull}"
        case "aborted" if row.taken_by:
            return f"left alone here. {code(row.reason)}."
        case "aborted":
            return f"ended before it was done: {code(row.reason)}. What it made here was taken back."
        case "rolled_back":
            return f"{code(row.reason)}. The pull request was closed; a retry goes on."
        case _:
            paused = f" It is {code(row.paused)}." if row.paused else ""
            return f"at work.{paused}{pull}"


def _gates(gates: Iterable[GateRow]) -> str:
    lines = []
    for gate in gates:
        by = f", approved so far by {', '.join(code(name) for name in gate.by)}" if gate.by else ""
        held = ", held" if gate.held else ""
        lines.append(f"- gate `{gate.id}` of {gate.phase}: {code(gate.reason)}{by}{held}")
    if not lines:
        return ""
    how = (
        "Who the policy names decides in a new comment, here or on the pull request: `/approve GATE` or "
        "`/reject GATE reason` at the start of a line (`/help` names more), or with `valuetrain gate approve GATE`:"
    )
    return "\n".join([how, *lines])


def _table(phases: Iterable[PhaseRow]) -> str:
    rows = [f"| {_MARKS.get(p.status, '')} | {p.name} | {p.attempt or ''} | {code(p.summary, 120)} |" for p in phases]
    return "\n".join(["| | phase | attempt | |", "|---|---|---|---|", *rows])


def _figures(row: SessionRow) -> str:
    measured = [m for p in row.phases.values() for m in p.measurements if m.scope in ("metrics", "baseline")]
    lines = shown_figures.rows({f"{m.scope}.{m.name}": m.value for m in measured})
    table = [f"| {' | '.join(shown_figures.HEAD)} |", "|" + "---|" * len(shown_figures.HEAD)]
    table += [f"| {code(name)} | {' | '.join(rest)} |" for name, *rest in lines[:_FIGURES]]
    more = f"and {len(lines) - _FIGURES} more in the phases' documents" if len(lines) > _FIGURES else ""
    spent = f"{row.usage.wall_seconds:.0f} s of skill time, ${row.usage.usd:.4f}"
    return "\n\n".join(filter(None, ["\n".join(table) if lines else "", more, spent]))


def pull_title(row: SessionRow) -> str:
    """The ticket's title on one line."""
    return f"{' '.join(row.ticket.title.split())[:200]} (#{row.ticket.id})"


def pull_body(row: SessionRow) -> str:
    """The pull request's text. Merging it closes the ticket; nothing else of it names one."""
    parts = [
        f"Closes #{row.ticket.id}",
        f"Made by the Value Train, session `{row.id}`, pipeline `{row.pipeline.name}`. Every commit belongs to one "
        "phase; gates are bound to the commit they were opened for. It stays a draft until every gate has passed.",
        _table(row.phases.values()),
        _figures(row),
    ]
    warnings = [f"- {p.name}: {code(warning)}" for p in row.phases.values() for warning in p.warnings]
    if warnings:
        parts.append("\n".join(["Warnings:", *warnings[:20]]))
    return "\n\n".join(parts)
