"""A session's report for people: Markdown, and one HTML page that needs nothing else.

Whatever comes from tickets, data or people is escaped: a report is read by those who decide, and must not be able to
show them anything but text. The same events give the same bytes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cli.evidence import artifact_path
from conductor.fold import fold
from conductor.state import SessionState, initial
from schemas import shown_figures
from schemas.envelope import EventEnvelope, timestamp
from schemas.messages import Event
from schemas.values import ArtifactRef, Snapshot

SHOWN = ("phase", "attempt", "gate", "commit", "reason", "summary", "passed", "lease", "code", "to_sequence")
LONGEST = 400
"""Characters of one cell: an event's reason may be a page, the events themselves hold all of it."""

ABOUT = (
    "What one session did and who decided, from its events. Whether the events, these files and the signatures belong "
    "together is checked with: valuetrain audit verify FILE"
)
_GATES = "A gate is the decision at a phase's exit: automatic where the criteria decide, human where a person does."
_FIGURES = (
    "Under the names that criteria use; those of metrics, baseline and champion are measured by the harness, on rows "
    "that nobody trained on."
)
_ARTIFACTS = (
    "Every file the phases made. Documents name each other as in the ticket's folder on the branch; here each lies at "
    "the path in the last column."
)
_EVENTS = "Everything that happened, in order; times are UTC."

_MARKDOWN = re.compile(r"([\\`*_\[\]|~#])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]+")
"""Control characters, and those that turn the direction of what stands after them."""

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}"
    "table{border-collapse:collapse;width:100%;margin:1rem 0;display:block;overflow-x:auto}"
    "th,td{border:1px solid #ccc;padding:.3rem .5rem;text-align:left;vertical-align:top;overflow-wrap:break-word}"
    "td:last-child{min-width:14rem}"
    "th{background:#f0f0f0}h1,h2{line-height:1.2}"
)


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of plain texts. `note` says before it what a line is."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(envelopes: Sequence[EventEnvelope[Event]], refs: Sequence[ArtifactRef]) -> tuple[Table, ...]:
    """What the report says, without a format. `envelopes` are all events of one session, in order."""
    state = fold(initial(envelopes[0].stream.name if envelopes else ""), envelopes)
    return (
        Table("Session", ("what", "value"), tuple(_facts(state))),
        Table("Phases", ("phase", "done", "attempts", "summary"), tuple(_phases(state))),
        Table("Gates", ("gate", "kind", "status", "decided by", "opened because"), tuple(_gates(state)), _GATES),
        Table("Figures", shown_figures.HEAD, tuple(_figures(state)), _FIGURES),
        Table("Artifacts", ("name", "SHA-256", "bytes", "in this bundle"), tuple(map(_artifact, refs)), _ARTIFACTS),
        Table("Events", ("#", "time", "event", "by", "what"), tuple(map(_event, envelopes)), _EVENTS),
    )


def markdown(name: str, content: Sequence[Table]) -> str:
    """The report as Markdown."""
    lines = [f"# Session {_marked(name)}", "", ABOUT]
    for table in content:
        lines += [
            "",
            f"## {table.title}",
            "",
            *([table.note, ""] if table.note else []),
            f"| {' | '.join(table.head)} |",
            "|" + "---|" * len(table.head),
        ]
        lines += [f"| {' | '.join(map(_marked, row))} |" for row in table.rows]
    return "\n".join(lines) + "\n"


def page(name: str, content: Sequence[Table]) -> str:
    """The report as one HTML page without scripts, links or anything loaded from elsewhere."""
    title = f"Session {_escaped(name)}"
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<p>{_escaped(ABOUT)}</p>",
    ]
    for table in content:
        note = f"<p>{_escaped(table.note)}</p>\n" if table.note else ""
        parts.append(
            f"<h2>{_escaped(table.title)}</h2>\n{note}<table>\n<thead>{_row(table.head, 'th')}</thead>\n<tbody>"
        )
        parts += [_row(row, "td") for row in table.rows]
        parts.append("</tbody>\n</table>")
    return "\n".join([*parts, "</body>\n</html>\n"])


def _facts(state: SessionState) -> list[tuple[str, str]]:
    ticket = state.ticket
    return [
        ("ticket", f"{ticket.id}: {ticket.title}" if ticket else ""),
        ("requested by", (ticket.requester if ticket else None) or "not said"),
        ("risk", ticket.risk.value if ticket else ""),
        ("pipeline", state.pipeline.name if state.pipeline else ""),
        ("status", state.status.value + (f" ({state.reason})" if state.reason else "")),
        *_data(ticket.snapshot if ticket else None),
        ("acceptance", "; ".join(state.acceptance)),
        ("branch", f"{state.branch} at {state.commit}"),
        ("cost", f"${state.usage.usd:.4f}, {state.usage.wall_seconds:.1f} s of skill time"),
        ("decisions by people", str(state.interventions)),
    ]


def _data(rows: Snapshot | None) -> list[tuple[str, str]]:
    """What was read of a named source."""
    if rows is None:
        return []
    what = f"{rows.rows:,} rows, SHA-256 {rows.sha256}, read {timestamp(rows.taken)}"
    return [("data", f"source:{rows.source}/{rows.item}, {what}")]


def _phases(state: SessionState) -> list[tuple[str, ...]]:
    return [(p.name, "yes" if p.completed else "no", str(p.attempt), p.summary) for p in state.phases.values()]


def _figures(state: SessionState) -> Sequence[tuple[str, ...]]:
    return shown_figures.rows(
        {f"{s}.{n}": value for s, values in state.measured.items() for n, value in values.items()}
    )


def _gates(state: SessionState) -> list[tuple[str, ...]]:
    return [(g.id, g.kind, g.status, g.decided_by, g.reason) for g in state.gates.values()]


def _artifact(ref: ArtifactRef) -> tuple[str, ...]:
    return (ref.name, ref.sha256, f"{ref.size:,}", "no (sealed)" if ref.sealed else artifact_path(ref))


def _event(envelope: EventEnvelope[Event]) -> tuple[str, ...]:
    what = "; ".join(f"{name} {value}" for name, value in envelope.event if name in SHOWN and value not in ("", None))
    return (str(envelope.sequence), timestamp(envelope.time), envelope.type, envelope.actor.name, what)


def _plain(text: str) -> str:
    return _CONTROL.sub(" ", text)[:LONGEST]


def _marked(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", html.escape(_plain(text), quote=False))


def _escaped(text: str) -> str:
    return html.escape(_plain(text))


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{_escaped(cell)}</{tag}>" for cell in cells) + "</tr>"
