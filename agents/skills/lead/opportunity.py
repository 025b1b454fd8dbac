"""Skill `lead.opportunity`: what the problem is worth, whether it needs a model at all, and whether to go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.loading import Loaded, load
from agents.skills.data.markdown import cell, figure, origin_note, quoted, table
from agents.skills.devsecops.modelcard import PERSON
from agents.skills.lead import criteria
from agents.skills.lead.scope import agree
from agents.skills.lead.simple_way import SimpleWay, try_simple_way
from agents.skills.lead.statement import FROM_TICKET, Statement, need_statement
from agents.skills.lead.value import FORMULA, Estimate, estimate
from agents.skills.shapes import ScopeSpec
from schemas.ticket import Ticket
from schemas.values import Measurement, Mode, RiskLevel, Role, Task, TickedItem

ENOUGH_ROWS = 100
"""Fewer rows leave a hold-out of under twenty: nothing could be shown with them."""


@dataclass(frozen=True)
class Check:
    """One question of the decision. `passed` None: nobody knows yet, and a person should."""

    question: str
    passed: bool | None
    reason: str

    @property
    def answer(self) -> str:
        """`yes`, `no` or `open`."""
        return "open" if self.passed is None else "yes" if self.passed else "no"


@dataclass(frozen=True)
class _Brief:
    ticket: Ticket
    statement: Statement
    loaded: Loaded | None
    scope: ScopeSpec | None
    simple: SimpleWay | None
    value: Estimate
    checks: tuple[Check, ...]

    @property
    def go(self) -> bool:
        return all(check.passed is not False for check in self.checks)

    @property
    def reasons(self) -> list[str]:
        wanted = None if self.go else False
        named = [check.reason for check in self.checks if check.passed is wanted]
        return named or ["every question was answered with yes"]


class LeadOpportunity(Skill[Parameters, SkillOutput]):
    """Say what the problem is worth, try a way without a model on the data, and advise go or no-go.

    Advice by rule: no-go if there is no data or fewer than 100 rows, if the simple rule already fulfils the ticket's
    acceptance criteria, or if the highest value a year is below what the work may cost; else go, with what is open.
    """

    name = "lead.opportunity"
    role = Role.LEAD
    modes = frozenset({Mode.INTAKE})
    reads_source = True
    produces = ("opportunity-brief.json", "opportunity-brief.md")
    seconds = 180.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the brief. Raises InputError naming everything the ticket's text must say and does not."""
        ticket = context.ticket
        statement = need_statement(ticket)
        loaded = scope = simple = None
        if (ticket.data or "").strip():
            loaded = load(ticket, context.roots, context.max_data_bytes)
            scope, values = agree(ticket, loaded, context.acceptance)
            context.progress("trying one answer for all rows, and a rule of few thresholds")
            frame = loaded.frame.drop(columns=loaded.target)
            simple = try_simple_way(frame, values, scope, ticket, context.seed)
        classes = scope is None or scope.task is Task.CLASSIFICATION
        value = estimate(statement, simple, classes)
        checks = _checks(ticket, statement, loaded, scope, simple, value)
        brief = _Brief(ticket, statement, loaded, scope, simple, value, checks)
        context.write_json("opportunity-brief.json", _json(brief))
        context.write_text("opportunity-brief.md", _document(brief))
        return _output(brief)


def _checks(
    ticket: Ticket, statement: Statement, loaded: Loaded | None, scope: ScopeSpec | None, simple: SimpleWay | None,
    value: Estimate,
) -> tuple[Check, ...]:  # fmt: skip
    return (
        _data(loaded),
        _signal(simple, scope),
        _needed(scope, simple),
        _worth(ticket, statement, value),
        Check(
            "Is it of low risk?",
            True if ticket.risk is RiskLevel.LOW else None,
            f"the ticket's author set its risk to {ticket.risk.value}",
        ),
    )


def _data(loaded: Loaded | None) -> Check:
    question = "Is there data?"
    if loaded is None:
        return Check(question, False, "the ticket names no data: nothing can be learned or tried")
    rows = len(loaded.frame)
    return Check(question, rows >= ENOUGH_ROWS, f"{rows:,} rows with a target; at least {ENOUGH_ROWS} are needed")


def _signal(simple: SimpleWay | None, scope: ScopeSpec | None) -> Check:
    """A rule of one threshold that beats a constant shows that the columns say something; its failing shows nothing."""
    question = "Do the columns say something of the target?"
    if simple is None or scope is None:
        return Check(question, None, "not tried: there is no data")
    gain = simple.gains.get(scope.metric)
    shown = f"{scope.metric} gain of the simple rule over one constant answer: {gain.text if gain else 'undefined'}"
    return Check(question, True if gain is not None and gain.lower > 0 else None, shown)


def _needed(scope: ScopeSpec | None, simple: SimpleWay | None) -> Check:
    question = "Is more than the simple rule needed?"
    if scope is None or simple is None:
        return Check(question, None, "not tried: there is no data")
    if scope.acceptance_from != "ticket":
        reason = f"the ticket names no acceptance criterion; the rule makes {figure(simple.rule_loss)} errors per case"
        return Check(question, None if simple.rule_loss > 0 else False, reason)
    held = [criteria.holds(each, simple.figures()) for each in scope.acceptance]
    if all(each is True for each in held):
        return Check(question, False, "the simple rule already fulfils every acceptance criterion: use the rule")
    failed = next(each for each, one in zip(scope.acceptance, held, strict=True) if one is not True)
    return Check(question, True, f"the simple rule does not fulfil {failed}")


def _worth(ticket: Ticket, statement: Statement, value: Estimate) -> Check:
    question = "Is it worth what it may cost?"
    money = statement.number("money")
    cost = ticket.budget.usd if money is None else money
    what = f"{figure(cost)} USD ({'compute budget of the ticket' if money is None else 'money, from the ticket'})"
    if value.usd_high is None or value.usd_low is None:
        return Check(question, None, f"the value in money is not known; the work may cost {what}")
    passed: bool | None = False if value.usd_high < cost else True if value.usd_low >= cost else None
    return Check(question, passed, f"{value.text} against {what}")


def _json(brief: _Brief) -> dict[str, Any]:
    said, ticket = brief.statement, brief.ticket
    return {
        "ticket": ticket.id,
        "title": ticket.title,
        "problem": said.problem,
        "sponsor": said.sponsor,
        "sponsor_from": said.sponsor_from,
        "users": said.text("users"),
        "decision": said.text("decision"),
        "today": said.text("today"),
        "provenance": FROM_TICKET,
        "data": None if brief.loaded is None else brief.loaded.source.model_dump(mode="json"),
        "scope": None if brief.scope is None else brief.scope.model_dump(mode="json"),
        "simple_way": None if brief.simple is None else brief.simple.as_dict(),
        "value": brief.value.as_dict(),
        "checks": [{"question": c.question, "answer": c.answer, "reason": c.reason} for c in brief.checks],
        "go": brief.go,
        "reasons": brief.reasons,
    }


def _output(brief: _Brief) -> SkillOutput:
    advice = "go" if brief.go else "no-go"
    tried = "there is no data to try it on"
    if brief.simple is not None:
        tried = f"{brief.simple.metric} {brief.simple.rule[brief.simple.metric].text} by {brief.simple.leaves[0]}"
    numbers = [Measurement(scope="opportunity", name="go", value=1.0 if brief.go else 0.0)]
    if brief.value.usd_high is not None:
        numbers.append(Measurement(scope="opportunity", name="usd_per_year", value=brief.value.usd_high))
    warnings = [] if brief.go else [f"advice no-go: {reason}" for reason in brief.reasons]
    if brief.simple is not None and brief.simple.rule_loss < 0.005 and brief.scope and brief.scope.classes:
        told = ", ".join(brief.simple.columns)
        warnings.append(f"one rule answers nearly every row right: is {told} known when the decision is made?")
    return SkillOutput(
        summary=f"{advice}: {brief.value.text}; {brief.reasons[0]}",
        ticked=(
            TickedItem(item="problem-stated", evidence=f"opportunity-brief.md quotes the ticket ({FROM_TICKET})"),
            TickedItem(item="value-estimated", evidence=f"opportunity-brief.md: {brief.value.text}"),
            TickedItem(item="sponsor-named", evidence=f"opportunity-brief.md: {cell(brief.statement.sponsor)}"),
            TickedItem(item="simple-way-considered", evidence=f"opportunity-brief.md: {cell(tried, 200)}"),
            TickedItem(item="go-decided", evidence=f"opportunity-brief.json: {advice}, {cell(brief.reasons[0], 200)}"),
        ),
        measurements=tuple(numbers),
        warnings=tuple(warnings),
    )


def _document(brief: _Brief) -> str:
    said, ticket = brief.statement, brief.ticket
    lines = [f"# Opportunity: {cell(ticket.title, 300)}", "", *origin_note(ticket)]
    lines += [
        f"**Advice: {'go' if brief.go else 'no-go'}.** A person decides at the gate.",
        "",
        *(f"- {cell(reason, 300)}" for reason in brief.reasons),
        "",
        f"## The problem ({FROM_TICKET})",
        "",
        *quoted(said.problem),
        "",
        *table(
            ("what", "the ticket says", "provenance"),
            [
                ("sponsor", said.sponsor, said.sponsor_from),
                *((name, said.text(name), FROM_TICKET) for name in ("users", "decision", "today", "rules")),
            ],
            500,
        ),
        "",
        "## A way without a model",
        "",
        *_simple_lines(brief),
        "",
        "## What a solution would be worth",
        "",
        f"**{cell(brief.value.text, 200)}** ({FORMULA}).",
        "",
        *(f"- {cell(assumption, 200)}" for assumption in brief.value.assumptions),
        *([] if brief.value.usd_high is not None else [f"- {PERSON} `Cases per year:` and `Cost of an error:`."]),
        "",
        "## How the advice was found",
        "",
        *table(("question", "answer", "reason"), [(c.question, c.answer, c.reason) for c in brief.checks], 300),
        "",
        "One `no` makes it a no-go. What is open does not stop the work; whoever decides should know it.",
    ]
    return "\n".join(lines)


def _simple_lines(brief: _Brief) -> list[str]:
    simple = brief.simple
    if simple is None:
        return ["There is no data yet, so none could be tried."]
    shown = [name for name in (simple.metric, "accuracy", "mae") if name in simple.rule]
    return [
        f"Two ways, measured on {simple.rows:,} rows they were not made from (cross-validation):",
        "",
        *table(
            ("figure [95 % interval]", "one answer for all", "a rule of few thresholds"),
            [(name, simple.constant[name].text, simple.rule[name].text) for name in dict.fromkeys(shown)],
        ),
        "",
        "The rule, as found on all rows:",
        "",
        *(f"- {cell(leaf, 300)}" for leaf in simple.leaves),
    ]
