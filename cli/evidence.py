"""Evidence: the check of a whole home, and one session's bundle."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from cli.errors import CliError
from cli.home import Home
from cli.reading import Record
from schemas.envelope import EventEnvelope, timestamp
from schemas.messages import Event
from schemas.values import ArtifactRef
from workspace.blobs import BlobError, Blobs

EPOCH = (1980, 1, 1, 0, 0, 0)  # ZIP's first moment: the same bundle has the same bytes


def check(record: Record, home: Home) -> dict[str, Any]:
    """Every hash chain, and every artifact that an event names, against its digest."""
    verification = record.store.verify(record.tenant)
    findings = [
        {"where": f"{f.stream.kind} {f.stream.name} event {f.sequence}", "problem": f.problem, "detail": f.detail}
        for f in verification.findings
    ]
    blobs = Blobs(home.blobs)
    seen: dict[str, ArtifactRef] = {}
    for stream in record.store.streams(record.tenant, "session"):
        for ref in artifacts(list(record.store.read(stream))):
            if ref.sha256 in seen:
                continue
            seen[ref.sha256] = ref
            try:
                blobs.verify(ref.sha256, sealed=ref.sealed)
            except BlobError as problem:
                findings.append(
                    {"where": f"artifact {ref.name} of {stream.name}", "problem": "artifact", "detail": str(problem)}
                )
    return {
        "streams": verification.streams,
        "events": verification.events,
        "artifacts": len(seen),
        "findings": findings,
    }


def artifacts(envelopes: list[EventEnvelope[Event]]) -> list[ArtifactRef]:
    """The artifacts that a session's events say were produced, in order, each once."""
    found: dict[tuple[str, str], ArtifactRef] = {}
    for envelope in envelopes:
        if envelope.type in ("work_reported", "effect_recorded"):
            for ref in getattr(envelope.event, "artifacts", ()):
                found[(ref.name, ref.sha256)] = ref
    return list(found.values())


def write_bundle(record: Record, home: Home, session: str, output: Path) -> dict[str, Any]:
    """A ZIP with `events.jsonl` (the stored bytes), `chain.json`, `artifacts/`, the public key and `report.md`."""
    stream = record.stream(session)
    stored = list(record.store.read_raw(stream))
    envelopes = list(record.store.read(stream))
    blobs = Blobs(home.blobs)
    refs = artifacts(envelopes)
    files: dict[str, bytes] = {
        "events.jsonl": b"".join(row.raw + b"\n" for row in stored),
        "chain.json": json.dumps([row.hash.hex() for row in stored], indent=1).encode(),
        "report.md": _report(session, envelopes, refs).encode(),
    }
    public = home.key.with_name(home.key.name + ".pub")
    if public.exists():
        files["keys/signing.pub.pem"] = public.read_bytes()
    for ref in refs:
        if not ref.sealed:
            files[f"artifacts/{ref.sha256[:12]}-{ref.name}"] = blobs.read(ref.sha256)
    try:
        with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name, content in sorted(files.items()):
                bundle.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
    except OSError as problem:
        raise CliError(f"{output} cannot be written: {problem.strerror}") from problem
    return {"session": session, "file": str(output), "events": len(stored), "artifacts": len(refs)}


def _report(session: str, envelopes: list[EventEnvelope[Event]], refs: list[ArtifactRef]) -> str:
    lines = [f"# Session {session}", "", "| # | time | event | by | what |", "|---|---|---|---|---|"]
    for e in envelopes:
        what = "; ".join(
            f"{name} {value}"
            for name, value in e.event
            if name in ("phase", "attempt", "gate", "commit", "reason", "summary", "passed", "lease") and value != ""
        )
        lines.append(f"| {e.sequence} | {timestamp(e.time)} | {e.type} | {e.actor.name} | {_cell(what)} |")
    lines += ["", "## Artifacts", "", "| name | SHA-256 | bytes | in this bundle |", "|---|---|---|---|"]
    lines += [f"| {r.name} | {r.sha256} | {r.size} | {'no (sealed)' if r.sealed else 'yes'} |" for r in refs]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")[:400]
