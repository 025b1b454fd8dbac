"""The questions of readiness: each with its rule, its evidence, and the risk that a bad answer opens.

An answer scores 1 (yes), 0.5 (in part, or nobody knows) or 0 (no). The rules read the discovery report, whose words
are the ticket's and not verified, and whose counts were measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from agents.skills.lead.effort import FORMULA, expected_seconds
from agents.skills.lead.statement import Statement
from agents.skills.risk.register import Risk
from schemas.ticket import Ticket

AREAS = ("data", "people", "rules")
ROWS_PER_COLUMN = 10
ENOUGH_OF_A_CLASS = 50
FEW_OF_A_CLASS = 10
FEW_ROWS = 100
_PACKAGED = ("sklearn:", "statsmodels:", "synthetic:")
_NONE = frozenset({"no", "none", "none known", "n/a"})


@dataclass(frozen=True)
class Item:
    """One answered question. `blocking`: with a 0 here nothing may begin, whatever else is well."""

    area: str
    id: str
    question: str
    score: float
    evidence: str
    effect: str
    mitigation: str
    owner: str
    impact: int
    blocking: bool = False

    @property
    def blocks(self) -> bool:
        """Whether work may not begin because of this."""
        return self.blocking and self.score == 0.0

    def risk(self) -> Risk:
        """The risk this answer opens: likelihood 1 for a yes, 3 for a half answer, 5 for a no."""
        return Risk(
            id=self.id,
            title=self.id.replace("-", " ").capitalize(),
            kind="project",
            cause=self.evidence,
            effect=self.effect,
            signal=f"the answer to `{self.question}` is not a plain yes",
            mitigation=self.mitigation,
            owner=self.owner,
            likelihood={1.0: 1, 0.5: 3}.get(self.score, 5),
            impact=self.impact,
            evidence=self.evidence,
        )


def answer_all(ticket: Ticket, statement: Statement, report: Mapping[str, Any], today: date) -> tuple[Item, ...]:
    """Every question, in the order of the areas. `report` is `discovery-report.json`."""
    counts = report["counts"]
    return (
        _reach(report), _licence(ticket, statement), _amount(counts), _quality(counts), _freshness(report, today),
        _owner(statement), _team(statement), _approvers(ticket, statement), _platform(ticket, counts),
        _rules(statement), _personal(statement, report), _separation(ticket, statement),
    )  # fmt: skip


def _reach(report: Mapping[str, Any]) -> Item:
    return Item(
        "data", "data-out-of-reach", "Can the data be read?", 1.0, str(report["data"][0]["access"])[:160],
        "nothing can be learned", "the session reads the data before anything else", "data", 5, blocking=True,
    )  # fmt: skip


def _licence(ticket: Ticket, statement: Statement) -> Item:
    known = statement.text("licence")
    packaged = (ticket.data or "").startswith(_PACKAGED)
    evidence = known or ("a set that comes with a library, under its licence" if packaged else "the ticket names none")
    return Item(
        "data", "licence-unknown", "Is the licence of the data known?", 1.0 if known or packaged else 0.5, evidence,
        "the model may have to be withdrawn", "the data's owner writes down under what terms it may be used", "lead", 3,
    )  # fmt: skip


def _amount(counts: Mapping[str, Any]) -> Item:
    rows, columns, rarest = counts["rows"], max(1, counts["columns"]), counts["rarest_class_rows"]
    enough = rows >= ROWS_PER_COLUMN * columns and (rarest is None or rarest >= ENOUGH_OF_A_CLASS)
    some = rows >= FEW_ROWS and (rarest is None or rarest >= FEW_OF_A_CLASS)
    shown = f", {rarest:,} of the rarest class" if rarest is not None else ""
    return Item(
        "data", "too-few-rows", "Are there rows enough?", 1.0 if enough else 0.5 if some else 0.0,
        f"{rows:,} rows for {columns} columns{shown} (wanted: {ROWS_PER_COLUMN} rows a column, "
        f"{ENOUGH_OF_A_CLASS} of a class)",
        "nothing can be shown on the hold-out rows", "collect more rows, of the rarest class first", "data", 4,
    )  # fmt: skip


def _quality(counts: Mapping[str, Any]) -> Item:
    useless = counts["useless_columns"] / max(1, counts["columns"])
    worst = max(counts["missing_cells"], counts["repeated_rows"], useless)
    return Item(
        "data", "poor-data", "Is the data clean?", 1.0 if worst <= 0.05 else 0.5 if worst <= 0.25 else 0.0,
        f"{counts['missing_cells']:.1%} of cells missing, {counts['repeated_rows']:.1%} of rows repeated, "
        f"{useless:.1%} of columns of no use (wanted: 5 % at most)",
        "the model learns what is broken", "the data contract names and counts what is wrong", "data", 3,
    )  # fmt: skip


def _freshness(report: Mapping[str, Any], today: date) -> Item:
    newest = report.get("newest")
    if newest is None:
        score, evidence = 0.5, "no time column is named, so nobody can see how old the rows are"
    else:
        years = (today - date.fromisoformat(newest)).days / 365.25
        score = 1.0 if years <= 1 else 0.5 if years <= 5 else 0.0
        evidence = f"the newest row is of {newest}, {years:.1f} years old (wanted: one year at most)"
    return Item(
        "data", "stale-data", "Is the data of today?", score, evidence,
        "the model knows a world that has passed", "name a time column; test on the newest rows", "data", 3,
    )  # fmt: skip


def _owner(statement: Statement) -> Item:
    named = statement.text("data owner")
    return Item(
        "people", "no-data-owner", "Is there somebody to ask about the data?", 1.0 if named else 0.0,
        f"data owner: {named}" if named else "the ticket names no data owner",
        "nobody can say what a column means", "name a data owner before the kick-off", "lead", 3,
    )  # fmt: skip


def _team(statement: Statement) -> Item:
    named = statement.team()
    return Item(
        "people", "no-team", "Is there a person for the agents' questions?",
        1.0 if len(named) >= 3 else 0.5 if named or statement.sponsor else 0.0,
        f"named for {', '.join(sorted(named))}" if named else f"nobody but the sponsor, {statement.sponsor}",
        "questions wait for an answer", "name a person for each agent at the kick-off", "lead", 2,
    )  # fmt: skip


def _approvers(ticket: Ticket, statement: Statement) -> Item:
    named = statement.names("approvers")
    return Item(
        "people", "no-approver", "Is it known who decides the gates?", 1.0 if named else 0.5,
        f"approvers: {', '.join(named)}" if named else "the ticket names none; the policy decides alone",
        "the session waits at a gate", "name the approvers; the policy must list them, too", "lead", 2,
    )  # fmt: skip


def _platform(ticket: Ticket, counts: Mapping[str, Any]) -> Item:
    wanted = expected_seconds(counts["rows"], counts["columns"]) / 60
    allowed = ticket.budget.minutes
    return Item(
        "people", "too-little-compute", "Does the budget of machine time do?",
        1.0 if allowed >= 2 * wanted else 0.5 if allowed >= wanted else 0.0,
        f"{allowed:g} minutes allowed, about {wanted:.1f} expected ({FORMULA})",
        "the session ends at its limit", "raise `budget: minutes`, or give fewer rows", "devsecops", 3,
    )  # fmt: skip


def _rules(statement: Statement) -> Item:
    said = statement.text("rules")
    none = said.lower().rstrip(".") in _NONE
    return Item(
        "rules", "unknown-rules", "Are the laws, contracts and policies known?", 0.5 if none else 1.0,
        f"from the ticket, not verified: {said[:200]}",
        "the work breaks a rule nobody looked up", "a person who knows the field reads the list", "risk", 4,
    )  # fmt: skip


def _personal(statement: Statement, report: Mapping[str, Any]) -> Item:
    found, direct = list(report["personal"]), report["direct_columns"]
    special = [name for name, each in report["personal"].items() if any(f["tag"] == "personal:special" for f in each)]
    said = statement.text("personal data")
    denied = said.lower().rstrip(".") in _NONE
    if not found:
        score, evidence = 1.0, "no rule found personal data" + (f"; the ticket says: {said[:120]}" if said else "")
    elif said and not denied:
        score, evidence = 1.0, f"{', '.join(found[:6])}; ground, from the ticket and not verified: {said[:160]}"
    elif denied and (direct or special):
        score, evidence = 0.0, f"the ticket says `{said}`, but {', '.join((direct or special)[:6])} look personal"
    elif direct or special:
        score, evidence = 0.0, f"{', '.join((direct + special)[:6])} look personal and no ground is named"
    else:
        score, evidence = 0.5, f"{', '.join(found[:6])} may tell of people; nobody says on what ground they are used"
    return Item(
        "rules", "personal-data-without-ground", "May the personal data be used?", score, evidence,
        "people are wronged and the law is broken", "write `Personal data:` with the ground, or leave the columns out",
        "risk", 5, blocking=True,
    )  # fmt: skip


def _separation(ticket: Ticket, statement: Statement) -> Item:
    same = [name for name in statement.names("approvers") if name.lower() == (ticket.requester or "").lower()]
    return Item(
        "rules", "own-approval", "Does somebody else than the requester decide?", 0.0 if same else 1.0,
        f"{same[0]} asks and would approve" if same else f"requester: {ticket.requester or 'not named'}",
        "nobody looks at the work from outside", "name another approver: the requester's approval does not count",
        "risk", 3,
    )  # fmt: skip
