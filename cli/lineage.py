"""A session as OpenLineage run events: which data each phase read and wrote, from the record alone.

Each phase's attempt is a run of the job `PIPELINE.PHASE`; artifacts are datasets of the session, their version is
their SHA-256; what the ticket names as data is a dataset of its own. The format is OpenLineage 2-0-2
(https://openlineage.io/spec/2-0-2/OpenLineage.json): one JSON object a line, as backends take them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from agents.discovery import AnySkill
from schemas.envelope import EventEnvelope, timestamp
from schemas.messages import Event
from schemas.session import AttemptFailed, PhaseStarted, WorkReported
from schemas.values import ArtifactRef

SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
PRODUCER = "urn:agenticops-value-train"
_FACETS = "https://openlineage.io/spec/facets/1-0-1"
READS_THE_SOURCE = frozenset({"data.source", "data.extract", "data.ingest", "data.refresh"})
"""Skills that open what the ticket names as data."""


def run_events(envelopes: Iterable[EventEnvelope[Event]], skills: dict[str, AnySkill]) -> list[dict[str, Any]]:
    """A START for each attempt, and its COMPLETE or FAIL; `skills` say which artifacts a phase reads.

    An attempt that only timed out has no end: its FAIL was never reported.
    """
    started: dict[tuple[str, int], PhaseStarted] = {}
    found: list[dict[str, Any]] = []
    for envelope in envelopes:
        event = envelope.event
        if isinstance(event, PhaseStarted):
            started[event.phase, event.attempt] = event
            found.append(_event("START", envelope, event, _inputs(envelope, event, skills), []))
        elif isinstance(event, WorkReported | AttemptFailed):
            begun = started.get((event.phase, event.attempt))
            if begun is None:
                continue
            ended = isinstance(event, WorkReported)
            outputs = [_artifact(envelope, ref) for ref in event.artifacts] if isinstance(event, WorkReported) else []
            found.append(
                _event("COMPLETE" if ended else "FAIL", envelope, begun, _inputs(envelope, begun, skills), outputs)
            )
    return found


def _event(
    kind: str,
    envelope: EventEnvelope[Event],
    phase: PhaseStarted,
    inputs: Sequence[dict[str, Any]],
    outputs: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    session = envelope.stream.name
    facets: dict[str, Any] = {
        "parent": {
            "_producer": PRODUCER,
            "_schemaURL": f"{_FACETS}/ParentRunFacet.json#/$defs/ParentRunFacet",
            "run": {"runId": _id(session)},
            "job": {"namespace": _namespace(envelope), "name": phase.pipeline},
        }
    }
    event = envelope.event
    if isinstance(event, AttemptFailed):
        facets["errorMessage"] = {
            "_producer": PRODUCER,
            "_schemaURL": f"{_FACETS}/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet",
            "message": event.reason,
            "programmingLanguage": "Python",
        }
    return {
        "eventType": kind,
        "eventTime": timestamp(envelope.time),
        "run": {"runId": _id(session, phase.phase, str(phase.attempt)), "facets": facets},
        "job": {"namespace": _namespace(envelope), "name": f"{phase.pipeline}.{phase.phase}"},
        "inputs": list(inputs),
        "outputs": list(outputs),
        "producer": PRODUCER,
        "schemaURL": SCHEMA,
    }


def _inputs(envelope: EventEnvelope[Event], phase: PhaseStarted, skills: dict[str, AnySkill]) -> list[dict[str, Any]]:
    """What the phase's skills read of what was there when it started. A skill that is not known here may read all."""
    there = {ref.name: ref for ref in phase.artifacts}
    read: set[str] = set()
    for name in phase.skills:
        cls = skills.get(name)
        read |= set(there) if cls is None else {*cls.needs, *cls.optional}
    found = [_artifact(envelope, ref) for name, ref in sorted(there.items()) if name in read]
    if phase.ticket.data and READS_THE_SOURCE & set(phase.skills):
        taken = phase.ticket.snapshot
        facets = {} if taken is None else _version(taken.sha256)
        found.insert(0, {"namespace": "value-train-source", "name": phase.ticket.data, "facets": facets})
    return found


def _artifact(envelope: EventEnvelope[Event], ref: ArtifactRef) -> dict[str, Any]:
    return {
        "namespace": _namespace(envelope),
        "name": f"{envelope.stream.name}/{ref.name}",
        "facets": _version(ref.sha256),
    }


def _version(sha256: str) -> dict[str, Any]:
    facet = f"{_FACETS}/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet"
    return {"version": {"_producer": PRODUCER, "_schemaURL": facet, "datasetVersion": sha256}}


def _namespace(envelope: EventEnvelope[Event]) -> str:
    return f"value-train:{envelope.stream.tenant}"


def _id(*parts: str) -> str:
    """The same run has the same id, whenever it is told of."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PRODUCER}:{'/'.join(parts)}"))
