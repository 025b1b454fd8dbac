"""Skill `devsecops.canary`: the challenger packaged, and let serve a growing share beside the model in use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, origin_note
from agents.skills.devsecops.bundle import build_package
from agents.skills.devsecops.delivery import SYNTHETIC, Delivery, read_delivery
from agents.skills.devsecops.distributions import needed_distributions
from agents.skills.devsecops.documents import deployment_config
from agents.skills.devsecops.modelcard import model_card
from agents.skills.devsecops.provenance import build_provenance
from agents.skills.devsecops.replay import Asked, requests_of
from agents.skills.devsecops.rollout import ALPHA, STAGES, Rollout, roll_out
from agents.skills.devsecops.sbom import build_sbom
from agents.skills.shapes import ROW_COLUMN, TARGET_COLUMN
from agents.skills.training.inuse import ModelInUse, open_in_use
from agents.skills.training.modelfile import digest
from schemas.values import Measurement, Mode, Role, TickedItem

MARGIN = 1.25
"""How much more often than was measured the challenger may be wrong before that counts: sampling, not harm."""


class DevsecopsCanary(Skill[Parameters, SkillOutput]):
    """Package the challenger, serve it beside the model in use by a splitter, and take it back at the first breach."""

    name = "devsecops.canary"
    role = Role.DEVSECOPS
    modes = frozenset({Mode.DELIVER})
    needs = (
        "model.skops", "scope.json", "data-source.json", "split.json", "feature-map.json", "metrics.json",
        "experiment-log.json", "data-contract.yaml", "evaluation-report.md", "data-profile.json", "model-in-use.json",
        "holdout-features.parquet", "holdout-labels.parquet",
    )  # fmt: skip
    produces = (
        "model-package.zip", "model-card.md", "sbom.cdx.json", "provenance.json", "deployment-config.yaml",
        "canary-report.json", "canary-report.md",
    )  # fmt: skip
    # Whether a prediction was wrong needs the sealed labels, as outcomes would come in later in production.
    harness = True
    seconds = 300.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write package, documents and the report. `canary.breach` is 1 when the challenger was taken back.

        Raises InputError when the model in use is not the one recorded, SkillError when a server does not start.
        """
        import pandas as pd

        in_use = ModelInUse.model_validate(context.read_json("model-in-use.json"))
        champion = open_in_use(context, in_use)
        delivery = read_delivery(context)
        needed = needed_distributions()
        card = model_card(delivery)
        package = build_package(delivery, needed, card)
        labels = pd.read_parquet(context.path("holdout-labels.parquet")).set_index(ROW_COLUMN)[TARGET_COLUMN]
        frame = pd.read_parquet(context.path("holdout-features.parquet"))
        compared = delivery.metrics["champion"]
        found = roll_out(
            champion.data,
            package,
            requests_of(frame, delivery.features, context.seed, labels),
            wrong_by(compared["wrong_above"]),
            wrong_limit(delivery.metrics),
            seed=context.seed,
            work=context.out.parent,
            single_ms=float(context.measured.get("serving", {}).get("single_row_ms", 0.0)),
            progress=context.progress,
        )
        (context.out / "model-package.zip").write_bytes(package)
        _write(context, delivery, package, found, in_use, card)
        return _output(found, digest(package), in_use, synthetic=delivery.source.synthetic)


def wrong_limit(metrics: Mapping[str, Any]) -> float:
    """The share of wrong answers that is borne: a little more than the model in use gives on the same rows.

    Of classes not more than the challenger itself was measured to give, either (the bad end of its interval): where the
    model in use has become useless, being as bad is no excuse.
    """
    shares = [float(metrics["champion"]["wrong_share"])]
    if "accuracy" in metrics["metrics"]:
        shares.append(1.0 - float(metrics["metrics"]["accuracy"]["lower"]))
    return min(0.95, max(0.02, MARGIN * min(shares)))


def wrong_by(above: float | None) -> Callable[[Asked, Any], bool]:
    """Whether a prediction was wrong: another class, or further off than nine tenths of the champion's predictions."""
    if above is None:
        return lambda asked, predicted: str(predicted) != str(asked.truth)
    return lambda asked, predicted: abs(float(predicted) - float(asked.truth)) > above


def _write(
    context: SkillContext, delivery: Delivery, package: bytes, found: Rollout, in_use: ModelInUse, card: str
) -> None:
    sha256 = digest(package)
    needed = needed_distributions()
    report = found.as_dict() | {"challenger": sha256, "champion": in_use.sha256, "alpha": ALPHA}
    context.write_json("canary-report.json", report)
    written = {
        "model-card.md": card,
        "sbom.cdx.json": build_sbom(delivery, needed, sha256),
        "deployment-config.yaml": deployment_config(delivery, sha256, len(package)) + _canary_config(found, in_use),
        "canary-report.md": _document(context, delivery, found, in_use, sha256),
    }
    written = {name: text.rstrip("\n") + "\n" for name, text in written.items()}
    documents = {name: digest(text.encode()) for name, text in written.items()}
    documents["evaluation-report.md"] = delivery.digests["evaluation-report.md"]
    environment = {each.name: each.version for each in needed}
    statement = build_provenance(delivery, sha256, documents, environment)
    statement["predicate"]["buildDefinition"]["resolvedDependencies"].append(
        {"name": "model in use", "uri": in_use.uri, "digest": {"sha256": in_use.sha256}}
    )
    statement["predicate"]["runDetails"]["builder"]["id"] = "urn:value-train:skill:devsecops.canary"
    written["provenance.json"] = json.dumps(statement, indent=2, sort_keys=True, allow_nan=False)
    for name, text in written.items():
        context.write_text(name, text)


def _canary_config(found: Rollout, in_use: ModelInUse) -> str:
    """The end of `deployment-config.yaml`: shares, limits, and the package to go back to."""
    import yaml

    config = {
        "canary": {
            "shares": list(STAGES),
            "requests_per_stage": max((stage["requests"] for stage in found.stages), default=0),
            "alpha": ALPHA,
            "slow_above_ms": round(found.slow_ms, 1),
            "take_back_when_more_than": {watch.name: round(watch.limit, 4) for watch in found.watches},
            "state": "taken back" if found.breach else "passed",
        },
        "way_back": {"name": in_use.name, "version": in_use.version, "package_sha256": in_use.sha256},
    }
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120)


def _output(found: Rollout, sha256: str, in_use: ModelInUse, *, synthetic: bool) -> SkillOutput:
    arms = len(found.of("challenger")), len(found.replies)
    limits = ", ".join(f"{watch.name} {watch.limit:.1%}" for watch in found.watches)
    back = f", back in {found.rollback_seconds:.3f} s" if found.rollback_seconds is not None else ""
    warnings = [SYNTHETIC] if synthetic else []
    if found.breach:
        warnings.append(f"the challenger was taken back: {found.breach}{back}")
    return SkillOutput(
        summary=(f"taken back: {found.breach}{back}" if found.breach else "passed at every share")
        + f"; {arms[0]} of {arms[1]} requests to the challenger",
        ticked=(
            TickedItem(item="packaged", evidence=f"model-package.zip {sha256}"),
            TickedItem(
                item="share-set",
                evidence=f"deployment-config.yaml: {', '.join(f'{share:.0%}' for share in STAGES)} of the requests",
            ),
            TickedItem(item="limits-set", evidence=f"deployment-config.yaml: at most {limits}"),
            TickedItem(
                item="provenance-stated", evidence=f"provenance.json: with the model in use {in_use.sha256[:12]}"
            ),
        ),
        measurements=(
            Measurement(scope="canary", name="requests", value=float(arms[1])),
            Measurement(scope="canary", name="challenger_requests", value=float(arms[0])),
            Measurement(scope="canary", name="breach", value=1.0 if found.breach else 0.0),
        ),
        warnings=tuple(warnings),
    )


def _document(context: SkillContext, delivery: Delivery, found: Rollout, in_use: ModelInUse, sha256: str) -> str:
    verdict = f"**Taken back: {found.breach}.**" if found.breach else "**Passed at every share.**"
    lines = [
        f"# Canary: {cell(context.ticket.title, 300)}",
        "",
        *origin_note(context.ticket),
        f"{verdict} {cell(delivery.name)} {delivery.version} (`{sha256[:16]}`) served beside "
        f"{cell(in_use.name)} {cell(in_use.version)} (`{in_use.sha256[:16]}`): two real servers on loopback, a "
        f"splitter before them, {len(found.replies)} hold-out rows replayed as requests, {found.seconds:.1f} s in all.",
        "",
        "| share | requests | to the challenger | breach |",
        "|---|---|---|---|",
        *(
            f"| {stage['share']:.0%} | {stage['requests']} | {stage['challenger']} | {stage['breach'] or 'none'} |"
            for stage in found.stages
        ),
        "",
        "| server | requests | failed | median ms | p95 ms | p99 ms |",
        "|---|---|---|---|---|---|",
    ]
    for arm, each in found.as_dict()["arms"].items():
        lines.append(
            f"| {arm} | {each['requests']} | {each['failed']} | {each['p50_ms']:.1f} | {each['p95_ms']:.1f} "
            f"| {each['p99_ms']:.1f} |"
        )
    lines += [
        "",
        "| signal | bad | of | at most | evidence | taken back at |",
        "|---|---|---|---|---|---|",
        *(
            f"| {watch.name} | {watch.bad} | {watch.seen} | {watch.limit:.1%} | {min(watch.evidence, 1e6):.3g} "
            f"| {1 / watch.alpha:.0f} |"
            for watch in found.watches
        ),
        "",
        f"`slow` is more than {found.slow_ms:.0f} ms; `wrong` is another class than happened, or an error larger than",
        "nine tenths of those of the model in use. The test is sequential: it is read after each request, and takes a",
        f"sound challenger back with a chance of at most {ALPHA:.0%} over the whole canary.",
        "",
    ]
    if found.rollback_seconds is not None:
        lines += [
            f"After the breach (request {found.breach_after}) the model in use answered again within "
            f"{found.rollback_seconds:.3f} s, and {found.after_rollback} further requests.",
            "",
        ]
    stopped = ", ".join(f"{each['arm']} (pid {each['pid']}, exit {each['exit']})" for each in found.servers)
    return "\n".join([*lines, f"Servers stopped at the end: {stopped}."])
