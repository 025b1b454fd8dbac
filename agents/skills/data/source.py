"""Skill `data.source`: where the rows come from, recorded so that a change is noticed."""

from __future__ import annotations

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.loading import Loaded, load, load_rows
from agents.skills.data.markdown import cell, heading, origin_note, table
from agents.skills.shapes import SourceSpec
from schemas.ticket import Ticket
from schemas.values import Mode, Role, TickedItem

_ALLOWED = dict.fromkeys(("csv", "parquet", "sqlite"), "a file below an allowed root") | dict.fromkeys(
    ("sql", "s3"), "an item of a named source"
)


class DataSource(Skill[Parameters, SkillOutput]):
    """Establish origin, size and digest of the ticket's data, and that it may be read."""

    name = "data.source"
    role = Role.DATA
    modes = frozenset({Mode.DISCOVER, Mode.DESIGN})
    reads_source = True
    produces = ("data-source.json", "data-sources.md")
    seconds = 120.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the source's record. Raises InputError when the source may not or cannot be read.

        A ticket without `target` is about the rows as they are: none is left out.
        """
        if context.ticket.model:
            raise InputError(
                f"the ticket names a model in use, but pipeline {context.ticket.pipeline!r} starts from none",
                "write `pipeline: retrain`, or leave `model` out",
            )
        read = load if context.ticket.target else load_rows
        loaded = read(context.ticket, context.roots, context.max_data_bytes)
        source = loaded.source
        context.write_json("data-source.json", source.model_dump(mode="json"))
        context.write_text("data-sources.md", _document(context.ticket, loaded))
        allowed = _ALLOWED.get(source.kind, f"a known {source.kind} set")
        generated = "generated rows; every document says so" if source.synthetic else "not generated"
        return SkillOutput(
            summary=f"{source.uri}: {source.rows:,} rows, {len(source.columns)} columns, sha256 {source.sha256[:12]}",
            ticked=(
                TickedItem(item="source-allowed", evidence=f"data-source.json: {source.uri} is {allowed}"),
                TickedItem(
                    item="provenance-recorded",
                    evidence=f"data-source.json: {source.bytes:,} bytes, sha256 {source.sha256[:12]}…",
                ),
                TickedItem(
                    item="synthetic-labelled", evidence=f"data-source.json: synthetic={source.synthetic}, {generated}"
                ),
            ),
            warnings=loaded.warnings,
        )


def _document(ticket: Ticket, loaded: Loaded) -> str:
    source = loaded.source
    lines = [heading("Data source", ticket), "", *origin_note(ticket)]
    lines += table(
        ("what", "value"),
        [
            ("source", source.uri),
            ("kind", source.kind),
            ("rows", f"{source.rows:,}"),
            ("columns", len(source.columns)),
            ("bytes", f"{source.bytes:,}"),
            ("group column", source.group_column or "none"),
            ("time column", source.time_column or "none"),
            *_snapshot(source),
        ],
    )
    lines += [
        "",
        f"SHA-256: `{source.sha256}`",
        "",
        cell(source.description, 1000),
        "",
        "## Columns",
        "",
        ", ".join(cell(name) for name in source.columns),
        "",
        "## Noticed while reading",
        "",
        *([f"- {cell(warning, 300)}" for warning in loaded.warnings] or ["Nothing unusual."]),
    ]
    return "\n".join(lines)


def _snapshot(source: SourceSpec) -> list[tuple[str, str]]:
    """What was read of a named source, and when."""
    if (taken := source.snapshot) is None:
        return []
    rows = [("read at", taken.taken.strftime("%Y-%m-%d %H:%M:%S UTC")), ("rows as read", f"{taken.rows:,}")]
    return [*rows, *([("state of the object", cell(taken.version))] if taken.version else [])]
