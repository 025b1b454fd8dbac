"""A pipeline as a picture: Mermaid text, or SVG drawn here (phases from top to bottom, who works, who decides).

An arrow leads from each phase to those that come after it: straight to the next one, on the left past others. Ways back
are dashed, on the right.
"""

from __future__ import annotations

from textwrap import shorten
from xml.sax.saxutils import escape

from cli.pipelines import back, gate
from schemas.pipeline_source import PhaseSource, PipelineSource
from schemas.values import Mode

_WIDTH, _BOX, _HEIGHT, _GAP, _TOP = 640, 560, 74, 30, 84
"""In pixels: picture and boxes, space between boxes, space above the first one."""

_FILLS = {
    Mode.INTAKE: "#f3e8ff", Mode.DISCOVER: "#e0e7ff", Mode.SCOPE: "#dbeafe", Mode.DESIGN: "#cffafe",
    Mode.BUILD: "#dcfce7", Mode.EVALUATE: "#fef9c3", Mode.DELIVER: "#ffedd5", Mode.OPERATE: "#fee2e2",
    Mode.IMPROVE: "#fce7f3",
}  # fmt: skip
"""All light enough for black text."""


def mermaid(source: PipelineSource) -> str:
    """The pipeline as a Mermaid flow chart; a person's gate is a diamond after its phase, a way back a dotted arrow."""
    found = ["---", f"title: {source.name} {source.version}", "---", "flowchart TD", '  start(["ticket"])']
    nodes = {phase.name: f"p{number}" for number, phase in enumerate(source.phases, 1)}
    ends: dict[str, str] = {}
    for number, phase in enumerate(source.phases, 1):
        node = ends[phase.name] = nodes[phase.name]
        skipped = f"<br/>skipped when {_label(phase.skip_when)}" if phase.skip_when else ""
        found.append(f'  {node}["{_label(phase.name)}<br/>{phase.agent.value}, {phase.mode.value}{skipped}"]')
        found += [f"  {ends[parent]} --> {node}" for parent in source.before[phase.name]] or [f"  start --> {node}"]
        if phase.gate.human != "never":
            ends[phase.name] = f"g{number}"
            found += [f'  g{number}{{"{_label(gate(phase))}"}}', f"  {node} --> g{number}"]
        found += [f'  {ends[phase.name]} -. "{_label(back(rule))}" .-> {nodes[rule.to]}' for rule in phase.repeat]
    followed = {parent for parents in source.before.values() for parent in parents}
    last = [end for name, end in ends.items() if name not in followed]
    return "\n".join([*found, '  done(["done"])', *(f"  {end} --> done" for end in last)]) + "\n"


def _label(text: str) -> str:
    """Text between quotes in Mermaid: what could end it, or be read as HTML, by its code."""
    return "".join(c if c.isalnum() or c in " .,-_=+|()" else f"#{ord(c)};" for c in text)


def svg(source: PipelineSource) -> str:
    """The pipeline as an SVG picture with a title and a description for those who cannot see it."""
    height = _TOP + len(source.phases) * (_HEIGHT + _GAP)
    steps = "; ".join(f"{n}. {_told(p)}" for n, p in enumerate(source.phases, 1))
    places = {phase.name: number for number, phase in enumerate(source.phases)}
    found = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'role="img" aria-labelledby="title desc" font-family="sans-serif">',
        f'  <title id="title">Pipeline {_text(source.name)}, version {source.version}</title>',
        f'  <desc id="desc">{_text(source.description)} Phases: {_text(steps)}.</desc>',
        '  <defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L10 5L0 10z" fill="#333"/></marker></defs>',
        f'  <rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'  <text x="{_WIDTH // 2}" y="34" text-anchor="middle" font-size="20" font-weight="bold">'
        f"{_text(source.name)}</text>",
        f'  <text x="{_WIDTH // 2}" y="58" text-anchor="middle" font-size="13">'
        f"{_text(shorten(source.description, 90, placeholder=' …'))}</text>",
    ]
    for number, phase in enumerate(source.phases):
        found += _box(phase, _TOP + number * (_HEIGHT + _GAP))
        found += [_arrow(places[parent], number) for parent in source.before[phase.name]]
        found += [_arrow(number, places[rule.to], back(rule)) for rule in phase.repeat]
    return "\n".join([*found, "</svg>"]) + "\n"


def _told(phase: PhaseSource) -> str:
    after = "" if phase.after is None else f", after {', '.join(phase.after) or 'nothing'}"
    skipped = f", skipped when {phase.skip_when}" if phase.skip_when else ""
    ways = "".join(f", back to {rule.to} {back(rule)}" for rule in phase.repeat)
    return (
        f"{phase.name}{after}, agent {phase.agent.value}, mode {phase.mode.value}, gate: {gate(phase)}{skipped}{ways}"
    )


def _box(phase: PhaseSource, top: int) -> list[str]:
    left = (_WIDTH - _BOX) // 2
    person = phase.gate.human != "never"
    border = 'stroke="#b45309" stroke-width="3"' if person else 'stroke="#333" stroke-width="1"'
    decided = shorten(f"gate: {gate(phase)}", 84, placeholder=" …")
    return [
        f'  <g><rect x="{left}" y="{top}" width="{_BOX}" height="{_HEIGHT}" rx="8" '
        f'fill="{_FILLS[phase.mode]}" {border}/>',
        f'    <text x="{left + 14}" y="{top + 24}" font-size="15" font-weight="bold">{_text(phase.name)}</text>',
        f'    <text x="{left + _BOX - 14}" y="{top + 24}" font-size="13" text-anchor="end">'
        f"{phase.agent.value}, mode {phase.mode.value}</text>",
        f'    <text x="{left + 14}" y="{top + 44}" font-size="12">{len(phase.artifacts)} artifacts, '
        f"{len(phase.checklist)} checklist items, {len(phase.criteria)} criteria"
        f"{' and the ticket’s' if phase.acceptance else ''}</text>",
        f'    <text x="{left + 14}" y="{top + 63}" font-size="12">{_text(decided)}</text></g>',
    ]


def _arrow(one: int, other: int, why: str = "") -> str:
    """From phase `one` to phase `other`, by their numbers."""
    top, end = _TOP + one * (_HEIGHT + _GAP), _TOP + other * (_HEIGHT + _GAP)
    if other == one + 1:
        way = f"M{_WIDTH // 2} {top + _HEIGHT}V{end}"
    else:
        bulge = min(44, 12 + 8 * abs(other - one))  # the curve goes out three quarters as far: it stays in the picture
        side, out = ((_WIDTH - _BOX) // 2, -bulge) if other > one else ((_WIDTH + _BOX) // 2, bulge)
        leaves, comes = (top + 55, end + 20) if other > one else (top + 20, end + 55)
        way = f"M{side} {leaves}C{side + out} {leaves} {side + out} {comes} {side} {comes}"
    dashed = f' stroke-dasharray="6 4"><title>{_text(why)}</title></path>' if why else "/>"
    return f'  <path d="{way}" fill="none" stroke="#333" stroke-width="1.5" marker-end="url(#tip)"{dashed}'


def _text(text: str) -> str:
    """Escaped for XML, without the control characters that XML cannot hold."""
    return escape("".join(c for c in text if c >= " " or c in "\t\n"))
