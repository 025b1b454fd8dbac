"""Skill `devsecops.deploy_production`: a growing share of the requests, watched after each, with an automatic way
back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import table
from agents.skills.devsecops.canary import MARGIN, wrong_by
from agents.skills.devsecops.deploy_staging import BACK_SECONDS
from agents.skills.devsecops.environments import NEEDS, Check, Ready, ready, write_environment
from agents.skills.devsecops.replay import Asked, requests_of
from agents.skills.devsecops.rollout import ALPHA, Rollout, roll_out
from agents.skills.shapes import ROW_COLUMN
from agents.skills.training.inuse import Package
from schemas.values import Measurement, Mode, Role, TickedItem


class DevsecopsDeployProduction(Skill[Parameters, SkillOutput]):
    """Give the verified package 10 %, 50 %, all of the requests, compare at 50 %, and go back at the first breach."""

    name = "devsecops.deploy_production"
    role = Role.DEVSECOPS
    modes = frozenset({Mode.DELIVER})
    reads_source = True
    needs = NEEDS
    produces = ("release-production.json", "release-production.md", "kubernetes-production.yaml")
    seconds = 300.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write report and manifests. `release.production_breach` is 1 when the package was taken back.

        Raises InputError when the signature does not hold any more, SkillError when a server does not start.
        """
        found = ready(context)
        asked, wrong, limit = _judged(found, context.seed + 2)
        rollout = roll_out(
            found.before, found.package.data, asked, wrong, limit, compare=wrong is not None, seed=context.seed,
            work=context.out.parent, single_ms=0.0, progress=context.progress,
        )  # fmt: skip
        checks = _checks(rollout)
        write_environment(context, "production", found, checks, rollout.as_dict(), _text(found, rollout))
        back = rollout.rollback_seconds
        winner = rollout.duel.winner if rollout.duel else ""
        told = f"taken back: {rollout.breach}" if rollout.breach else "passed at every share"
        return SkillOutput(
            summary=f"production: {told}, {len(rollout.of('challenger'))} of {len(rollout.replies)} requests"
            + (f", {winner} is surely better" if winner else ""),
            ticked=(
                TickedItem(item="verified-again", evidence=f"release-production.json: {found.release.sha256[:16]}"),
                TickedItem(item="shares-watched", evidence=f"release-production.md: {len(rollout.stages)} shares"),
                TickedItem(item="way-back-ready", evidence=f"release-production.json: {found.way}"),
            ),
            measurements=(
                Measurement(scope="release", name="production_breach", value=1.0 if rollout.breach else 0.0),
                Measurement(scope="release", name="production_failed", value=float(sum(not c.held for c in checks))),
                Measurement(scope="release", name="production_requests", value=float(len(rollout.replies))),
            ),
            warnings=(f"production: {told}, back in {back:.3f} s",) if back is not None else (),
        )


def _judged(found: Ready, seed: int) -> tuple[list[Asked], Callable[[Asked, Any], bool] | None, float]:
    """The requests; and, where the rows say what happened and a model is in use, what is wrong and how often that is
    borne: a little more often than the model in use is on the same rows."""
    target, champion = found.package.scope.target, found.in_use
    if champion is None or target not in found.frame or champion.scope.target != target:
        return requests_of(found.frame, found.package.features, seed), None, 0.0
    from agents.skills.data.target import as_target

    frame = found.frame[found.frame[target].notna()]
    frame = frame.assign(**{target: as_target(frame[target], found.package.scope.task)})
    asked = requests_of(frame, found.package.features, seed, frame.set_index(ROW_COLUMN)[target])
    rows = {each.row for each in asked}
    errors, above = _errors(champion, frame[frame[ROW_COLUMN].isin(rows)], target)
    limit = min(0.95, max(0.02, MARGIN * sum(errors) / max(1, len(errors))))
    return asked, wrong_by(above), limit


def _errors(champion: Package, frame: Any, target: str) -> tuple[list[bool], float | None]:
    """Whether the model in use is wrong, row by row; for numbers also what counts as wrong: its 90th percentile."""
    from agents.skills.devsecops.serving import MAX_ROWS, Predictor

    predictor, said = Predictor(champion), []
    names = [column.name for column in champion.features.columns]
    records = frame[names].to_dict("records")
    for start in range(0, len(records), MAX_ROWS):
        said += predictor.predict(records[start : start + MAX_ROWS])["predictions"]
    truth = list(frame[target])
    if champion.scope.classes:
        return [str(each) != str(real) for each, real in zip(said, truth, strict=True)], None
    off = sorted(abs(float(each) - float(real)) for each, real in zip(said, truth, strict=True))
    above = off[int(0.9 * (len(off) - 1))]
    return [each > above for each in off], above


def _checks(rollout: Rollout) -> list[Check]:
    back = rollout.rollback_seconds
    checks = [
        Check(f"{watch.name}: at most {watch.limit:.1%}", not watch.breached, f"{watch.bad} of {watch.seen}")
        for watch in rollout.watches
    ]
    if rollout.duel is not None:
        checks.append(Check("not surely worse than the model in use", rollout.duel.winner != "champion",
                            rollout.duel.words))  # fmt: skip
    if rollout.breach:
        found = "it did not come back" if back is None else f"{back:.3f} s"
        checks.append(Check(f"back within {BACK_SECONDS:.0f} s", back is not None and back <= BACK_SECONDS, found))
    return checks


def _text(found: Ready, rollout: Rollout) -> list[str]:
    shares = [(f"{s['share']:.0%}", s["requests"], s["challenger"], s["breach"] or "none") for s in rollout.stages]
    lines = [
        "## Shares", "", *table(("share", "requests", "to the new version", "breach"), shares, 200), "",
        f"All signals together take a sound version back with a chance of at most {ALPHA:.0%}.",
    ]  # fmt: skip
    if rollout.duel is None:
        why = "no model is in use" if found.in_use is None else "the rows do not say what happened"
        lines += ["", f"Right and wrong answers were not compared: {why}."]
    elif rollout.duel.winner:
        lines += ["", f"At one half each, the {rollout.duel.winner} is surely better: {rollout.duel.words}."]
    else:
        lines += ["", f"At one half each, neither is surely better: {rollout.duel.words}."]
    if rollout.rollback_seconds is not None:
        lines += ["", f"**Taken back by itself** ({rollout.breach}): the way back answered after "
                  f"{rollout.rollback_seconds:.3f} s, and {rollout.after_rollback} further requests."]  # fmt: skip
    return lines
