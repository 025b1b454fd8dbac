"""The ML Test Score (Breck et al. 2017): 28 tests, each 0, ½ (done by hand and written down) or 1 (automated).

The score is the least of the four sections' sums. A point is given only for evidence in this session's record; what
the organisation does elsewhere a person may add.
"""

from __future__ import annotations

from dataclasses import dataclass

from agents.skills.risk.dossier import Dossier

SECTIONS = ("data", "model", "infrastructure", "monitoring")
MEANING = ((0.0, "more a research project"), (1.0, "not totally untested"), (2.0, "a first pass"), (3.0, "reasonable"))


@dataclass(frozen=True)
class Item:
    """One of the 28 tests."""

    section: str
    text: str
    points: float
    evidence: str


def items(dossier: Dossier) -> list[Item]:
    """All 28, in the paper's order."""
    record, log = dossier.record, dossier.record.log
    tuned = len({(trial.model, str(sorted(trial.parameters.items()))) for trial in log.trials})
    slices = int(record.metrics["slices"]["judged"])
    weak = sum(bool(part["clearly_worse"]) for part in record.metrics["slices"]["worst"])
    groups = len((dossier.fairness or {}).get("columns", []))
    spoilt = dossier.robustness
    costs = len((spoilt or {}).get("inputs", []))
    contract = dossier.has("data-contract.yaml")
    dropped = len(dossier.features.dropped)
    return [
        Item(
            "data",
            "Feature expectations are captured in a schema",
            float(contract),
            "data-contract.yaml, checked against every row",
        ),
        Item("data", "All features are beneficial", 0.0, "importance is measured in `ml-engagement` only"),
        Item(
            "data",
            "No feature's cost is too much",
            0.5 if costs else 0.0,
            f"robustness.json: time, memory and width of {costs} inputs, against no limit"
            if costs
            else "costs of single columns were not measured in this pipeline",
        ),
        Item(
            "data",
            "Features adhere to meta-level requirements",
            float(record.leakage is not None),
            f"leakage.json: every column tested; {dropped} columns left out with reasons",
        ),
        Item(
            "data",
            "The data pipeline has appropriate privacy controls",
            0.0,
            "personal data is tagged in `data-onboarding` only",
        ),
        Item("data", "New features can be added quickly", 1.0, "feature-map.json is derived from the columns by rule"),
        Item(
            "data",
            "All input feature code is tested",
            0.5,
            "one code for training and serving, tested by the train's own tests",
        ),
        Item(
            "model",
            "Every model specification is reviewed and checked in",
            1.0 if dossier.people else 0.5,
            "experiment-plan.json on the session's branch"
            + ("" if dossier.people else "; no person has decided a gate yet"),
        ),
        Item("model", "Offline proxy metrics correlate with actual impact", 0.0, "known only from use"),
        Item(
            "model",
            "All hyperparameters have been tuned",
            float(tuned > 3),
            f"experiment-log.json: {tuned} configurations",
        ),
        Item("model", "The impact of model staleness is known", 0.0, "known only from later rows"),
        Item(
            "model",
            "A simpler model is not better",
            1.0,
            "experiment-log.json: the simplest that is not clearly beaten; metrics.json: gain over a constant baseline",
        ),
        Item(
            "model",
            "Quality is sufficient on all important slices",
            0.0 if not slices else 0.5 if weak else 1.0,
            f"metrics.json: {slices} slices judged, {weak or 'none'} clearly worse than the whole",
        ),
        Item(
            "model",
            "The model is tested for considerations of inclusion",
            float(groups > 0),
            f"fairness.json: {groups} columns of groups named",
        ),
        Item(
            "infrastructure",
            "Training is reproducible",
            1.0,
            f"experiment-log.json: seed {log.seed}, model {log.model_sha256[:12]}…; fitted twice with the same bytes",
        ),
        Item(
            "infrastructure",
            "Model specification code is unit tested",
            0.5,
            "tests of the train itself, not of this ticket",
        ),
        Item(
            "infrastructure",
            "The full ML pipeline is integration tested",
            1.0,
            f"this session ran `{dossier.pipeline}` from the source to here, each phase gated",
        ),
        Item(
            "infrastructure", "Model quality is validated before serving", 1.0, "the validation gate reads metrics.json"
        ),
        Item("infrastructure", "The model can be debugged on a single example", 0.0, "no explanation of single rows"),
        Item(
            "infrastructure",
            "Models are tested by a canary before production",
            0.0,
            "only in pipelines `retrain` and `release`",
        ),
        Item(
            "infrastructure",
            "Models can be rolled back quickly and safely",
            0.5,
            "session rollback; the way back is tried and timed in `ml-engagement`",
        ),
        Item(
            "monitoring",
            "Dependency changes result in notification",
            0.0,
            "the bill of materials comes with the package; nobody watches it",
        ),
        Item(
            "monitoring",
            "Data invariants hold in training and serving inputs",
            0.5 if contract else 0.0,
            "the contract is in the package; checked again by `retrain`",
        ),
        Item(
            "monitoring",
            "Training and serving features compute the same values",
            0.5,
            "the same code and signature; compared on replayed requests in `ml-engagement`",
        ),
        Item("monitoring", "Models are not too stale", 0.0, "no rule without a monitoring phase"),
        Item(
            "monitoring",
            "The model is numerically stable",
            float(bool(spoilt and spoilt["answers_empty_row"])),
            "robustness.json: spoilt rows and an empty row get finite answers",
        ),
        Item(
            "monitoring",
            "No dramatic regression in speed or memory",
            0.5 if spoilt else 0.0,
            "robustness.json: measured once, not watched",
        ),
        Item(
            "monitoring",
            "No regression in prediction quality on served data",
            0.0,
            "labels of served rows are not there yet",
        ),
    ]


def totals(found: list[Item]) -> tuple[float, dict[str, float]]:
    """The score, and the sum of each section."""
    sums = {section: sum(item.points for item in found if item.section == section) for section in SECTIONS}
    return min(sums.values()), sums


def meaning(score: float) -> str:
    """What the paper says of such a score."""
    return [words for least, words in MEANING if score >= least][-1]
