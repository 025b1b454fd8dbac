"""The figures criteria may read: what every session has, and what each shipped skill measures.

A skill says what it measured only when it runs. A pipeline is checked long before, so the names stand here; a test
holds them to the skills' code. A name may end in `*` (`training.cv_*`): any figure that begins like that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from schemas.ticket import CLASSIFICATION_METRICS, REGRESSION_METRICS
from schemas.values import RiskLevel, Task

FigureType = Literal["double", "string"]

ALWAYS: Mapping[str, FigureType] = {
    "ticket.id": "double",
    "ticket.risk": "string",
    "ticket.task": "string",
    "ticket.metric": "string",
    "ticket.requester": "string",
    "costs.usd": "double",
    "costs.wall_seconds": "double",
    "costs.cpu_seconds": "double",
    "costs.tokens": "double",
}
"""What every session has from its start: dollars, seconds and tokens are what it has used so far."""

CHOICES: Mapping[str, frozenset[str]] = {
    "ticket.risk": frozenset(level.value for level in RiskLevel),
    "ticket.task": frozenset({"", *(task.value for task in Task)}),
    "ticket.metric": frozenset({"", *CLASSIFICATION_METRICS, *REGRESSION_METRICS}),
}
"""All values a figure can have, where they are few. Empty: the ticket does not say."""

CALIBRATION = ("brier", "ece")
_METRICS = (*CLASSIFICATION_METRICS, *REGRESSION_METRICS)
_BOUNDS = ("", "_lower", "_upper")


def _measured_on_the_holdout() -> tuple[str, ...]:
    names = [f"metrics.{m}{part}{end}" for m in _METRICS for part in ("", "_gain") for end in _BOUNDS]
    names += [f"metrics.{m}{end}" for m in CALIBRATION for end in _BOUNDS]
    names += [f"metrics.{m}_se" for m in (*_METRICS, *CALIBRATION)]
    names += [f"baseline.{m}{end}" for m in _METRICS for end in _BOUNDS]
    return ("metrics.rows", *names)


def _measured_beside_the_champion() -> tuple[str, ...]:
    names = [f"champion.{m}{part}{end}" for m in _METRICS for part in ("", "_gain") for end in _BOUNDS]
    return ("champion.rows", *names, *(f"champion.gain{end}" for end in _BOUNDS))


MEASURED: Mapping[str, tuple[str, ...]] = {
    "data.extract": ("data.rows", "data.columns"),
    "data.ingest": ("data.rows", "data.columns"),
    "data.promise": ("data.quality_score", "data.duplicate_rows", "data.missing_share"),
    "data.describe": ("data.personal_columns",),
    "data.quality": ("data.quality_score", "data.duplicate_rows", "data.missing_share"),
    "data.split": ("data.twin_fraction", "data.twin_fraction_after", "data.train_rows", "data.holdout_rows"),
    "feature.leakage": ("leakage.suspects", "leakage.adversarial_auc", "leakage.adversarial_bound"),
    "feature.materialise": ("materialise.stored", "materialise.saved_seconds", "materialise.bytes"),
    "feature.backfill": ("backfill.rows", "backfill.skipped", "backfill.windows", "backfill.moved"),
    "training.train": ("training.trials", "training.cv_*"),
    "data.refresh": (
        "data.rows",
        "data.train_rows",
        "data.holdout_rows",
        "drift.score",
        "drift.columns",
        "drift.breaks",
        "drift.surprises",
    ),
    "training.retrain": ("training.cv_*",),
    "evaluation.compare": (*_measured_on_the_holdout(), *_measured_beside_the_champion(), "serving.single_row_ms"),
    "evaluation.predict": ("serving.batch_ms_per_row", "serving.single_row_ms"),
    "evaluation.measure": _measured_on_the_holdout(),
    "evaluation.audit": ("audit.findings",),
    "evaluation.stress": (
        "robustness.worst_loss",
        "robustness.worst_loss_upper",
        "robustness.changed",
        "serving.p95_ms",
        "serving.row_megabytes",
    ),
    "evaluation.fairness": (
        "fairness.columns",
        "fairness.clear_differences",
        "fairness.parity_difference",
        "fairness.odds_difference",
        "fairness.accuracy_difference",
        "fairness.error_difference",
    ),
    "risk.profile": ("risk.tier", "risk.score", "risk.veto"),
    "risk.compliance": ("compliance.ml_test_score",),
    "risk.data": ("risk.tier", "risk.score", "risk.veto"),
    "devsecops.canary": ("canary.requests", "canary.challenger_requests", "canary.breach"),
    "devsecops.monitor": (
        "monitoring.requests",
        "monitoring.failed",
        "monitoring.p95_ms",
        "monitoring.cpu_ms",
        "monitoring.moved",
        "monitoring.way_back_seconds",
    ),
    "devsecops.advisories": (
        "advisories.current",
        "advisories.age_days",
        "advisories.known",
        "advisories.unchecked",
    ),
    "devsecops.verify": ("release.verified",),
    "devsecops.deploy_dev": ("release.dev_failed",),
    "devsecops.deploy_staging": ("release.staging_failed", "release.staging_p95_ms", "release.way_back_seconds"),
    "devsecops.deploy_production": (
        "release.production_breach",
        "release.production_failed",
        "release.production_requests",
    ),
    "devsecops.package": ("package.bytes",),
    "devsecops.autoscale": (
        "autoscale.requests_per_second",
        "autoscale.least",
        "autoscale.most",
        "autoscale.carried",
        "autoscale.usd_per_month",
    ),
    "devsecops.infrastructure": ("infrastructure.nodes", "infrastructure.left_to_people"),
    "devsecops.change": ("tests.failed", "tests.passed", "tests.skipped", "tests.new", "tests.fixed", "tests.removed"),
    "evaluation.review": (
        "review.blocking",
        "review.attention",
        "review.unsafe",
        "review.failed",
        "review.passed",
        "review.new",
        "review.fixed",
        "review.removed",
        "review.acceptance_failed",
        "review.acceptance_passed",
        "review.files",
        "review.lines",
        "review.scan_error",
        "review.scan_warning",
        "review.scan_note",
        "review.scan_suppressed",
    ),
    "lead.estimate": ("estimate.sessions", "estimate.usd", "estimate.minutes", "estimate.days"),
    "lead.opportunity": ("opportunity.go", "opportunity.usd_per_year"),
    "risk.readiness": ("readiness.score", "readiness.data", "readiness.people", "readiness.rules"),
    "evaluation.impact": ("impact.skew", "impact.kept", "impact.usd_per_1000"),
    "evaluation.explain": ("explanation.additivity_error", "explanation.adds_up", "explanation.agreement"),
    "devsecops.onnx": ("onnx.written", "onnx.largest_difference"),
    "evaluation.decay": (
        "decay.windows",
        "decay.slope",
        "decay.slope_lower",
        "decay.slope_upper",
        "decay.shown",
        "decay.fallen",
        "decay.latest",
        "decay.latest_lower",
        "decay.latest_upper",
        "decay.moved",
        "decay.time_to_limit",
        "decay.time_to_limit_lower",
        "decay.time_to_limit_upper",
    ),
    "evaluation.analyse": ("analysis.error_groups", "analysis.more_rows_gain"),
}
"""By skill. All of them are numbers (doubles)."""
