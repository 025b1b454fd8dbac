"""The average of several models: one more finalist, kept only if it is clearly better than the best single one.

Its settings are those of its members, each with its kind before it (`linear.C`), so that a log, a package and a
retraining hold it like any other model. Members weigh the same: weights learnt from the folds would need folds of their
own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skills.training.candidates import CATALOGUE, Candidate, Params, Problem
from agents.skills.training.choice import Duel, Finalist, duel

if TYPE_CHECKING:
    import optuna

    from agents.skills.evaluation.scores import Outcome

VOTING = "voting"
MOST_MEMBERS = 3


def members_of(params: Mapping[str, Any]) -> dict[str, Params]:
    """The settings of each member by its kind, in the order of the catalogue; unknown kinds are left in, at the end."""
    found: dict[str, Params] = {}
    for key, value in params.items():
        kind, _, name = key.partition(".")
        found.setdefault(kind, {})[name] = value
    known = [kind for kind in CATALOGUE if kind in found]
    return {kind: found[kind] for kind in (*known, *(kind for kind in found if kind not in CATALOGUE))}


def joined_settings(members: Mapping[str, Params]) -> Params:
    """The inverse of `members_of`."""
    return {f"{kind}.{name}": value for kind, params in members.items() for name, value in params.items()}


def _build(params: Params, problem: Problem) -> Any:
    from sklearn.ensemble import VotingClassifier, VotingRegressor

    models = [(kind, CATALOGUE[kind].build(own, problem)) for kind, own in members_of(params).items()]
    return VotingClassifier(models, voting="soft") if problem.classification else VotingRegressor(models)


def _defaults(problem: Problem) -> Params:
    """Every kind with its own defaults: what a reader of the catalogue sees; no search starts here."""
    return joined_settings({kind: candidate.defaults(problem) for kind, candidate in CATALOGUE.items()})


def _never_searched(trial: optuna.Trial, problem: Problem) -> Params:
    raise NotImplementedError("members are searched, an average of them is not")


KINDS: Mapping[str, Candidate] = {
    **CATALOGUE,
    VOTING: Candidate(
        VOTING, len(CATALOGUE), "average of the best configurations of several kinds", _defaults, _never_searched,
        _build,
    ),
}  # fmt: skip
"""Every kind a log or a package may name: those that are searched, and their average."""


def own_settings(kind: str, params: Mapping[str, Any], problem: Problem) -> bool:
    """Whether a search of ours gives settings of these names to a model of this kind."""
    if kind != VOTING:
        return set(params) == set(CATALOGUE[kind].defaults(problem))
    members = members_of(params)
    return 2 <= len(members) <= MOST_MEMBERS and all(
        kind in CATALOGUE and own_settings(kind, own, problem) for kind, own in members.items()
    )


def variant(kind: str, params: Mapping[str, Any], *, tuned: bool) -> str:
    """What stands in brackets after the kind: the members of an average, else whether its settings were searched."""
    if kind == VOTING:
        return " + ".join(members_of(params))
    return "tuned" if tuned else "default"


@dataclass(frozen=True)
class Contender:
    """A finalist with what it predicts for each comparison fold."""

    finalist: Finalist
    outcomes: Sequence[Outcome]


def worth_averaging(contenders: Sequence[Contender], test_share: float, higher_is_better: bool) -> list[Contender]:
    """The best of each kind that the best of all does not clearly beat, the best first; fewer than two: none.

    A member that is clearly worse only dilutes the others.
    """
    import numpy as np

    sign = 1.0 if higher_is_better else -1.0
    ranked = sorted(contenders, key=lambda each: (-sign * np.nanmean(each.finalist.scores), each.finalist.simplicity))
    best_of_kind: dict[str, Contender] = {}
    for each in ranked:
        best_of_kind.setdefault(each.finalist.kind, each)
    best, *others = best_of_kind.values()
    close = [each for each in others if not duel(best.finalist, each.finalist, test_share, higher_is_better).won]
    return [best, *close][:MOST_MEMBERS] if close else []


def averaged(members: Sequence[Contender]) -> list[Outcome]:
    """What their average predicts, fold by fold: exactly what the fitted average would, without fitting it."""
    import numpy as np

    from agents.skills.evaluation.scores import ClassOutcome, ValueOutcome

    # in the order in which the fitted average adds them up: floating-point sums depend on it
    order = list(CATALOGUE)
    ordered = sorted(members, key=lambda each: order.index(each.finalist.kind))
    folds: list[Outcome] = []
    for parts in zip(*(each.outcomes for each in ordered), strict=True):
        first = parts[0]
        if isinstance(first, ClassOutcome):
            shares = [part.probabilities for part in parts if isinstance(part, ClassOutcome)]
            folds.append(ClassOutcome(first.truth, np.average(np.asarray(shares), axis=0)))
        else:
            values = [part.predicted for part in parts if isinstance(part, ValueOutcome)]
            folds.append(ValueOutcome(first.truth, np.average(np.asarray(values), axis=0)))
    return folds


def challenge(
    average: Finalist, best: Finalist, holder: Finalist, test_share: float, higher_is_better: bool
) -> tuple[Finalist, list[Duel]]:
    """The average stays only if it clearly beats the best single model, and the one chosen so far where that is
    another; and the comparisons made."""
    duels = []
    for rival in dict.fromkeys((best.name, holder.name)):
        other = best if rival == best.name else holder
        duels.append(duel(average, other, test_share, higher_is_better))
        if not duels[-1].won:
            return holder, duels
    return average, duels
