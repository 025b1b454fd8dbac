"""`features.json`: what the record knows of inputs, kept beside the home for the Feature agent.

A copy that can be made again at any time, from artifacts that the record names and whose digests fit: nothing a ticket
or a plugin says gets into it. A skill that reads it names its digest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cli.features import Told, documents_of
from schemas.envelope import StreamId
from schemas.features import FeatureRegistry, FeatureUse
from schemas.history import Ending
from store.port import Store
from workspace.blobs import BlobError, Blobs

MOST = 500
"""The newest sessions that are kept."""
_ENDINGS: Mapping[str, Ending] = {
    "completed": "completed", "blocked": "blocked", "aborted": "aborted", "rolled_back": "rolled_back"
}  # fmt: skip


class FeatureFile:
    """Keeps `path` up to date; a session is read again only when it has new events."""

    def __init__(self, store: Store, tenant: str, blobs: Blobs, path: Path) -> None:
        self._store, self._tenant, self._blobs, self._path = store, tenant, blobs, path
        self._known: dict[str, tuple[int, tuple[FeatureUse, ...], str]] = {}

    def write(self) -> None:
        """Write the file anew, whole or not at all. Raises StoreError, OSError."""
        draft = self._path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(self.registry().model_dump_json(), "utf-8")
        draft.replace(self._path)

    def registry(self) -> FeatureRegistry:
        """The uses of inputs in the newest sessions. Raises StoreError."""
        uses: list[FeatureUse] = []
        problems = []
        for row in self._store.views(self._tenant, "session")[-MOST:]:
            name, version = str(row["session"]), int(row["version"])
            if self._known.get(name, (-1,))[0] != version:
                self._known[name] = (version, *self._read(row))
            _, found, problem = self._known[name]
            uses += found
            problems += [problem] if problem else []
        return FeatureRegistry(made=datetime.now(UTC), uses=tuple(uses), left_out=tuple(problems))

    def _read(self, row: Mapping[str, Any]) -> tuple[tuple[FeatureUse, ...], str]:
        stream = StreamId(self._tenant, "session", str(row["session"]))
        try:
            told, digests = documents_of(self._store, stream, row, self._blobs)
            return (tuple(uses_of(told, digests["feature-map.json"])) if told else ()), ""
        except (BlobError, ValidationError, ValueError, KeyError, TypeError) as problem:
            return (), f"session {row['session']} is left out: {type(problem).__name__}: {str(problem)[:150]}"


def uses_of(told: Told, map_sha256: str) -> Iterator[FeatureUse]:
    """Every input of a session that also says what its source and its target were; else nothing.

    Raises ValidationError, KeyError, TypeError for documents of another shape.
    """
    from agents.skills.feature.pipeline import signature
    from agents.skills.shapes import FeatureMap, ScopeSpec, SourceSpec

    documents = told.documents
    if not {"scope.json", "data-source.json"} <= set(documents):
        return
    features = FeatureMap.model_validate(documents["feature-map.json"])
    scope = ScopeSpec.model_validate(documents["scope.json"])
    source = SourceSpec.model_validate(documents["data-source.json"])
    leakage = documents.get("leakage.json")
    importance = {each["column"]: each for each in documents.get("performance-analysis.json", {}).get("importance", ())}
    costs = {each["name"]: each for each in documents.get("robustness.json", {}).get("inputs", ())}
    served = documents.get("impact-report.json", {}).get("inputs")
    skewed = {each["column"]: float(each["share"]) for each in served or ()}
    most = max((float(each["loss"]) for each in importance.values()), default=None)
    for column in features.columns:
        worth, cost = importance.get(column.name, {}), costs.get(column.name, {})
        tests = [each for each in (leakage or {}).get("tests", ()) if each["subject"] == column.name]
        yield FeatureUse(
            session=str(told.session["session"]),
            ticket=int(told.session["ticket"]),
            ending=_ENDINGS.get(str(told.session["status"]), "open"),
            map_sha256=map_sha256,
            source=source.uri,
            target=scope.target,
            metric=scope.metric,
            definition=signature([column]),
            **column.model_dump(),
            loss=worth.get("loss"),
            se=worth.get("se"),
            clear=worth.get("clear"),
            most=most if worth else None,
            row_us=cost.get("row_us"),
            row_bytes=cost.get("row_bytes"),
            tested=leakage is not None,
            suspects=tuple(
                f"{each['test']}: {float(each['value']):.4g}, the limit is {float(each['threshold']):.4g}"
                for each in tests
                if each["verdict"] == "suspect"
            ),
            skewed=None if served is None else skewed.get(column.name, 0.0),
        )
