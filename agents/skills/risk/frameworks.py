"""What the record says to three frameworks: EU AI Act Annex IV, NIST AI RMF 1.0, and the Federal Reserve's SR 26-2.

What no record can know is left to a person, by name of what is missing. Nothing here says that anything is fulfilled:
it says what was done, and where the proof is.
"""

from __future__ import annotations

from agents.skills.evaluation.text import like, measured
from agents.skills.risk.dossier import Dossier, Statement, named
from agents.skills.words import counted, metric_name, model_name, why_this_model

METRICS, SPLIT, LOG = ("metrics.json",), ("split.json",), ("experiment-log.json",)


def subject(dossier: Dossier) -> str:
    """The model in a sentence: what it predicts from what, and how well."""
    model = model_name(dossier.record.log.chosen.model, bool(dossier.scope.classes))
    return (
        f"a {dossier.scope.task.value} model, {model}, that predicts {named(dossier.scope.target)} from "
        f"{counted(len(dossier.features.columns), 'column')} of {named(dossier.record.source.uri)}: "
        f"{_figure(dossier)}; {_beside_baseline(dossier)}."
    )


def _figure(dossier: Dossier) -> str:
    record = dossier.record
    return (
        f"{metric_name(record.metric)} {measured(record.value)} (95 % interval) on "
        f"{counted(record.rows, 'hold-out row')}"
    )


def _beside_baseline(dossier: Dossier) -> str:
    gain = dossier.record.gain
    if gain is None:
        return "no baseline was measured on these rows"
    clear = "clearly better than" if gain["lower"] > 0 else "not clearly better than"
    return f"{clear} a baseline that ignores every column (gain on the same rows {measured(gain)})"


def _groups(dossier: Dossier) -> tuple[str, tuple[str, ...]]:
    columns = (dossier.fairness or {}).get("columns", [])
    if not columns:
        return "no groups of people were named in the ticket, so none were compared", ("fairness.json",)
    clear = [f"{each['column']} ({', '.join(each['clear'])})" for each in columns if each["clear"]]
    found = f"clear differences by {', '.join(clear)}" if clear else "no difference clearly more than chance"
    return f"groups compared by {', '.join(each['column'] for each in columns)}: {found}", ("fairness.json",)


def _spoilt(dossier: Dossier) -> str:
    if not dossier.robustness:
        return "robustness was not measured in this pipeline"
    worst = dossier.robustness["damages"][0]
    return (
        f"of the ways in which hold-out rows were spoilt, the worst is {worst['what']}; there "
        f"{metric_name(dossier.record.metric)} is {measured(worst['metric'])}, and {worst['changed']:.1%} of the "
        "answers change"
    )


def _split(dossier: Dossier) -> str:
    split = dossier.record.split
    return (
        f"{split.train_rows:,} rows to train, {split.holdout_rows:,} put away with their labels sealed from "
        "every agent "
        f"({split.strategy} split, since {named(split.reason)})"
    )


def _source(dossier: Dossier) -> str:
    source = dossier.record.source
    synthetic = "; the rows are synthetic" if source.synthetic else ""
    return f"{named(source.uri)}, {source.rows:,} rows, SHA-256 {source.sha256[:12]}…{synthetic}"


def _why(dossier: Dossier) -> str:
    chosen, classification = dossier.record.log.chosen.model, bool(dossier.scope.classes)
    reason = why_this_model(chosen, dossier.record.log.reason, classification)
    return f"{model_name(chosen, classification)} chosen: {named(reason, 600)}"


def _approved(dossier: Dossier) -> str:
    if dossier.people:
        return f"people decided {counted(len(dossier.people), 'gate')} so far: {named('; '.join(dossier.people), 500)}"
    return "no gate before this one needed a person; criteria and advice decide whether this one does"


def _limits(dossier: Dossier) -> str:
    """As `devsecops.package` sets them: warn outside the interval's bad end, roll back at the baseline."""
    value, up = dossier.record.value, dossier.scope.higher_is_better
    end, side, moves = (value["lower"], "below", "falls") if up else (value["upper"], "above", "rises")
    name = metric_name(dossier.record.metric)
    return f"warn when {name} is {side} {like(end, value)}, roll back when it {moves} to the baseline's"


def annex_iv(dossier: Dossier) -> list[Statement]:
    """The nine parts of Annex IV of Regulation (EU) 2024/1689."""
    record, log = dossier.record, dossier.record.log
    groups, proof = _groups(dossier)
    inputs = f"{counted(len(dossier.features.columns), 'column')}, signature {dossier.features.signature[:12]}"
    return [
        Statement(
            "1. General description",
            f"what it is: {named(record.ticket.title)}, by {dossier.scope.task.value} of {named(dossier.scope.target)} "
            f"from {inputs}, asked for by {named(record.ticket.requester or 'nobody named')}",
            ("scope.json", "feature-map.json"),
            "draft",
        ),
        Statement(
            "1. General description",
            "intended purpose, provider, persons and groups it is used on, forms in which it is put into service",
            (),
            "person",
        ),
        Statement(
            "2. Elements and development", f"data: {_source(dossier)}", ("data-source.json", "data-contract.yaml")
        ),
        Statement("2. Elements and development", f"rows: {_split(dossier)}", SPLIT),
        Statement(
            "2. Elements and development",
            f"method: {counted(len(log.trials), 'configuration')} tried by cross-validation with seed {log.seed}; "
            f"{_why(dossier)}",
            LOG,
        ),
        Statement("2. Elements and development", f"validation: {_figure(dossier)}", METRICS),
        Statement(
            "2. Elements and development",
            f"leakage: {counted(len(record.suspects), 'suspect')} (a column that knows the answer, or a row on both "
            "sides of the split)",
            ("leakage.json",),
        ),
        Statement("3. Monitoring, functioning, control", f"accuracy for groups: {groups}", proof),
        Statement(
            "3. Monitoring, functioning, control",
            f"foreseeable damage of inputs: {_spoilt(dossier)}",
            ("robustness.json",),
        ),
        Statement(
            "3. Monitoring, functioning, control",
            "inputs must keep the contract; categories never seen and missing values are answered as the report says",
            ("data-contract.yaml", "robustness.json"),
        ),
        Statement("3. Monitoring, functioning, control", f"human oversight in the making: {_approved(dossier)}"),
        Statement(
            "3. Monitoring, functioning, control",
            "human oversight in use: who reads the answers, and who may overrule them",
            (),
            "person",
        ),
        Statement(
            "4. Performance metrics",
            f"{metric_name(record.metric)} was chosen in the scope phase, and held against the criteria "
            f"{named('; '.join(record.acceptance) or 'none')}",
            ("scope.json", "metrics.json"),
        ),
        Statement(
            "5. Risk management",
            f"rating: tier {dossier.risk['tier_name']}, {counted(len(dossier.risk['risks']), 'risk')} scored with "
            f"cause, first sign and mitigation; advice to the gate: {dossier.risk['advice']}",
            ("risk-profile.json",),
            "draft",
        ),
        Statement(
            "6. Changes over the lifecycle",
            f"every decision of session {dossier.session} is an event in a hash-chained record; a change of "
            "data, code or model is a new session with new digests",
            LOG,
        ),
        Statement("7. Standards applied", "harmonised standards and other specifications applied", (), "person"),
        Statement("8. Declaration of conformity", "the EU declaration of conformity", (), "person"),
        Statement(
            "9. Monitoring after delivery",
            f"limits that come with the package (`deployment-config.yaml`): {_limits(dossier)}",
            METRICS,
            "draft",
        ),
    ]


def nist_rmf(dossier: Dossier) -> list[Statement]:
    """The four functions of NIST AI 100-1."""
    record = dossier.record
    groups, proof = _groups(dossier)
    return [
        Statement(
            "Govern", f"who may decide is in a policy that the session carries with its version; {_approved(dossier)}"
        ),
        Statement("Govern", "roles, training and accountability in the organisation", (), "person"),
        Statement(
            "Map",
            f"context: {named(record.ticket.title)}, requested by "
            f"{named(record.ticket.requester or 'nobody named')}; risk set by its author: "
            f"{record.ticket.risk.value}",
            ("scope.json",),
        ),
        Statement("Map", "who is affected by a wrong prediction, and how", (), "person"),
        Statement("Measure", f"performance: {_figure(dossier)}; {_beside_baseline(dossier)}", METRICS),
        Statement("Measure", f"robustness: {_spoilt(dossier)}", ("robustness.json",)),
        Statement("Measure", f"fairness: {groups}", proof),
        Statement(
            "Measure",
            f"data quality and leakage: {counted(len(record.suspects), 'suspect')}",
            ("leakage.json", "data-quality.json"),
        ),
        Statement(
            "Manage",
            f"advice {dossier.risk['advice']}, tier {dossier.risk['tier_name']}; a session that does not meet "
            "its criteria is blocked",
            ("risk-profile.json",),
        ),
        Statement(
            "Manage",
            "the way back: `valuetrain session rollback` takes back the branch and, where the session made one, the "
            "version in the model registry; the record keeps both",
        ),
    ]


def sr_26_2(dossier: Dossier) -> list[Statement]:
    """Supervisory guidance on model risk management, for the trained model."""
    record, log = dossier.record, dossier.record.log
    return [
        Statement(
            "Development",
            f"purpose and design: {named(record.ticket.title)}; {counted(len(log.trials), 'configuration')} tried, "
            f"{_why(dossier)}",
            ("scope.json", "experiment-log.json"),
        ),
        Statement(
            "Development",
            f"data: {_source(dossier)}; quality and contract checked",
            ("data-source.json", "data-quality.json", "data-contract.yaml"),
        ),
        Statement("Development", f"testing: {_spoilt(dossier)}", ("robustness.json",)),
        Statement(
            "Validation",
            f"independent of development: measured by the harness on labels no agent could see; {_figure(dossier)}",
            METRICS,
        ),
        Statement(
            "Validation",
            f"outcomes analysis: {counted(record.metrics['slices']['judged'], 'slice')} judged, calibration and errors "
            "in the evaluation report",
            METRICS,
        ),
        Statement("Validation", "conceptual soundness: whether the method suits the use", (), "person"),
        Statement(
            "Validation",
            f"ongoing monitoring: nothing watches a served model before it is delivered; the package says to "
            f"{_limits(dossier)}; pipelines `retrain` and `ml-engagement` compare a model in use with newer rows",
            (),
            "draft",
        ),
        Statement(
            "Governance", f"materiality: tier {dossier.risk['tier_name']}; {_approved(dossier)}", ("risk-profile.json",)
        ),
        Statement(
            "Governance",
            "place in the model inventory, owner, next review, effective challenge by people not involved",
            (),
            "person",
        ),
    ]
