"""The train's own risks, scored from one session's record. The other three need the event stream: see `UNSCORED`."""

from __future__ import annotations

import re

from agents.skills.risk.record import Record
from agents.skills.risk.register import Risk

UNSCORED = {
    "checklist-regression": "a ticked item never becomes unticked: watched in the event stream",
    "orchestration-breakdown": "attempts, leases and redeliveries: watched in the event stream",
    "mode-misfire": "a skill outside its mode is refused and the refusal is an event",
}

_ADDRESSES_A_READER = re.compile(
    r"(ignore|disregard|forget)\b.{0,30}\b(previous|above|prior|earlier|instructions?)|system prompt"
    r"|you are (now )?an? (ai|assistant|agent)"
    r"|(approve|merge|skip)\b.{0,20}\b(automatically|without (review|asking|approval))",
    re.IGNORECASE | re.DOTALL,
)
_PERSONAL = re.compile(
    r"(^|[^a-z])(e-?mail|phone|mobile|ssn|social_?security|passport|iban|credit_?card|street|postcode|zip_?code|"
    r"birth_?(date|day)|date_?of_?birth|dob|surname|first_?name|last_?name|full_?name|ip_?address)([^a-z]|$)",
    re.IGNORECASE,
)


def system_risks(record: Record) -> list[Risk]:
    """Every risk of the system's twelve that one session's artifacts can show."""
    rules = (
        _scope_drift, _context_poisoning, _artifact_chaos, _disconnected_team, _invalid_inputs, _no_baseline,
        _resources, _silent_failure, _security,
    )  # fmt: skip
    return [rule(record) for rule in rules]


def _scope_drift(record: Record) -> Risk:
    agreed = len(record.acceptance)
    return Risk(
        id="scope-drift",
        title="Scope drift",
        kind="system",
        cause="work goes on without a criterion that says when it is done",
        effect="a model nobody asked for",
        signal="an acceptance criterion is changed or missing after the scope phase",
        mitigation="criteria are fixed in the scope phase and read by the gate",
        owner="lead",
        likelihood=1 if agreed else 4,
        impact=3,
        evidence=f"{agreed} acceptance criteria agreed",
    )


def _context_poisoning(record: Record) -> Risk:
    found = _ADDRESSES_A_READER.search(record.ticket.body)
    return Risk(
        id="context-poisoning",
        title="Context poisoning",
        kind="system",
        cause="text in a ticket addresses the agents instead of describing the work",
        effect="an agent does what no person with authority asked for",
        signal="instructions to an automated reader in free text",
        mitigation="free text carries no authority; gates count only verified people; a person reads the ticket",
        owner="lead",
        likelihood=3 if found else 1,
        impact=4,
        evidence="the ticket's text addresses an automated reader" if found else "the ticket's text describes work",
    )


def _artifact_chaos(record: Record) -> Risk:
    known, trained = record.artifacts.get("model.skops"), record.log.model_sha256
    mismatch = known is not None and known != trained
    evidence = "experiment-log.json and the event log name the same model" if known else "no event log to compare with"
    return Risk(
        id="artifact-chaos",
        title="Artifact chaos",
        kind="system",
        cause="an artifact is replaced after it was described",
        effect="what was evaluated is not what is delivered",
        signal="a digest in a document differs from the event log's",
        mitigation="artifacts are addressed by SHA-256; packaging refuses a model the experiment log does not name",
        owner="devsecops",
        likelihood=5 if mismatch else 1,
        impact=5,
        evidence="the model's digest is not the one the experiment log names" if mismatch else evidence,
        veto="the model is not the one that was trained and logged" if mismatch else "",
    )


def _disconnected_team(record: Record) -> Risk:
    asked = record.ticket.requester
    return Risk(
        id="disconnected-team",
        title="Disconnected team",
        kind="system",
        cause="nobody is named who wants the result",
        effect="the model is delivered and not used, or its limits are not known to those who use it",
        signal="a ticket without a requester; a gate nobody answers",
        mitigation="every outcome lands on the ticket; the model card names what only people can fill in",
        owner="lead",
        likelihood=1 if asked else 2,
        impact=2,
        evidence=f"requested by {asked}" if asked else "the ticket names no requester",
    )


def _invalid_inputs(record: Record) -> Risk:
    total = max(record.source.rows, 1)
    share = record.split.dropped_rows / total
    quality = float((record.quality or {}).get("score", 100.0))
    likelihood = 4 if share > 0.2 or quality < 50 else 2 if share > 0.05 or quality < 70 else 1
    evidence = f"{record.split.dropped_rows} of {total} rows left out"
    if record.quality is not None:
        evidence += f"; data-quality.json: {quality:g} of 100"
    return Risk(
        id="stale-or-invalid-inputs",
        title="Stale or invalid inputs",
        kind="system",
        cause="the source changed, is incomplete or of poor quality",
        effect="the model learns from rows that do not describe what it is for",
        signal="rows left out, a falling quality score, a digest that differs from the last extraction",
        mitigation="a data contract is checked at every extraction; origin and digest are in the provenance",
        owner="data",
        likelihood=likelihood,
        impact=3,
        evidence=evidence,
    )


def _no_baseline(record: Record) -> Risk:
    missing = record.gain is None
    return Risk(
        id="no-evaluation-baseline",
        title="No evaluation baseline",
        kind="system",
        cause="the model is judged on its own",
        effect="a score that any constant guess would reach looks like a success",
        signal="metrics without a baseline on the same rows",
        mitigation="the harness measures a constant baseline on the same rows and the gain with its interval",
        owner="evaluation",
        likelihood=5 if missing else 1,
        impact=5,
        evidence="no baseline was measured" if missing else "metrics.json: baseline measured on the same rows",
        veto="no baseline was measured on the hold-out rows" if missing else "",
    )


def _resources(record: Record) -> Risk:
    share = None if record.used_minutes is None else record.used_minutes / record.ticket.budget.minutes
    likelihood = 1 if share is None or share < 0.5 else 2 if share < 0.8 else 4
    used = "unknown" if share is None else f"{share:.0%}"
    return Risk(
        id="resource-blow-out",
        title="Resource blow-out",
        kind="system",
        cause="data or search grow beyond what the budget was made for",
        effect="the session ends at its limit without a result",
        signal="more than half of the ticket's minutes used before delivery",
        mitigation="trials are fixed in number, searches have a time limit, budgets are terminal",
        owner="training",
        likelihood=likelihood,
        impact=2,
        evidence=f"share of the ticket's minutes used so far: {used}",
    )


def _silent_failure(record: Record) -> Risk:
    never = _classes_never_called(record)
    return Risk(
        id="silent-failure",
        title="Silent failure",
        kind="system",
        cause="something that did not work looks like a result",
        effect="a useless model passes",
        signal="a class that is never predicted, a metric without an interval",
        mitigation="every metric has an interval; classes that are never called are named here",
        owner="evaluation",
        likelihood=2 if never else 1,
        impact=4,
        evidence=f"never predicted on the hold-out rows: {', '.join(never[:5])}"
        if never
        else "every class is predicted",
    )


def _classes_never_called(record: Record) -> list[str]:
    confusion, classes = record.metrics.get("confusion", []), record.metrics.get("classes", [])
    return [str(label) for index, label in enumerate(classes) if not any(line[index] for line in confusion)]


def _security(record: Record) -> Risk:
    personal = [name for name in record.source.columns if _PERSONAL.search(name)]
    return Risk(
        id="security-breach",
        title="Security breach",
        kind="system",
        cause="data that must not leave, or code that must not run, gets into an artifact",
        effect="people are harmed; the organisation is liable",
        signal="columns that look personal; a model file with foreign types",
        mitigation="models are stored without code and checked before loading; a person checks personal columns",
        owner="devsecops",
        likelihood=3 if personal else 1,
        impact=4,
        evidence=f"columns that look personal: {', '.join(personal[:5])}"
        if personal
        else "no column is named like a direct identifier of a person",
    )
