"""Skill `evaluation.audit`: what the session claims, held against what comes out when the harness does it again."""

from __future__ import annotations

import hashlib

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, heading, origin_note, table
from agents.skills.evaluation.claims import (
    Check,
    Claims,
    as_json,
    check_division,
    check_tables,
    check_training,
    sentences,
)
from agents.skills.shapes import ExperimentLog, ExperimentPlan, FeatureMap, ScopeSpec, SplitSpec
from agents.skills.words import counted
from schemas.ticket import Ticket
from schemas.values import Measurement, Mode, Role, TickedItem


class EvaluationAudit(Skill[Parameters, SkillOutput]):
    """Compare tables with the sealed dataset, count twins again, make score and model again from the training rows."""

    name = "evaluation.audit"
    role = Role.EVALUATION
    modes = frozenset({Mode.EVALUATE})
    needs = (
        "dataset.parquet", "train.parquet", "holdout-features.parquet", "holdout-labels.parquet", "split.json",
        "scope.json", "feature-map.json", "experiment-plan.json", "experiment-log.json", "model.skops",
    )  # fmt: skip
    produces = ("claims-audit.json", "claims-audit.md")
    beside = True
    harness = True
    seconds = 600.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the audit. `audit.findings` is how many claims did not hold.

        Raises SkillError when the log names a kind of model or settings that are not trained here.
        """
        import pandas as pd

        from agents.skills.training.rows import read_rows

        names = ("dataset.parquet", "train.parquet", "holdout-features.parquet", "holdout-labels.parquet")
        dataset, train, holdout, labels = (pd.read_parquet(context.path(name)) for name in names)
        claims = Claims(
            log=ExperimentLog.model_validate(context.read_json("experiment-log.json")),
            plan=ExperimentPlan.model_validate(context.read_json("experiment-plan.json")),
            features=FeatureMap.model_validate(context.read_json("feature-map.json")),
            scope=ScopeSpec.model_validate(context.read_json("scope.json")),
            split=SplitSpec.model_validate(context.read_json("split.json")),
            model_sha256=hashlib.sha256(context.path("model.skops").read_bytes()).hexdigest(),
        )
        context.progress(f"comparing {len(train) + len(holdout):,} rows with the dataset")
        tables = check_tables(dataset, train, holdout, labels)
        division = check_division(train, holdout, claims.split, context.ticket)
        rows = read_rows(context.path("train.parquet"), claims.features, claims.scope)
        again, crossed = check_training(claims, rows, context.seconds, context.progress)
        checks = (tables, division, *again)
        found = sentences(checks)
        context.write_json("claims-audit.json", as_json(checks, crossed))
        context.write_text("claims-audit.md", _document(checks, context.ticket))
        return SkillOutput(
            summary=f"{len(checks)} checks, {len(found)} claims that do not hold",
            ticked=(
                TickedItem(
                    item="claims-checked", evidence=f"claims-audit.json: {len(checks)} checks, {len(found)} findings"
                ),
            ),
            measurements=(Measurement(scope="audit", name="findings", value=float(len(found))),),
            warnings=tuple(found[:20]),
        )


def _document(checks: tuple[Check, ...], ticket: Ticket) -> str:
    found = sentences(checks)
    says = (
        "Every claim was made again and holds."
        if not found
        else f"**{counted(len(found), 'claim')} {'does' if len(found) == 1 else 'do'} not hold.**"
    )
    lines = [heading("Audit of the claims", ticket), "", *origin_note(ticket), says, ""]
    rows = [(each.name, each.looked_at, "; ".join(each.problems) or "holds") for each in checks]
    lines += table(("check", "looked at", "found"), [(name, cell(at), cell(what, 300)) for name, at, what in rows])
    lines += [
        "",
        "Tables are compared with the sealed dataset cell by cell. Score and model are made again by the harness, from",
        "the training rows, the chosen settings and the seed: the same work must give the same number and bytes.",
    ]
    return "\n".join(lines)
