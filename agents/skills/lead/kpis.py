"""Skill `lead.kpis`: from what the work is for down to the figures that gates read, as one tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, figure, origin_note, table
from agents.skills.lead.statement import FROM_TICKET, Statement, read_statement
from agents.skills.shapes import ScopeSpec
from schemas.ticket import Ticket
from schemas.values import Mode, Role, TickedItem

RULE = "rule of the pipeline"


@dataclass(frozen=True)
class Kpi:
    """One figure of the tree: below which other one, what is wanted of it, who owns it, and where it is measured.

    `figure` is its name in criteria, `phase` the phase that measures it; both are empty where only people can say.
    """

    id: str
    parent: str
    name: str
    wanted: str
    wanted_from: str
    owner: str
    figure: str = ""
    phase: str = ""
    today: str = ""
    measured: float | None = None


class LeadKpis(Skill[Parameters, SkillOutput]):
    """Draw the tree of KPIs from the ticket's goal over the model's metric to the figures that are watched early."""

    name = "lead.kpis"
    role = Role.LEAD
    modes = frozenset({Mode.SCOPE})
    needs = ("scope.json",)
    optional = ("opportunity-brief.json",)
    produces = ("kpi-tree.json", "kpi-tree.md")
    seconds = 60.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the tree. What the ticket does not say is left to a person, visibly. Raises InputError when the
        ticket's text cannot be read."""
        ticket = context.ticket
        scope = ScopeSpec.model_validate(context.read_json("scope.json"))
        brief = context.read_json("opportunity-brief.json") if "opportunity-brief.json" in context.inputs else {}
        nodes = tree(ticket, read_statement(ticket), scope, brief, context.measured)
        leaves = [node for node in nodes if node.figure]
        open_ = [node.name for node in nodes if not node.wanted]
        context.write_json("kpi-tree.json", {"ticket": ticket.id, "kpis": [asdict(node) for node in nodes]})
        context.write_text("kpi-tree.md", _document(ticket, nodes))
        return SkillOutput(
            summary=f"{len(nodes)} KPIs, {len(leaves)} measured by the train, {len(open_)} left to people",
            ticked=(TickedItem(item="kpis-named", evidence=f"kpi-tree.json: {len(leaves)} of {len(nodes)} measured"),),
            warnings=tuple(f"nobody said what is wanted of: {name}" for name in open_),
        )


def tree(
    ticket: Ticket, statement: Statement, scope: ScopeSpec, brief: Mapping[str, Any],
    measured: Mapping[str, Mapping[str, float]],
) -> list[Kpi]:  # fmt: skip
    """The nodes, parents before children."""
    sponsor = statement.sponsor or "a person"
    value = (brief.get("value") or {}).get("usd_high")
    worth = "" if value is None else f"up to {figure(round(value))} USD a year"
    errors = statement.text("errors today")
    criteria = [each for each in scope.acceptance if scope.metric in each] or list(scope.acceptance)
    nodes = [
        Kpi("goal", "", (statement.text("success") and "Success") or "What good looks like", statement.text("success"),
            FROM_TICKET, sponsor),
        Kpi("value", "goal", "Value", worth, f"opportunity brief; numbers {FROM_TICKET}", sponsor,
            "opportunity.usd_per_year", "opportunity"),
        Kpi("outcome", "goal", "The promise holds on the rows people ask about", "kept", RULE, "evaluation",
            "impact.kept", "evaluation", today=f"errors today: {errors}" if errors else ""),
        Kpi("metric", "outcome", f"{scope.metric} on hold-out rows", "; ".join(criteria),
            "the ticket" if scope.acceptance_from == "ticket" else "proposed by the Lead agent", "evaluation",
            f"metrics.{scope.metric}", "validation"),
        Kpi("spending", "goal", "Cost of the work", f"at most {scope.budget_usd:g} USD", "the ticket's budget", "lead",
            "costs.usd"),
        Kpi("unit-cost", "spending", "Cost of 1,000 predictions", "", "", "lead", "impact.usd_per_1000", "evaluation"),
        Kpi("service", "outcome", "Answers in time, without errors", "0 failed", RULE, "devsecops",
            "monitoring.failed", "monitoring"),
        Kpi("rows", "metric", "Rows to learn from", "at least 30", RULE, "data", "data.rows", "extraction"),
        Kpi("copies", "metric", "Hold-out rows that also occur in training", "at most 1 %", RULE, "data",
            "data.twin_fraction_after", "preparation"),
        Kpi("leaks", "metric", "Inputs that know the answer", "none", RULE, "feature", "leakage.suspects",
            "feature-engineering"),
        Kpi("claims", "metric", "Claims that do not hold when made again", "none", RULE, "evaluation",
            "audit.findings", "validation"),
    ]  # fmt: skip
    if ticket.sensitive:
        name = f"Clear differences between groups ({', '.join(ticket.sensitive)})"
        nodes.append(Kpi("groups", "outcome", name, "", "", "evaluation", "fairness.clear_differences", "validation"))
    return [_with(node, measured) for node in nodes]


def _with(node: Kpi, measured: Mapping[str, Mapping[str, float]]) -> Kpi:
    scope, _, name = node.figure.partition(".")
    return Kpi(**{**asdict(node), "measured": measured.get(scope, {}).get(name)})


def _document(ticket: Ticket, nodes: list[Kpi]) -> str:
    lines = [f"# KPI tree: {cell(ticket.title, 300)}", "", *origin_note(ticket), "```mermaid", "graph TD"]
    for node in nodes:
        label = "".join(letter for letter in node.name if letter.isalnum() or letter in " ,.%_-()")[:80]
        lines.append(f'  {node.id}["{label}"]')
        if node.parent:
            lines.append(f"  {node.parent} --> {node.id}")
    rows = [
        (node.name, node.wanted or "left to a person", node.wanted_from or "–", node.owner,
         f"{node.figure} in {node.phase}" if node.phase else node.figure or "by people", node.today or "–",
         "not yet" if node.measured is None else figure(node.measured))
        for node in nodes
    ]  # fmt: skip
    header = ("KPI", "wanted", "from", "owner", "measured as", "today", "so far")
    lines += ["```", "", *table(header, rows, 160), ""]
    lines.append("Lower ones are seen earlier: when one of them is wrong, those above it cannot be right.")
    return "\n".join(lines)
