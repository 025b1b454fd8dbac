"""The ticket folder: a session as files on its branch. A projection, rendered anew for every commit.

    tickets/delivery_12/
        ACTIVE_SESSION.md          where the session stands: YAML front matter for programs, a body for people
        checklist.md               what each phase had to do, ticked with its evidence
        ticket.yml                 the ticket as it was taken
        artifacts/<phase>/<name>   what the phases made, as far as it belongs into git
        artifacts/manifest.json    everything they made, with digests, and why some of it is not here

Free text (titles, evidence, reasons) is data of unknown origin: it is escaped, so that it cannot draw tables, links or
images of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import yaml

from schemas import shown_figures
from schemas.ticket import Ticket
from schemas.values import ArtifactRef
from workspace.git import ticket_folder
from workspace.worktree import Worktree

COMMITTED_SUFFIXES = frozenset(
    {".json", ".md", ".yaml", ".yml", ".txt", ".svg", ".toml", ".zip", ".skops", ".dockerfile"}
)
"""Documents, models and packages. Rows of data (`.parquet`, `.csv`) never go to git: they may be personal."""
LARGEST_COMMITTED = 5_000_000
"""Bytes."""
_MARKS = {"completed": "✔", "working": "▶", "reported": "▶", "gate": "⏸", "skipped": "⤼", "failed": "✘"}


@dataclass(frozen=True, slots=True)
class ItemEntry:
    """A checklist item; `evidence` is None until it is ticked."""

    id: str
    text: str
    required: bool
    evidence: str | None = None


@dataclass(frozen=True, slots=True)
class GateEntry:
    """A gate: `by` names who decided, `reason` says why it was opened."""

    id: str
    phase: str
    kind: str
    status: str
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PhaseEntry:
    """A phase as far as it got; `attempt` is 0 before the first."""

    name: str
    agent: str
    mode: str
    status: str
    attempt: int
    summary: str = ""
    items: tuple[ItemEntry, ...] = ()
    artifacts: tuple[ArtifactRef, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TicketFolder:
    """All that the folder shows. `updated` is ISO 8601; `measured` maps `metrics.recall` and the like to numbers;
    `seconds` is skill time."""

    session: str
    ticket: Ticket
    pipeline: str
    branch: str
    base_commit: str
    status: str
    phase: str
    updated: str
    acceptance: tuple[str, ...] = ()
    phases: tuple[PhaseEntry, ...] = ()
    gates: tuple[GateEntry, ...] = ()
    measured: Mapping[str, float] = field(default_factory=dict)
    cost_usd: float = 0.0
    seconds: float = 0.0
    forked_from: str = ""
    """The session it goes on from, and the event, in words."""


def render(folder: TicketFolder, read: Callable[[str], bytes]) -> dict[str, bytes]:
    """The folder's files, by path relative to it. The same input gives the same bytes.

    `read` gives an artifact's verified bytes by its SHA-256 (`Blobs.read`); only what is committed is read. Raises what
    `read` raises.
    """
    files = {
        "ACTIVE_SESSION.md": _active_session(folder),
        "checklist.md": _checklist(folder),
        "ticket.yml": _ticket(folder.ticket),
        "artifacts/manifest.json": json.dumps(_manifest(folder), indent=2, ensure_ascii=False) + "\n",
    }
    contents = {path: text.encode("utf-8", "replace") for path, text in files.items()}
    for phase in folder.phases:
        for artifact in phase.artifacts:
            if why_not_committed(artifact) is None:
                contents[f"artifacts/{phase.name}/{artifact.name}"] = read(artifact.sha256)
    return contents


def why_not_committed(artifact: ArtifactRef) -> str | None:
    """Why an artifact stays out of git, or None if it goes in."""
    suffix = PurePosixPath(artifact.name).suffix.lower()
    if artifact.sealed:
        return "sealed: hold-out labels are for the harness only"
    if suffix not in COMMITTED_SUFFIXES:
        return f"{suffix or 'files without a suffix'}: rows of data and unknown formats stay in the artifact store"
    if artifact.size > LARGEST_COMMITTED:
        return f"larger than {LARGEST_COMMITTED // 1_000_000} MB: it stays in the artifact store"
    return None


def detect_edits(tree: Worktree, ticket: int, commit: str | None = None) -> list[str]:
    """Files of the ticket's folder edited, added or deleted by hand since `commit` (default: the branch)."""
    return tree.edited(ticket_folder(ticket), commit)


def _active_session(folder: TicketFolder) -> str:
    attempt = next((phase.attempt for phase in folder.phases if phase.name == folder.phase), 0)
    head = {
        "session": folder.session,
        "ticket": folder.ticket.id,
        "pipeline": folder.pipeline,
        "status": folder.status,
        "phase": folder.phase or None,
        "attempt": attempt or None,
        "branch": folder.branch,
        "base_commit": folder.base_commit,
        "gates": [{"gate": g.id, "phase": g.phase, "kind": g.kind, "status": g.status} for g in folder.gates],
        "updated": folder.updated,
    } | ({"forked_from": folder.forked_from} if folder.forked_from else {})
    lines = ["---", _yaml(head).rstrip(), "---", "", f"# Ticket {folder.ticket.id}: {plain(folder.ticket.title)}", ""]
    lines += [_standing(folder), "", *_phase_table(folder)]
    if folder.acceptance:
        lines += ["", "## Acceptance", "", *(f"- {code(criterion)}" for criterion in folder.acceptance)]
    if folder.measured:
        lines += ["", "## Measured", "", f"| {' | '.join(shown_figures.HEAD)} |", "|---|---|---|---|"]
        lines += [
            f"| {code(name)} | {value} | {ends or '–'} | {error or '–'} |"
            for name, value, ends, error in shown_figures.rows(dict(sorted(folder.measured.items())))
        ]
    if folder.gates:
        lines += [
            "",
            "## Gates",
            "",
            "| gate | phase | kind | status | by | opened because |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {code(g.id)} | {g.phase} | {g.kind} | {g.status} | {plain(g.by) or '–'} | {plain(g.reason) or '–'} |"
            for g in folder.gates
        ]
    warnings = [(phase.name, warning) for phase in folder.phases for warning in phase.warnings]
    if warnings:
        lines += ["", "## Warnings", "", *(f"- {phase}: {plain(warning)}" for phase, warning in warnings)]
    return "\n".join(
        [*lines, "", "Written by the Value Train from the session's events; edits here are overwritten.", ""]
    )


def _standing(folder: TicketFolder) -> str:
    where = f", in phase {folder.phase}" if folder.phase else ""
    used = f"{folder.seconds:.1f} s of skill time, ${folder.cost_usd:.4f}"
    return (
        f"When this was written session {code(folder.session)} was **{plain(folder.status.replace('_', ' '))}**"
        f"{where}, before what follows the commit (a gate, the next phase): "
        f"{code('valuetrain session show ' + folder.session)} says how it stands now. Used so far: {used}."
    )


def _phase_table(folder: TicketFolder) -> list[str]:
    lines = [
        "## Phases",
        "",
        "| | phase | agent | attempt | checklist | artifacts | summary |",
        "|---|---|---|---|---|---|---|",
    ]
    for phase in folder.phases:
        done = sum(item.evidence is not None for item in phase.items)
        mark = _MARKS.get(phase.status, "·")
        made = ", ".join(_link(phase.name, artifact) for artifact in phase.artifacts)
        cells = (mark, phase.name, phase.agent, str(phase.attempt or "–"), f"{done}/{len(phase.items)}")
        lines.append(f"| {' | '.join(cells)} | {made or '–'} | {plain(phase.summary) or '–'} |")
    return lines


def _link(phase: str, artifact: ArtifactRef) -> str:
    if why_not_committed(artifact) is None:
        return f"[{artifact.name}](artifacts/{phase}/{artifact.name})"
    return artifact.name


def _checklist(folder: TicketFolder) -> str:
    lines = [f"# Checklist of ticket {folder.ticket.id}", ""]
    for phase in folder.phases:
        if not phase.items:
            continue
        lines += [f"## {phase.name} ({phase.agent})", ""]
        for item in phase.items:
            need = "" if item.required else " (optional)"
            tick = "[ ]" if item.evidence is None else "[x]"
            proof = f": {plain(item.evidence)}" if item.evidence else ""
            lines.append(f"- {tick} {code(item.id)} {plain(item.text)}{need}{proof}")
        lines.append("")
    return "\n".join(lines)


def _ticket(ticket: Ticket) -> str:
    """The ticket's fields, without those left at their default; the body last."""
    fields = ticket.model_dump(mode="json", exclude_defaults=True)
    body = fields.pop("body", "")
    fields.pop("checkout", None)  # a place on the machine of whoever drives: no business of the branch's readers
    return _yaml(fields | ({"body": body} if body else {}))


def _manifest(folder: TicketFolder) -> dict[str, Any]:
    artifacts = []
    for phase in folder.phases:
        for artifact in sorted(phase.artifacts, key=lambda a: a.name):
            reason = why_not_committed(artifact)
            entry = {
                "phase": phase.name,
                "name": artifact.name,
                "sha256": artifact.sha256,
                "size": artifact.size,
                "media_type": artifact.media_type,
                "committed": reason is None,
            }
            artifacts.append(entry | ({"reason": reason} if reason else {"path": f"{phase.name}/{artifact.name}"}))
    return {"session": folder.session, "ticket": folder.ticket.id, "artifacts": artifacts}


def plain(text: str) -> str:
    """Free text as one line of Markdown that shows exactly that text."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return re.sub(r"([\\`*\[\]<|])", r"\\\1", line)


def code(text: str) -> str:
    """Free text as one line of Markdown code, fit for a table cell."""
    line = " ".join(text.split()).replace("`", "'")
    # An even number of backslashes would leave the bar bare.
    line = re.sub(r"(\\*)\|", lambda found: found[1] + "\\" * (len(found[1]) % 2) + r"\|", line)
    return f"`{line}`"


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block, everything else as usual."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def _yaml(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
