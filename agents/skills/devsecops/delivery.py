"""Everything a package and its documents are made from, read once and checked against each other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.skill import SkillContext, SkillError
from agents.skills.evaluation.text import number
from agents.skills.shapes import ExperimentLog, FeatureMap, ScopeSpec, SourceSpec, SplitSpec
from schemas.ticket import Ticket

SYNTHETIC = (
    "Synthetic data: the model was trained and measured on rows a program generated. "
    "It says nothing of the real world and must not be used for decisions."
)
_NAME = re.compile(r"\b([a-z][a-z0-9_]*)\.([a-z][a-z0-9_]*)\b")


@dataclass(frozen=True)
class Delivery:
    """The session's artifacts as values. `digests` maps each staged artifact to its SHA-256, taken from its bytes."""

    ticket: Ticket
    scope: ScopeSpec
    source: SourceSpec
    split: SplitSpec
    features: FeatureMap
    log: ExperimentLog
    metrics: Mapping[str, Any]
    risk: Mapping[str, Any]
    """The risk profile; empty in a pipeline without a risk review."""
    robustness: Mapping[str, Any]
    """What spoilt rows did to the figures; empty in a pipeline without `evaluation.stress`."""
    fairness: Mapping[str, Any]
    """The groups of people compared; empty in a pipeline without `evaluation.fairness`."""
    crossed: Mapping[str, Mapping[str, float]]
    """Metrics of cross-validation as the harness found them; empty in a pipeline without `evaluation.audit`."""
    acceptance: tuple[str, ...]
    measured: Mapping[str, Mapping[str, float]]
    digests: Mapping[str, str]
    recorded: Mapping[str, str]
    """Every artifact of the session as the event log has it, sealed ones included; empty without an event log."""
    approvals: tuple[str, ...]
    """The gates passed so far, one line each."""
    files: Mapping[str, Path]
    session: str
    pipeline: str
    now: str

    @property
    def name(self) -> str:
        """The model's name, stable over its versions: the ticket's words and number."""
        return f"{self.ticket.slug}-{self.ticket.id}"

    @property
    def version(self) -> str:
        """Follows from the model's bytes alone, so the same model is the same version whenever it is packaged."""
        return f"0.1.0+{self.digests['model.skops'][:12]}"

    @property
    def value(self) -> Mapping[str, float]:
        """The optimised metric on the hold-out rows, with interval."""
        found: Mapping[str, float] = self.metrics["metrics"][self.scope.metric]
        return found

    @property
    def floor(self) -> Mapping[str, float]:
        """The same metric of the baseline."""
        found: Mapping[str, float] = self.metrics["baseline"][self.scope.metric]
        return found

    def figures(self, criterion: str) -> str:
        """The measured values a criterion reads, in words."""
        known = {f"{scope}.{name}": value for scope, part in self.measured.items() for name, value in part.items()}
        for scope, part in (("metrics", self.metrics["metrics"]), ("baseline", self.metrics["baseline"])):
            for name, each in part.items():
                known[f"{scope}.{name}"] = each["value"]
                known |= {f"{scope}.{name}_{end}": each[end] for end in ("lower", "upper")}
        names = dict.fromkeys(match.group(0) for match in _NAME.finditer(criterion))
        return ", ".join(f"{name} = {number(known[name])}" for name in names if name in known) or "see metrics.json"


def read_delivery(context: SkillContext) -> Delivery:
    """The delivery from the staged artifacts.

    Raises SkillError when the model is not the one the experiment log names, or an artifact's bytes are not those the
    event log recorded: what was not evaluated is not packaged.
    """
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sorted(context.inputs.items())}
    recorded = dict(context.facts.get("artifacts") or {})
    log = ExperimentLog.model_validate(context.read_json("experiment-log.json"))
    if digests["model.skops"] != log.model_sha256:
        raise SkillError(
            f"model.skops is {digests['model.skops'][:12]} but the experiment log names {log.model_sha256[:12]}",
            "train and evaluate again; a model that was not evaluated is not packaged",
        )
    strange = sorted(name for name, digest in digests.items() if recorded.get(name, digest) != digest)
    if strange:
        raise SkillError(f"not the bytes the event log recorded: {', '.join(strange)}", "run the phases again")
    return Delivery(
        ticket=context.ticket,
        scope=ScopeSpec.model_validate(context.read_json("scope.json")),
        source=SourceSpec.model_validate(context.read_json("data-source.json")),
        split=SplitSpec.model_validate(context.read_json("split.json")),
        features=FeatureMap.model_validate(context.read_json("feature-map.json")),
        log=log,
        metrics=context.read_json("metrics.json"),
        risk=_if_there(context, "risk-profile.json"),
        robustness=_if_there(context, "robustness.json"),
        fairness=_if_there(context, "fairness.json"),
        crossed=_if_there(context, "claims-audit.json").get("crossed", {}),
        acceptance=context.acceptance,
        measured=context.measured,
        digests=digests,
        recorded=recorded,
        approvals=tuple(str(line) for line in context.facts.get("approvals") or ()),
        files=context.inputs,
        session=context.session,
        pipeline=str(context.facts.get("pipeline") or context.ticket.pipeline),
        now=context.now,
    )


def _if_there(context: SkillContext, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = context.read_json(name) if name in context.inputs else {}
    return found
