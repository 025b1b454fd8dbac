"""Skill `lead.discover`: how the decision is made today, and what data there is and is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.columns import constant, identifier, kind_of
from agents.skills.data.loading import Loaded, load
from agents.skills.data.markdown import cell, figure, origin_note, table
from agents.skills.data.personal import scan
from agents.skills.devsecops.modelcard import PERSON
from agents.skills.lead.statement import FROM_TICKET, Statement, need_statement
from schemas.ticket import Ticket
from schemas.values import Mode, Role, TickedItem

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = 1000
"""Rows looked at: enough to know a column, few enough to take no time."""
_MUCH_MISSING = 0.4


class LeadDiscover(Skill[Parameters, SkillOutput]):
    """Describe how the decision is made today, look at a sample of the data, and say what is missing.

    No column is held against the target here: that is done on training rows only, once the hold-out is put away.
    """

    name = "lead.discover"
    role = Role.LEAD
    modes = frozenset({Mode.DISCOVER})
    reads_source = True
    needs = ("opportunity-brief.json",)
    produces = ("discovery-report.json", "discovery-report.md")
    seconds = 120.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the report. Raises InputError when the ticket names no data, or data that cannot be read."""
        ticket = context.ticket
        statement = need_statement(ticket)
        brief = context.read_json("opportunity-brief.json")
        loaded = load(ticket, context.roots, context.max_data_bytes)
        report = _report(ticket, statement, loaded, brief, context.seed)
        context.write_json("discovery-report.json", report)
        context.write_text("discovery-report.md", _document(ticket, statement, loaded, report))
        sample = report["sample"]
        return SkillOutput(
            summary=f"{loaded.source.uri}: {sample['rows']:,} of {loaded.source.rows:,} rows looked at, "
            f"{len(report['findings'])} findings, {len(report['questions'])} questions for people",
            ticked=(
                TickedItem(item="users-known", evidence=f"discovery-report.md: {cell(statement.text('users'), 100)}"),
                TickedItem(
                    item="process-described", evidence=f"discovery-report.md: {cell(statement.text('today'), 100)}"
                ),
                TickedItem(
                    item="data-listed",
                    evidence=f"discovery-report.json: {len(report['data'])} sources, the first read "
                    f"(sha256 {loaded.source.sha256[:12]})",
                ),
                TickedItem(
                    item="sample-seen",
                    evidence=f"discovery-report.json: {sample['rows']:,} rows, every column described",
                ),
                TickedItem(item="success-sketched", evidence=f"discovery-report.json: {report['success']['figure']}"),
                *_alternatives(statement, brief),
            ),
            warnings=loaded.warnings,
        )


def _alternatives(statement: Statement, brief: dict[str, Any]) -> tuple[TickedItem, ...]:
    if not statement.text("alternatives") and not brief.get("simple_way"):
        return ()
    return (TickedItem(item="alternatives-noted", evidence="discovery-report.md: under `Other ways to the goal`"),)


def _report(ticket: Ticket, statement: Statement, loaded: Loaded, brief: dict[str, Any], seed: int) -> dict[str, Any]:
    """The content of `discovery-report.json`."""
    features = loaded.frame.drop(columns=loaded.target)
    sampled = features.sample(min(SAMPLE, len(features)), random_state=seed % 2**31).sort_index()
    described = [_column(sampled[name]) for name in map(str, features.columns)]
    names = [each["name"] for each in described]
    personal = scan(sampled)
    direct = [column for column, found in personal.items() if any(each.direct for each in found)]
    findings = _findings(ticket, loaded, described)
    rarest = None
    scope = brief.get("scope") or {}
    if scope.get("classes"):
        rarest = int(loaded.frame[loaded.target].value_counts().iloc[-1])
    return {
        "users": statement.text("users"),
        "decision": statement.text("decision"),
        "today": statement.text("today"),
        "sponsor": statement.sponsor,
        "provenance": FROM_TICKET,
        "data": _sources(statement, loaded),
        "sample": {"rows": len(sampled), "of": len(features), "columns": described},
        "counts": {
            "rows": len(loaded.frame),
            "columns": len(names),
            "classes": len(scope.get("classes") or ()),
            "rarest_class_rows": rarest,
            "missing_cells": float(sampled.isna().to_numpy().mean()),
            "useless_columns": sum(bool(each["useless"]) for each in described),
            "repeated_rows": float(features.duplicated().mean()),
            "rows_without_target": loaded.dropped,
        },
        "newest": _newest(ticket, loaded),
        "personal": {column: [each.as_dict() for each in found] for column, found in personal.items()},
        "direct_columns": direct,
        "success": _success(statement, ticket, brief),
        "findings": findings,
        "questions": _questions(statement, ticket, list(personal)),
    }


def _sources(statement: Statement, loaded: Loaded) -> list[dict[str, str]]:
    source = loaded.source
    first = {
        "what": source.uri,
        "owner": statement.text("data owner") or "unknown",
        "access": f"read by this session: {source.rows:,} rows, sha256 {source.sha256}",
        "licence": statement.text("licence") or "unknown",
        "description": source.description,
    }
    others = [line.strip(" -*") for line in statement.text("other data").splitlines() if line.strip(" -*")]
    return [first] + [
        {"what": each, "owner": "as said", "access": "not tried", "licence": "unknown", "description": FROM_TICKET}
        for each in others
    ]


def _column(series: pd.Series[Any]) -> dict[str, Any]:
    """One column of the sample: kind, missing share, distinct values, range; never the values of single rows."""
    kind = kind_of(series)
    present = series.dropna()
    useless = "constant" if constant(series) else identifier(series)
    item: dict[str, Any] = {
        "name": str(series.name),
        "kind": kind,
        "missing": float(series.isna().mean()),
        "distinct": int(present.nunique()),
        "useless": useless,
        "range": "",
    }
    if len(present) and kind in ("numeric", "datetime"):
        ends = [present.min(), present.quantile(0.5), present.max()]
        item["range"] = " … ".join(each.strftime("%Y-%m-%d") if kind == "datetime" else figure(each) for each in ends)
    return item


def _findings(ticket: Ticket, loaded: Loaded, described: list[dict[str, Any]]) -> list[str]:
    """What is unusual or missing, one sentence each."""
    found = [f"column {each['name']}: {each['useless']}" for each in described if each["useless"]]
    found += [
        f"column {each['name']}: {each['missing']:.0%} of the values are missing"
        for each in described
        if each["missing"] >= _MUCH_MISSING
    ]
    if loaded.dropped:
        found.append(f"{loaded.dropped:,} rows have no target and are left out")
    if ticket.time is None:
        found.append("no time column is named: how old the rows are, and drift over time, cannot be seen")
    if ticket.groups is None:
        repeated = [each["name"] for each in described if _may_group(loaded.frame[each["name"]])]
        if repeated:
            found.append(f"{', '.join(repeated[:3])} may name groups (people, machines); `groups` is not set")
    return [*found, *loaded.warnings]


def _may_group(series: pd.Series[Any]) -> bool:
    """A column named like an identifier whose values repeat: rows of one thing measured more than once."""
    name = str(series.name).lower()
    named = name.endswith(("_id", " id")) or name in ("id", "patient", "customer", "individual", "subject", "person")
    return named and 1 < series.nunique() < len(series) / 1.5


def _newest(ticket: Ticket, loaded: Loaded) -> str | None:
    """The newest row's time as a date; None without a time column that holds dates."""
    if ticket.time is None or kind_of(loaded.frame[ticket.time]) != "datetime":
        return None
    newest = loaded.frame[ticket.time].max()
    return str(newest.strftime("%Y-%m-%d"))


def _success(statement: Statement, ticket: Ticket, brief: dict[str, Any]) -> dict[str, str]:
    """A first figure: what the ticket says, else better than the simple rule."""
    if statement.text("success"):
        return {"figure": statement.text("success"), "from": FROM_TICKET}
    if ticket.acceptance:
        return {"figure": "; ".join(ticket.acceptance), "from": "the ticket's acceptance criteria"}
    simple = brief.get("simple_way")
    if not simple:
        return {"figure": "better than one constant answer", "from": "proposed: nobody named a figure"}
    metric = simple["metric"]
    value = simple["rule_figures"][metric]
    return {
        "figure": f"{metric} better than {figure(value['value'])}, what the simple rule reaches",
        "from": "proposed: nobody named a figure",
    }


def _questions(statement: Statement, ticket: Ticket, personal: list[str]) -> list[str]:
    """What only a person can answer."""
    asked = []
    if not statement.text("data owner"):
        asked.append("who owns the data, and may it be used for this (`Data owner:`)?")
    if not statement.text("licence"):
        asked.append("under which licence or agreement may the data be used (`Licence:`)?")
    if not statement.text("other data"):
        asked.append("is there other data that may help (`Other data:`)?")
    if statement.number("errors today") is None:
        asked.append("how often is the decision wrong today (`Errors today:`)?")
    if personal and not statement.text("personal data"):
        asked.append(f"on what ground may {', '.join(personal[:5])} be used (`Personal data:`)?")
    if ticket.time is None:
        asked.append("from when to when are the rows, and does the world stay as it was then?")
    asked.append("is every column known at the moment the decision is made?")
    return asked


def _document(ticket: Ticket, statement: Statement, loaded: Loaded, report: dict[str, Any]) -> str:
    lines = [f"# Discovery: {cell(ticket.title, 300)}", "", *origin_note(ticket)]
    lines += [
        f"## The decision ({FROM_TICKET})",
        "",
        *table(
            ("what", "the ticket says"),
            [(name, statement.text(name)) for name in ("users", "decision", "today")]
            + [("sponsor", statement.sponsor)],
            500,
        ),
        "",
        "## The data",
        "",
        *table(
            ("data", "owner", "licence", "access"),
            [(each["what"], each["owner"], each["licence"], each["access"]) for each in report["data"]],
            200,
        ),
        "",
        cell(loaded.source.description, 600),
        "",
        f"## A sample: {report['sample']['rows']:,} of {report['sample']['of']:,} rows",
        "",
        *table(
            ("column", "kind", "missing", "distinct", "lowest … median … highest", "note"),
            [
                (each["name"], each["kind"], f"{each['missing']:.1%}", each["distinct"], each["range"], each["useless"])
                for each in report["sample"]["columns"][:60]
            ],
        ),
        "",
        "## What was noticed",
        "",
        *([f"- {cell(each, 300)}" for each in report["findings"]] or ["Nothing unusual."]),
        "",
        "## Columns that tell of people (by rules over names and values)",
        "",
        *(
            table(
                ("column", "tag", "what was seen"),
                [
                    (name, each["tag"], f"{each['what']} ({each['rule']})")
                    for name, found in report["personal"].items()
                    for each in found
                ],
            )
            if report["personal"]
            else ["None was found. Rules see names and patterns, not meaning: a person must say what they miss."]
        ),
        "",
        "## A first figure for success",
        "",
        f"{cell(report['success']['figure'], 300)} ({cell(report['success']['from'])}).",
        "",
        "## Other ways to the goal",
        "",
        *([f"- {cell(statement.text('alternatives'), 500)} ({FROM_TICKET})"] if statement.text("alternatives") else []),
        "- The rule of few thresholds in `opportunity-brief.md`, measured there.",
        "",
        "## Only a person can answer",
        "",
        *(f"- {PERSON} {cell(question, 300)}" for question in report["questions"]),
    ]
    more = len(report["sample"]["columns"]) - 60
    if more > 0:
        lines.insert(lines.index("## What was noticed") - 1, f"And {more} more columns: see `discovery-report.json`.")
    return "\n".join(lines)
