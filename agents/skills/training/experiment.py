"""One experiment, from training rows to a chosen and refitted model; it writes no files."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skill import LimitError
from agents.skills.evaluation.scores import Outcome, joined, score
from agents.skills.feature.transform import build_transformer
from agents.skills.shapes import ExperimentLog, ExperimentPlan, FeatureMap, ScopeSpec, Trial
from agents.skills.training.candidates import CATALOGUE, LINEAR, Candidate, Params, Problem, baseline, share_trials
from agents.skills.training.checkpoint import Checkpoint
from agents.skills.training.choice import Duel, Finalist, choose, explain
from agents.skills.training.folds import Fold, FoldPlan, make_folds, plan_folds
from agents.skills.training.modelfile import digest, dump_model
from agents.skills.training.rows import TrainingRows
from agents.skills.training.search import (
    CrossValidator,
    Elsewhere,
    Searched,
    as_trial,
    held_out_share,
    outcome_of,
    search,
)
from agents.skills.training.voting import (
    KINDS,
    VOTING,
    Contender,
    averaged,
    challenge,
    joined_settings,
    variant,
    worth_averaging,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Result:
    """What an experiment leaves: two skops files as bytes, the log, and what a reader should know.

    `reproducible` says that fitting the chosen configuration twice gave the same bytes.
    """

    model: bytes
    baseline: bytes
    log: ExperimentLog
    finalists: tuple[Trial, ...]
    duels: Sequence[Duel]
    folding: FoldPlan
    repeats: int
    reproducible: bool
    search_note: str
    warnings: tuple[str, ...]


class Experiment:
    """Searches, compares, chooses and refits, on one thread: sums over several differ in their last bits."""

    def __init__(
        self,
        rows: TrainingRows,
        features: FeatureMap,
        scope: ScopeSpec,
        plan: ExperimentPlan,
        *,
        time_ordered: bool,
        seconds: float,
        progress: Callable[[str], None],
        checkpoint: Checkpoint | None = None,
        elsewhere: Callable[[Problem], Elsewhere] | None = None,
    ) -> None:
        """`seconds` is the wall-clock time the whole may take; `elsewhere` makes what computes predictions, if not this
        process. Raises InputError when rows cannot be folded."""
        self.rows, self.features, self.scope, self.plan = rows, features, scope, plan
        self.seconds, self.progress = seconds, progress
        self.problem = Problem(scope.task, plan.metric, len(scope.classes), len(rows.target), plan.seed, plan.wide)
        self.folding = plan_folds(
            rows.target, rows.groups, wanted=plan.folds, classes=bool(scope.classes), time=time_ordered
        )
        self.repeats = 1 if time_ordered else 2
        # finalists meet on fresh partitions, not on those the search tuned them for
        self.comparison = [fold for repeat in range(self.repeats) for fold in self._folds(1 + repeat)]
        self.validator = CrossValidator(
            rows.frame, rows.target, scope.classes, self.problem, lambda: build_transformer(features),
            checkpoint or Checkpoint(None, ""), elsewhere and elsewhere(self.problem),
        )  # fmt: skip

    def run(self) -> Result:
        """Do it all. Raises LimitError when even the simplest model would take too much of the time."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1):
            reference = self._reference()
            found = self._search()
            contenders = [reference, *self._tuned(found)]
            finalists = [each.finalist for each in contenders]
            chosen, duels = choose(finalists, self._share, self.scope.higher_is_better)
            if members := worth_averaging(contenders, self._share, self.scope.higher_is_better):
                average = self._average(members)
                finalists.append(average)
                best = members[0].finalist
                chosen, more = challenge(average, best, chosen, self._share, self.scope.higher_is_better)
                duels += more
            self.progress(f"chosen: {chosen.name}; refitting twice on all {self.problem.rows} rows")
            candidate = KINDS[chosen.kind]
            model, again = (self.fit(candidate.build(chosen.params, self.problem)) for _ in range(2))
            floor = self._floor()
            log = ExperimentLog(
                metric=self.plan.metric,
                higher_is_better=self.scope.higher_is_better,
                baseline=self._baseline_trial(),
                trials=(*found.trials, *(self._trial(finalist) for finalist in finalists)),
                chosen=self._trial(chosen),
                reason=explain(chosen, duels),
                model_sha256=digest(model),
                seed=self.plan.seed,
                tracking="artifact only",
            )
        return Result(
            model=model,
            baseline=floor,
            log=log,
            finalists=tuple(self._trial(finalist) for finalist in finalists),
            duels=duels,
            folding=self.folding,
            repeats=self.repeats,
            reproducible=model == again,
            search_note=f"{len(found.trials)} of {found.planned} trials in at most {self._budget:g} s of CPU",
            warnings=self._warnings(found, reproducible=model == again),
        )

    def again(self, kind: str, params: Params) -> Result:
        """Fit one configuration that was chosen before, without a search; cross-validated beside the floor."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1):
            candidate = KINDS[kind]
            started = self.validator.wall()
            outcomes = self.validator.outcomes(candidate, params, self.comparison)
            finalist = self._finalist(candidate, params, outcomes, self.validator.wall() - started).finalist
            model, twice = (self.fit(candidate.build(params, self.problem)) for _ in range(2))
            trial = self._trial(finalist)
            log = ExperimentLog(
                metric=self.plan.metric,
                higher_is_better=self.scope.higher_is_better,
                baseline=self._baseline_trial(),
                trials=(trial,),
                chosen=trial,
                reason=f"{trial.model}: kind and settings are those of the model in use; nothing was searched",
                model_sha256=digest(model),
                seed=self.plan.seed,
                tracking="artifact only",
            )
            floor = self._floor()
        return Result(
            model=model,
            baseline=floor,
            log=log,
            finalists=(trial,),
            duels=(),
            folding=self.folding,
            repeats=self.repeats,
            reproducible=model == twice,
            search_note="none: kind and settings are kept",
            warnings=self._warnings(Searched((), {}, 0, cut=False), reproducible=model == twice),
        )

    def score_again(self, candidate: Candidate, params: Params) -> tuple[float, Outcome, NDArray[Any]]:
        """The mean of the metric over the comparison folds, as the log of an experiment states it; what was predicted
        of every row of their first partition by a model that had not seen it; the groups of those rows."""
        import numpy as np

        outcomes = self.validator.outcomes(candidate, params, self.comparison)
        mean = float(np.nanmean([score(outcome, self.problem.metric) for outcome in outcomes]))
        first = self.comparison[: len(outcomes) // self.repeats]
        groups = self.rows.groups[np.concatenate([fold.test for fold in first])]
        return mean, joined(outcomes[: len(first)]), groups

    def fit(self, model: Any) -> bytes:
        """Fit transformer and model on all rows; the bytes of their skops file."""
        from sklearn.pipeline import Pipeline

        pipeline = Pipeline([("transform", build_transformer(self.features)), ("model", model)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipeline.fit(self.rows.frame, self.rows.target)
        return dump_model(pipeline)

    def _floor(self) -> bytes:
        """The baseline on all rows: a pipeline of one step, since it reads no column."""
        from sklearn.pipeline import Pipeline

        pipeline = Pipeline([("model", baseline(self.problem))])
        return dump_model(pipeline.fit(self.rows.target.reshape(-1, 1), self.rows.target))

    @property
    def _share(self) -> float:
        return held_out_share(self.comparison)

    @property
    def _budget(self) -> float:
        return min(self.plan.search_seconds, self.seconds / 3)

    def _folds(self, repeat: int) -> list[Fold]:
        return make_folds(self.folding, self.rows.target, self.rows.groups, self.plan.seed + repeat)

    def _reference(self) -> Contender:
        """The linear model with default settings, and a fuse: if one fold takes too long, nothing else can work."""
        candidate = CATALOGUE[LINEAR]
        params = candidate.defaults(self.problem)
        started, began = self.validator.wall(), self.validator.effort()
        first = self.validator.outcomes(candidate, params, self.comparison[:1])
        estimate = (self.validator.effort() - began) * len(self.comparison)
        if estimate > self.seconds / 4:
            raise LimitError(
                f"cross-validating the simplest model would take {estimate:.0f} s of the {self.seconds:.0f} s allowed",
                "use fewer rows or columns, or allow more time",
            )
        rest = self.validator.outcomes(candidate, params, self.comparison[1:])
        return self._finalist(candidate, params, [*first, *rest], self.validator.wall() - started)

    def _search(self) -> Searched:
        # three folds are enough to rank configurations; of time folds the latest, which see the most rows
        folds = self._folds(0)[-3:]
        shares = share_trials(self.plan.trials, self.plan.candidates)
        return search(self.validator, folds, shares, self._budget, self.progress)

    def _tuned(self, found: Searched) -> list[Contender]:
        """The best configuration of each kind on the comparison folds; the untuned linear model is there already."""
        finalists = []
        for name, params in found.best.items():
            candidate = CATALOGUE[name]
            if name == LINEAR and params == candidate.defaults(self.problem):
                continue
            started = self.validator.wall()
            outcomes = self.validator.outcomes(candidate, params, self.comparison)
            finalists.append(self._finalist(candidate, params, outcomes, self.validator.wall() - started))
        return finalists

    def _average(self, members: Sequence[Contender]) -> Finalist:
        """The average of these models, from what they predicted already."""
        settings = joined_settings({each.finalist.kind: each.finalist.params for each in members})
        seconds = sum(each.finalist.seconds for each in members)
        return self._finalist(KINDS[VOTING], settings, averaged(members), seconds).finalist

    def _finalist(self, candidate: Candidate, params: Params, outcomes: Sequence[Outcome], seconds: float) -> Contender:
        import numpy as np

        tuned = params != candidate.defaults(self.problem)
        finalist = Finalist(
            kind=candidate.name,
            name=f"{candidate.name} ({variant(candidate.name, params, tuned=tuned)})",
            params=params,
            simplicity=(candidate.simplicity, int(tuned)),
            scores=np.array([score(each, self.plan.metric) for each in outcomes]),
            seconds=seconds,
        )
        self.progress(f"finalist {finalist.name}: {self.plan.metric} {self._trial(finalist).mean:.4f}")
        return Contender(finalist, outcomes)

    def _trial(self, finalist: Finalist) -> Trial:
        return as_trial(finalist.name, finalist.params, finalist.scores, self._share, finalist.seconds)

    def _baseline_trial(self) -> Trial:
        """The dummy on the comparison folds; it reads no column, so it needs no transformer."""
        import numpy as np

        started = time.monotonic()
        scores = []
        for fold in self.comparison:
            fit, test = (np.zeros((len(part), 1)) for part in (fold.train, fold.test))
            floor = baseline(self.problem).fit(fit, self.rows.target[fold.train])
            outcome = outcome_of(floor, test, self.rows.target[fold.test], self.scope.classes)
            scores.append(score(outcome, self.plan.metric))
        return as_trial("dummy", {}, np.array(scores), self._share, time.monotonic() - started)

    def _warnings(self, found: Searched, *, reproducible: bool) -> tuple[str, ...]:
        texts = []
        if self.folding.note:
            texts.append(self.folding.note)
        if found.cut:
            texts.append(
                f"the search stopped after {len(found.trials)} of {found.planned} trials at its time limit; "
                "another run on another machine may choose differently"
            )
        if not reproducible:
            texts.append("fitting the chosen configuration twice gave two different models")
        return tuple(texts)
