"""Evidence: the check of a whole home."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from cli.home import Home
from cli.reading import Record
from conductor.loading import deviates
from schemas.envelope import EventEnvelope, StreamId
from schemas.messages import Event
from schemas.system import DeadLetterRecorded
from schemas.values import ArtifactRef
from store import checkpoints
from store.chain import LOG
from store.checkpoints import CHECKPOINTS, Checkpoint, CheckpointStore, fingerprint, load_public_key, parse
from store.port import StoreCorrupt, StoreError
from workspace.blobs import BlobError, BlobMissing, Blobs


def check(record: Record, home: Home, key_files: Sequence[Path] = ()) -> dict[str, Any]:
    """Every hash chain, the signed checkpoints over them, every file that an event names by its digest (artifacts and
    the bytes of dead letters), and the snapshots, which must say what the events say.

    The checkpoints must be by one of the public keys in `key_files`, or else by one of the home's own. Raises
    StoreError for a file that holds no such key.
    """
    paths = [*key_files] or home.record_public_keys
    keys = [load_public_key(path) for path in paths]
    store = cast(CheckpointStore, record.store)
    verification = checkpoints.verify(store, *keys)
    findings = [
        {"where": _where(f.stream, f.sequence), "problem": f.problem, "detail": f.detail} for f in verification.findings
    ]
    blobs = Blobs(home.blobs)
    seen: dict[str, ArtifactRef] = {}
    for stream in record.store.streams(record.tenant, "session"):
        for ref in artifacts(_readable(record, stream)):
            if ref.sha256 in seen:
                continue
            seen[ref.sha256] = ref
            findings += _bad_blob(blobs, f"artifact {ref.name} of {stream.name}", ref.sha256, ref.sealed)
        with contextlib.suppress(StoreError):  # unreadable events are among the findings
            if deviates(record.store, stream):
                detail = "it says something else than the events: delete it with `valuetrain db forget-snapshots`"
                findings.append({"where": f"snapshot of session {stream.name}", "problem": "changed", "detail": detail})
    letters = 0
    for stream in record.store.streams(record.tenant, "system"):
        for envelope in _readable(record, stream):
            if isinstance(envelope.event, DeadLetterRecorded):
                letters += 1
                findings += _bad_blob(blobs, f"dead letter {stream.name}", envelope.event.sha256)
    return {
        "streams": verification.streams,
        "events": verification.events,
        "artifacts": len(seen),
        "dead_letters": letters,
        "checkpoints": _newest(store.checkpoints(), record.store.last_position()),
        "trusted": [{"key": fingerprint(k), "from": str(p)} for k, p in zip(keys, paths, strict=True)],
        "findings": findings,
    }


def _where(stream: StreamId, sequence: int) -> str:
    if stream == CHECKPOINTS:
        return f"checkpoint {sequence}"
    if stream == LOG:
        return f"log position {sequence}"
    return f"{stream.kind} {stream.name} event {sequence}"


def _bad_blob(blobs: Blobs, where: str, sha256: str, sealed: bool = False) -> list[dict[str, str]]:
    """What is wrong with the file of `sha256`, as a list of findings: one or none."""
    try:
        blobs.verify(sha256, sealed=sealed)
    except BlobMissing as problem:
        return [{"where": where, "problem": "removed", "detail": str(problem)}]
    except BlobError as problem:
        return [{"where": where, "problem": "changed", "detail": str(problem)}]
    return []


def _readable(record: Record, stream: StreamId) -> list[EventEnvelope[Event]]:
    """The events before the stream's first bad one, which the chain's walk has reported already."""
    envelopes: list[EventEnvelope[Event]] = []
    with contextlib.suppress(StoreCorrupt):
        envelopes.extend(record.store.read(stream))
    return envelopes


def _newest(made: list[Checkpoint], last_position: int) -> dict[str, Any]:
    """How far the record is signed. Whoever notes number and digest elsewhere would notice that the newest are gone."""
    signed = 0
    if made:
        with contextlib.suppress(StoreError):  # an unreadable one is among the findings
            signed = parse(made[-1].body).position
    return {
        "count": len(made),
        "digest": made[-1].digest if made else None,
        "signed_events": signed,
        "unsigned_events": max(0, last_position - signed),
    }


def artifact_path(ref: ArtifactRef) -> str:
    """Where an artifact lies in a bundle. Its name comes from an agent: only the last part of a path counts."""
    return f"artifacts/{ref.sha256[:12]}-{ref.name.replace(chr(92), '/').rpartition('/')[2]}"


def artifacts(envelopes: list[EventEnvelope[Event]]) -> list[ArtifactRef]:
    """The artifacts that a session's events say were produced, in order, each once."""
    found: dict[tuple[str, str], ArtifactRef] = {}
    for envelope in envelopes:
        if envelope.type in ("work_reported", "effect_recorded"):
            for ref in getattr(envelope.event, "artifacts", ()):
                found[(ref.name, ref.sha256)] = ref
            if (snapshot := getattr(envelope.event, "snapshot", None)) is not None:
                found[(snapshot.artifact.name, snapshot.sha256)] = snapshot.artifact
    return list(found.values())
