"""Skill `training.plan`: what the experiment will try, decided before any model sees a row."""

from __future__ import annotations

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import heading, origin_note
from agents.skills.evaluation.text import code
from agents.skills.shapes import ExperimentPlan, FeatureMap, ScopeSpec, SplitSpec
from agents.skills.training.candidates import (
    baseline_name,
    describe,
    fitting_candidates,
    share_trials,
    trial_count,
)
from agents.skills.words import metric_name, model_name
from schemas.ticket import SEARCH_SHARE, Ticket
from schemas.values import Mode, Role, TickedItem

USED = 0.4
"""Of the CPU time that the usual search may take, what its trials need on tables of ordinary size: with more time there
are so many more trials that most of it is used, and the fuse seldom blows."""
MOST_TRIALS = 400
WIDE_TRIALS = 40
"""From so many trials on, settings are searched over wide ranges: with fewer, most trials would be far from any good
setting."""

_FOLD_REASON = {
    "grouped": "groups are kept whole: no group lies in two folds",
    "time": "every fold is scored on rows later than those it was fitted on",
    "stratified": "every fold has the classes in the proportions of the whole",
    "random": "rows are shuffled with a fixed seed",
}


class TrainingPlan(Skill[Parameters, SkillOutput]):
    """Plan the experiment: baseline, candidates, search space, folds and search budget."""

    name = "training.plan"
    role = Role.TRAINING
    modes = frozenset({Mode.DESIGN})
    needs = ("scope.json", "split.json", "feature-map.json")
    produces = ("experiment-plan.json", "experiment-plan.md")
    seconds = 60.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write `experiment-plan.json` and its readable form."""
        scope = ScopeSpec.model_validate(context.read_json("scope.json"))
        split = SplitSpec.model_validate(context.read_json("split.json"))
        features = FeatureMap.model_validate(context.read_json("feature-map.json"))
        plan, left_out = make_plan(scope, split, features, context.seed, context.ticket.budget.search_seconds)
        context.write_json("experiment-plan.json", plan.model_dump(mode="json"))
        context.write_text("experiment-plan.md", _document(plan, scope, split, left_out, context.ticket))
        names = ", ".join(plan.candidates)
        return SkillOutput(
            summary=f"{plan.trials} trials over {names}; {plan.folds} {split.strategy} folds; {plan.metric}",
            ticked=(
                TickedItem(item="baseline-named", evidence=f"experiment-plan.json: {plan.baseline}"),
                TickedItem(item="candidates-named", evidence=f"experiment-plan.md: {names}, with search spaces"),
                TickedItem(
                    item="folds-fit-split",
                    evidence=f"split.json is {split.strategy}: {_FOLD_REASON[split.strategy]}",
                ),
            ),
        )


def make_plan(
    scope: ScopeSpec, split: SplitSpec, features: FeatureMap, seed: int, search_seconds: float | None = None
) -> tuple[ExperimentPlan, dict[str, str]]:
    """The plan for a table of this size, and the kinds of model left out with the reason for each.

    The search may take 8 s of CPU (12 s for larger tables), and never more than a quarter of the ticket's budget; with
    `search_seconds` so much, and there are as many more trials, over wider ranges.
    """
    rows, columns = split.train_rows, len(features.columns)
    names, left_out = fitting_candidates(rows, columns)
    usual = 8.0 if rows * columns < 50_000 else 12.0
    wanted = trial_count(rows, columns, len(scope.classes))
    if search_seconds is not None:
        wanted = min(MOST_TRIALS, max(1, round(wanted * search_seconds / (usual * USED))))
    plan = ExperimentPlan(
        metric=scope.metric,
        folds=5 if rows >= 50 else 3,
        grouped=split.strategy == "grouped",
        seed=seed % 2**31,  # what scikit-learn and optuna take
        baseline=baseline_name(bool(scope.classes), scope.metric),
        candidates=names,
        trials=sum(share_trials(wanted, names).values()),
        search_seconds=min(search_seconds or usual, scope.budget_minutes * 60 * SEARCH_SHARE),
        wide=wanted >= WIDE_TRIALS,
    )
    return plan, left_out


def _document(
    plan: ExperimentPlan, scope: ScopeSpec, split: SplitSpec, left_out: dict[str, str], ticket: Ticket
) -> str:
    shares = share_trials(plan.trials, plan.candidates)
    direction = "higher" if scope.higher_is_better else "lower"
    lines = [
        heading("Experiment plan", ticket),
        "",
        *origin_note(ticket),
        f"Target {code(scope.target)}, {scope.task.value}; optimised metric **{metric_name(plan.metric)}** "
        f"({direction} is better).",
        "",
        f"- Baseline, which the model must beat on the hold-out rows: {plan.baseline}.",
        f"- Reference for the choice: the {model_name(plan.candidates[0])} with default settings.",
        f"- Folds: {plan.folds}, {split.strategy}: {_FOLD_REASON[split.strategy]}.",
        f"- Search: {plan.trials} trials, fixed in number, at most {plan.search_seconds:g} s of CPU; seed {plan.seed}.",
        "",
        "| candidate | trials | searched |",
        "|---|---|---|",
        *(
            f"| {model_name(name)} (`{name}`) | {shares[name]} | {describe(name, wide=plan.wide)} |"
            for name in plan.candidates
        ),
        "",
    ]
    if left_out:
        lines += [*(f"Left out: {name}: {reason}." for name, reason in left_out.items()), ""]
    lines += [
        "## How the model is chosen",
        "",
        "The best configuration of each kind is scored again on fresh folds, beside the linear model with default",
        "settings. From the simplest on, a more complex model replaces the one chosen so far only if the 95 % lower",
        "bound of its paired gain over the folds is above zero (variance corrected after Nadeau and Bengio 2003).",
        "A tie keeps the simpler model. The average of the best of each kind (without those the best clearly beats) is",
        "scored on the same folds, and taken only if that bound is above zero against the best single model, too.",
    ]
    return "\n".join(lines)
