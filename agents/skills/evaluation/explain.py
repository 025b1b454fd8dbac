"""Skill `evaluation.explain`: what each column adds to the model's answers, by Shapley values (extra `explain`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.evaluation.attribution import TOLERANCE, Attribution
from agents.skills.evaluation.text import number
from agents.skills.shapes import GROUP_COLUMN, ROW_COLUMN, TARGET_COLUMN, FeatureMap, ScopeSpec
from schemas.values import Measurement, Mode, Role

SHOWN = 5
"""Contributions of a single row that are told."""


@dataclass(frozen=True)
class Explained:
    """The values, the inputs in order of strength, how other measures rank them, and single rows."""

    found: Attribution
    order: tuple[int, ...]
    shuffled: tuple[float, ...]
    agrees: dict[str, float | None]
    rows: tuple[dict[str, Any], ...]
    personal: tuple[str, ...]
    output: int
    """Which output is drawn and told for single rows: with several classes, the one the model says most often."""

    @property
    def label(self) -> str:
        """What that output is called."""
        return self.found.labels[self.output]


class EvaluationExplain(Skill[Parameters, SkillOutput]):
    """Explain the delivered model by Shapley values in its input columns, on training rows (needs the extra `explain`).

    The hold-out stays unseen. The values of a row and the base are checked to add up to what the model says of it.
    """

    name = "evaluation.explain"
    role = Role.EVALUATION
    modes = frozenset({Mode.EVALUATE, Mode.IMPROVE})
    needs = ("model.skops", "train.parquet", "feature-map.json", "scope.json")
    optional = ("performance-analysis.json",)
    produces = ("explanation.json", "explanation.md", "explanation.svg")
    seconds = 600.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write values, document and picture. Raises InputError without the extra, SkillError for a model file that is
        not one of ours."""
        from threadpoolctl import threadpool_limits

        from agents.skills.evaluation.explain_report import document, draw

        with threadpool_limits(limits=1):
            told, scope = _explain(context)
        context.write_json("explanation.json", _json(told))
        draw(context.out / "explanation.svg", told, _values(context, told))
        context.write_text("explanation.md", document(context.ticket, scope, told))
        return _output(told)


def _explain(context: SkillContext) -> tuple[Explained, ScopeSpec]:
    import numpy as np
    import pandas as pd

    from agents.skills.data.personal import scan
    from agents.skills.evaluation.attribution import agreement, attribute, shuffled
    from agents.skills.extras import needed
    from agents.skills.feature.transform import prepare_frame
    from agents.skills.training.modelfile import load_model

    needed("shap", "explain", "SHAP")  # before any work
    scope = ScopeSpec.model_validate(context.read_json("scope.json"))
    features = FeatureMap.model_validate(context.read_json("feature-map.json"))
    raw = pd.read_parquet(context.path("train.parquet"))
    pipeline = load_model(context.path("model.skops"))
    frame = prepare_frame(raw, features)
    seed = context.seed % 2**31
    context.progress(f"explaining the model on some of {len(raw)} training rows")
    found = attribute(pipeline, frame, features, scope.target, seed)
    moved = shuffled(pipeline, frame, found, features, seed)
    strength = found.strength
    agrees = {"output moved by shuffling the column": agreement(strength.tolist(), moved.tolist())}
    if "performance-analysis.json" in context.inputs:
        lost = {each["column"]: each["loss"] for each in context.read_json("performance-analysis.json")["importance"]}
        both = [place for place, name in enumerate(found.inputs) if name in lost]
        ranks = [max(0.0, float(lost[found.inputs[place]])) for place in both]
        agrees["metric lost by shuffling the column (`performance-analysis.json`)"] = agreement(
            strength[both].tolist(), ranks
        )
    used = raw[list(found.inputs)]
    output = int(found.output.mean(axis=0).argmax())
    personal = tuple(sorted(scan(raw.drop(columns=[ROW_COLUMN, GROUP_COLUMN, TARGET_COLUMN], errors="ignore"))))
    order = tuple(int(place) for place in np.argsort(-strength, kind="stable"))
    rows = _rows(found, used, raw[ROW_COLUMN].to_numpy(), set(personal), output)
    return Explained(found, order, tuple(moved.tolist()), agrees, rows, personal, output), scope


def _rows(found: Attribution, frame: Any, numbers: Any, personal: set[str], output: int) -> tuple[dict[str, Any], ...]:
    """The rows with the lowest, the median and the highest answer; the values of columns about people are not told."""
    import numpy as np

    ranked = np.argsort(found.output[:, output], kind="stable")
    told = []
    for what, place in (("lowest", ranked[0]), ("median", ranked[len(ranked) // 2]), ("highest", ranked[-1])):
        values = found.values[place, :, output]
        first = np.argsort(-np.abs(values), kind="stable")[:SHOWN]
        told.append(
            {
                "which": what,
                "row": int(numbers[found.at[place]]),
                "output": float(found.output[place, output]),
                "base": float(found.base[output]),
                "others": float(values.sum() - values[first].sum()),
                "parts": [
                    {
                        "column": found.inputs[at],
                        "adds": float(values[at]),
                        "value": (
                            None
                            if found.inputs[at] in personal
                            else str(frame[found.inputs[at]].iloc[int(found.at[place])])[:40]
                        ),
                    }
                    for at in first
                ],
            }
        )
    return tuple(told)


def _values(context: SkillContext, told: Explained) -> dict[str, Any]:
    """For the picture: where each explained row's value stands among the others (0 to 1), by column; columns of text
    and those that tell of people have none."""
    import pandas as pd

    from agents.skills.feature.transform import prepare_frame

    features = FeatureMap.model_validate(context.read_json("feature-map.json"))
    frame = prepare_frame(pd.read_parquet(context.path("train.parquet")), features).iloc[told.found.at]
    return {
        column.name: frame[column.name].rank(pct=True).to_numpy()
        for column in features.columns
        if column.kind in ("numeric", "boolean") and column.name not in told.personal
    }


def _json(told: Explained) -> dict[str, Any]:
    found = told.found
    strength = found.strength
    return {
        "method": found.method,
        "unit": found.unit,
        "outputs": list(found.labels),
        "shown_output": told.label,
        "rows": len(found.at),
        "base": [float(each) for each in found.base],
        "additivity": {"error": found.error, "range": found.span, "tolerance": TOLERANCE, "adds_up": found.adds_up},
        "inputs": [
            {
                "column": found.inputs[place],
                "mean_size": float(strength[place]),
                "mean_size_by_output": [float(each) for each in abs(found.values[:, place, :]).mean(axis=0)],
                "shuffled": told.shuffled[place],
            }
            for place in told.order
        ],
        "agreement": told.agrees,
        "single_rows": list(told.rows),
        "left_out_values": list(told.personal),
    }


def _output(told: Explained) -> SkillOutput:
    found = told.found
    first = found.inputs[told.order[0]]
    warnings = []
    if not found.adds_up:
        warnings.append(
            f"the explanation does not add up: base and values miss the model's output by up to {number(found.error)} "
            f"{found.unit}"
        )
    rho = next(iter(told.agrees.values()))
    if rho is not None and rho < 0.5:
        warnings.append(f"the explanation ranks the columns otherwise than shuffling them does (Spearman {rho:.2f})")
    measured = [
        Measurement(scope="explanation", name="additivity_error", value=found.error),
        Measurement(scope="explanation", name="adds_up", value=float(found.adds_up)),
    ]
    if rho is not None:
        measured.append(Measurement(scope="explanation", name="agreement", value=rho))
    ranked = "" if rho is None else f"; ranks as shuffling does: {rho:.2f}"
    return SkillOutput(
        summary=f"{len(found.at)} training rows explained by {found.method}; strongest: {first} "
        f"({number(found.strength[told.order[0]])} {found.unit} on average); off by at most {found.error:.1e}{ranked}",
        measurements=tuple(measured),
        warnings=tuple(warnings),
    )
