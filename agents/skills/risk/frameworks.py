"""What the record says to three frameworks: EU AI Act Annex IV, NIST AI RMF 1.0, and the Federal Reserve's SR 26-2.

What no record can know is left to a person, by name of what is missing. Nothing here says that anything is fulfilled:
it says what was done, and where the proof is.
"""

from __future__ import annotations

from agents.skills.evaluation.text import number
from agents.skills.risk.dossier import Dossier, Statement, named

METRICS, SPLIT, LOG = ("metrics.json",), ("split.json",), ("experiment-log.json",)


def _figure(dossier: Dossier) -> str:
    value = dossier.record.value
    return (
        f"{dossier.record.metric} {number(value['value'])} [{number(value['lower'])}, {number(value['upper'])}] "
        f"(95 % interval) on {dossier.record.rows:,} hold-out rows"
    )


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
        f"worst on hold-out rows spoilt so: {worst['what']}; there {dossier.record.metric} is "
        f"{number(worst['metric']['value'])}, and {worst['changed']:.1%} of the answers change"
    )


def _split(dossier: Dossier) -> str:
    split = dossier.record.split
    return (
        f"{split.train_rows:,} rows to train, {split.holdout_rows:,} put away with their labels sealed from "
        "every agent "
        f"({split.strategy} split: {named(split.reason)})"
    )


def _source(dossier: Dossier) -> str:
    source = dossier.record.source
    synthetic = "; the rows are synthetic" if source.synthetic else ""
    return f"{named(source.uri)}, {source.rows:,} rows, SHA-256 {source.sha256[:12]}…{synthetic}"


def _why(dossier: Dossier) -> str:
    chosen = dossier.record.log.chosen.model
    return f"{chosen} chosen: {named(dossier.record.log.reason.removeprefix(f'{chosen} chosen: '), 400)}"


def _approved(dossier: Dossier) -> str:
    if dossier.people:
        return f"people decided {len(dossier.people)} gate(s) so far: {named('; '.join(dossier.people), 500)}"
    return "no gate before this one needed a person; criteria and advice decide whether this one does"


def annex_iv(dossier: Dossier) -> list[Statement]:
    """The nine parts of Annex IV of Regulation (EU) 2024/1689."""
    record, log = dossier.record, dossier.record.log
    groups, proof = _groups(dossier)
    inputs = f"{len(dossier.features.columns)} columns, signature {dossier.features.signature[:12]}"
    return [
        Statement(
            "1. General description",
            f"{named(record.ticket.title)}: {dossier.scope.task.value} of {named(dossier.scope.target)} from "
            f"{inputs}, asked for by {named(record.ticket.requester or 'nobody named')}",
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
            f"method: {len(log.trials)} configurations tried by cross-validation with seed {log.seed}; {_why(dossier)}",
            LOG,
        ),
        Statement("2. Elements and development", f"validation: {_figure(dossier)}", METRICS),
        Statement(
            "2. Elements and development", f"leakage: {len(record.suspects)} columns suspected", ("leakage.json",)
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
            f"{record.metric} was chosen in the scope phase, and held against the criteria "
            f"{named('; '.join(record.acceptance) or 'none')}",
            ("scope.json", "metrics.json"),
        ),
        Statement(
            "5. Risk management",
            f"tier {dossier.risk['tier_name']}, {len(dossier.risk['risks'])} risks scored with cause, first "
            f"sign and mitigation; advice to the gate: {dossier.risk['advice']}",
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
            f"limits come with the package (`deployment-config.yaml`): roll back when {record.metric} falls to "
            f"the baseline's, warn below {number(record.value['lower'])}",
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
        Statement("Measure", f"{_figure(dossier)}; baseline on the same rows, paired gain with its interval", METRICS),
        Statement("Measure", f"robustness: {_spoilt(dossier)}", ("robustness.json",)),
        Statement("Measure", f"fairness: {groups}", proof),
        Statement(
            "Measure",
            f"data quality and leakage: {len(record.suspects)} suspects",
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
            "the way back: the branch, the package and the registry's alias are taken back by `valuetrain "
            "session rollback`, which the record keeps",
        ),
    ]


def sr_26_2(dossier: Dossier) -> list[Statement]:
    """Supervisory guidance on model risk management, for the trained model."""
    record, log = dossier.record, dossier.record.log
    return [
        Statement(
            "Development",
            f"purpose and design: {named(record.ticket.title)}; {len(log.trials)} configurations, {_why(dossier)}",
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
            f"outcomes analysis: {record.metrics['slices']['judged']} slices judged, calibration and errors in "
            "the evaluation report",
            METRICS,
        ),
        Statement("Validation", "conceptual soundness: whether the method suits the use", (), "person"),
        Statement(
            "Validation",
            "ongoing monitoring: limits are in the deployment configuration; pipelines `retrain` and "
            "`ml-engagement` watch a served model",
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
