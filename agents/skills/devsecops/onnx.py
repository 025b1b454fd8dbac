"""Skill `devsecops.onnx`: the delivered model as an ONNX file, if it is proved to answer as the model does."""

from __future__ import annotations

from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, origin_note, table
from agents.skills.devsecops.onnx_graph import ML_OPSET, OPSET, Unwritable
from agents.skills.devsecops.onnx_proof import TOLERANCE, Compared
from agents.skills.shapes import FeatureMap, ScopeSpec
from schemas.values import Measurement, Mode, Role

FILE, REPORT = "model.onnx", "onnx-report.json"


class DevsecopsOnnx(Skill[Parameters, SkillOutput]):
    """Write the model as ONNX and prove it equal on all hold-out rows and on edge rows (needs the extra `onnx`).

    Without that proof there is no file, and the report says which step or which rows stand in the way.
    """

    name = "devsecops.onnx"
    role = Role.DEVSECOPS
    modes = frozenset({Mode.DELIVER})
    needs = ("model.skops", "feature-map.json", "scope.json", "holdout-features.parquet")
    produces = (REPORT, "onnx-report.md")
    perhaps = (FILE,)
    seconds = 300.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write `model.onnx`, or why not. Raises InputError without the extra, SkillError for a model file that is not
        one of ours."""
        from threadpoolctl import threadpool_limits

        from agents.skills.extras import needed

        for module in ("onnx", "onnxruntime"):
            needed(module, "onnx", "ONNX")  # before any work
        with threadpool_limits(limits=1):
            report, data = _made(context)
        if data is not None:
            (context.out / FILE).write_bytes(data)
        context.write_json(REPORT, report)
        context.write_text("onnx-report.md", _document(context, report))
        return _output(report)


def _made(context: SkillContext) -> tuple[dict[str, Any], bytes | None]:
    from importlib.metadata import version

    import pandas as pd

    from agents.skills.devsecops.onnx_graph import MISSING, write_onnx
    from agents.skills.devsecops.onnx_proof import prove, text_columns
    from agents.skills.feature.transform import prepare_frame
    from agents.skills.training.modelfile import digest, load_model

    scope = ScopeSpec.model_validate(context.read_json("scope.json"))
    features = FeatureMap.model_validate(context.read_json("feature-map.json"))
    rows = pd.read_parquet(context.path("holdout-features.parquet"))
    pipeline = load_model(context.path("model.skops"))
    model = digest(context.path("model.skops").read_bytes())
    columns = text_columns(prepare_frame(rows.iloc[:1], features))
    report: dict[str, Any] = {
        "written": False,
        "model_sha256": model,
        "tolerance": TOLERANCE,
        "runtime": f"onnxruntime {version('onnxruntime')}",
        "opset": {"": OPSET, "ai.onnx.ml": ML_OPSET},
    }
    told = {
        "classes": "\n".join(scope.classes),
        "feature_signature": features.signature,
        "missing_text": MISSING,
        "model_sha256": model,
        "target": scope.target,
    }
    context.progress(f"writing the model as ONNX and comparing it on {len(rows)} hold-out rows and edge rows")
    try:
        data = write_onnx(pipeline, columns, scope.classes, told)
    except Unwritable as problem:
        return report | {"step": problem.step, "why": problem.why}, None
    try:
        compared = prove(data, pipeline, rows, features, scope.classes, context.seed)
    except Exception as problem:  # the runtime refuses a file in many ways, and each means that there is none
        why = f"the runtime does not run it: {type(problem).__name__}: {str(problem)[:300]}"
        return report | {"step": "runtime", "why": why}, None
    report |= {"compared": [each.as_dict() for each in compared]}
    if worse := [each for each in compared if each.off]:
        return report | {"step": "proof", "why": _difference(worse[0])}, None
    inputs = [{"name": name, "type": "text" if text else "float64", "shape": ["rows", 1]} for name, text in columns]
    output = {"name": "probabilities", "classes": list(scope.classes)} if scope.classes else {"name": "prediction"}
    return report | {
        "written": True,
        "sha256": digest(data),
        "bytes": len(data),
        "inputs": inputs,
        "missing_text": MISSING,
        "output": output | {"type": "float64"},
        "largest_difference": max(each.largest for each in compared),
    }, data


def _difference(worst: Compared) -> str:
    return (
        f"of {worst.rows} {worst.name}, {worst.off} get another answer (by up to {worst.largest:.2e}, "
        f"{TOLERANCE:g} allowed)"
    )


def _document(context: SkillContext, report: dict[str, Any]) -> str:
    lines = [f"# ONNX: {cell(context.ticket.title, 300)}", "", *origin_note(context.ticket)]
    if report["written"]:
        output = report["output"]
        lines += [
            f"`{FILE}` ({report['bytes']:,} bytes, SHA-256 `{report['sha256']}`) answers as `model.skops` does: the "
            f"largest difference is {report['largest_difference']:.1e}, {TOLERANCE:g} is allowed "
            f"({report['runtime']}).",
            "",
            "It reads the columns as the package prepares them (`feature-map.json`): one input for each, of shape "
            f"(rows, 1), numbers as float64 with NaN and text with `{report['missing_text']}` where there is no value; "
            "a date is its parts. Its output is "
            + (
                "the probability of each class, in the order of `scope.json`."
                if output["name"] == "probabilities"
                else "the number."
            ),
            "",
        ]
    else:
        lines += [f"**There is no ONNX file.** Step {cell(report['step'])}: {cell(report['why'], 500)}.", ""]
    if "compared" in report:
        lines += [
            *table(
                ("rows", "how many", "largest difference", "other answers"),
                [
                    (
                        each["name"], each["rows"],
                        "no number" if each["largest_difference"] is None else f"{each['largest_difference']:.1e}",
                        each["off"],
                    )
                    for each in report["compared"]
                ],
            ),
            "",
            "Differences are relative to the number where it is larger than one.",
        ]  # fmt: skip
    return "\n".join(lines)


def _written(value: float) -> Measurement:
    return Measurement(scope="onnx", name="written", value=value)


def _output(report: dict[str, Any]) -> SkillOutput:
    if not report["written"]:
        why = f"no ONNX file: {report['step']}: {report['why']}"
        return SkillOutput(summary=why, warnings=(why,), measurements=(_written(0.0),))
    rows = sum(each["rows"] for each in report["compared"])
    return SkillOutput(
        summary=f"{FILE}: {report['bytes']:,} bytes, SHA-256 {report['sha256'][:12]}; equal to {report['tolerance']:g} "
        f"on {rows} rows (largest difference {report['largest_difference']:.1e})",
        measurements=(
            _written(1.0),
            Measurement(scope="onnx", name="largest_difference", value=report["largest_difference"]),
        ),
    )
