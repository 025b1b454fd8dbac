"""Which definitions of inputs the record's sessions used, and what each was worth there: from artifacts alone.

A definition is one line of a feature map: column, kind, how missing values and the rest are prepared. Its signature is
the same wherever the definition is, so what one ticket learnt of it is found from another.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from cli.reading import Record
from schemas.envelope import StreamId
from schemas.session import WorkReported
from schemas.values import ArtifactRef
from store.port import Store
from workspace.blobs import BlobError, Blobs

_READ = (
    "feature-map.json", "scope.json", "data-source.json", "leakage.json", "performance-analysis.json",
    "robustness.json", "impact-report.json",
)  # fmt: skip
"""Where a definition, its target, its source, its tests, its worth, its cost and its skew stand."""


@dataclass(frozen=True)
class Told:
    """What one session left: its row in the record, and the newest artifact of each name that this page is made of."""

    session: Mapping[str, Any]
    documents: Mapping[str, Any]


def told_by(record: Record, blobs: Blobs) -> tuple[list[Told], list[str]]:
    """Every session with a feature map, oldest first, and a sentence for each whose artifacts cannot be read."""
    found, missing = [], []
    for row in record.sessions():
        stream = StreamId(record.tenant, "session", row["session"])
        try:
            told, _ = documents_of(record.store, stream, row, blobs)
        except (BlobError, ValueError) as problem:
            missing.append(f"session {row['session']} is left out: {str(problem)[:200]}")
            continue
        found += [told] if told else []
    return found, missing


def documents_of(
    store: Store, stream: StreamId, row: Mapping[str, Any], blobs: Blobs
) -> tuple[Told | None, dict[str, str]]:
    """What the session of `row` left, and the digests of its documents by name; None without a feature map. Raises
    StoreError, BlobError for an artifact that is gone or not what its digest says, ValueError for one that is no
    JSON."""
    refs: dict[str, ArtifactRef] = {}
    for envelope in store.read(stream, 0, store.version(stream)):
        if isinstance(envelope.event, WorkReported):
            refs |= {ref.name: ref for ref in envelope.event.artifacts if ref.name in _READ and not ref.sealed}
    digests = {name: ref.sha256 for name, ref in refs.items()}
    if "feature-map.json" not in refs:
        return None, digests
    return Told(row, {name: json.loads(blobs.read(sha256)) for name, sha256 in digests.items()}), digests


def definitions(sessions: Iterable[Told]) -> tuple[list[dict[str, Any]], list[str]]:
    """One row a definition, those that most sessions used first, and a sentence for each session that cannot be used.

    A use has the session, its state, ticket, target and metric, and what was measured of the input there: `loss`, what
    the metric loses when its values are shuffled, with standard error and whether that is clear; `row_us` and
    `peak_bytes`. None where the session's pipeline does not measure it.
    """
    from agents.skills.feature.pipeline import signature
    from agents.skills.shapes import FeatureMap

    rows: dict[str, dict[str, Any]] = {}
    problems = []
    for told in sessions:
        try:
            features = FeatureMap.model_validate(told.documents["feature-map.json"])
            for column in features.columns:
                key = signature([column])
                row = rows.setdefault(key, {"definition": key, **column.model_dump(mode="json"), "uses": []})
                row["uses"].append(_use(told, column.name))
        except (ValidationError, KeyError, TypeError) as problem:
            text = f"{type(problem).__name__}: {str(problem)[:150]}"
            problems.append(f"session {told.session['session']} is left out: {text}")
    return sorted(rows.values(), key=lambda row: (-len(row["uses"]), row["name"], row["definition"])), problems


def _use(told: Told, name: str) -> dict[str, Any]:
    from agents.skills.shapes import ScopeSpec

    scope = told.documents.get("scope.json")
    spec = ScopeSpec.model_validate(scope) if scope else None
    worth = _of(told, "performance-analysis.json", "importance", "column", name)
    cost = _of(told, "robustness.json", "inputs", "name", name)
    return {
        "session": told.session["session"],
        "state": told.session["status"],
        "ticket": told.session["ticket"],
        "target": spec.target if spec else None,
        "metric": spec.metric if spec else None,
        "loss": worth.get("loss"),
        "se": worth.get("se"),
        "clear": worth.get("clear"),
        "row_us": cost.get("row_us"),
        "peak_bytes": cost.get("peak_bytes"),
    }


def _of(told: Told, document: str, part: str, key: str, name: str) -> Mapping[str, Any]:
    entries: list[Mapping[str, Any]] = told.documents.get(document, {}).get(part, [])
    return next((each for each in entries if each[key] == name), {})


def sentence(use: Mapping[str, Any]) -> str:
    """One use in words."""
    text = f"session {use['session']} ({use['state']}), ticket {use['ticket']}"
    if use["target"]:
        text += f", target {use['target']}"
    if use["loss"] is not None:
        clear = "clear" if use["clear"] else "not clear"
        text += f": without it {use['metric']} loses {use['loss']:.4g} ± {use['se']:.2g} ({clear})"
    if use["row_us"] is not None:
        text += f"; {use['row_us']:.3g} µs a row"
    return text
