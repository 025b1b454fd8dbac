"""One session's evidence as a ZIP that anybody can check without this machine: `cli.bundle_check` does.

| file | holds |
|---|---|
| `events.jsonl` | the events as they were stored, a line each: what was hashed |
| `chain.json` | stream, and for each event sequence, id and chain hash |
| `checkpoints.json` | the signed checkpoints that name this stream: signed bytes (base64), signature, key |
| `artifacts/` | every artifact but the sealed ones, named by digest and name |
| `keys/record/`, `keys/signing/` | public keys: for checkpoints and manifest, and for provenance |
| `report.md`, `report.html` | the same for people |
| `manifest.json`, `manifest.sig` | digest and size of every other file, signed with the record's key |
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from cli import report
from cli.errors import CliError
from cli.evidence import artifact_path, artifacts
from cli.home import Home
from cli.reading import Record
from schemas.envelope import EventEnvelope, StreamId
from schemas.messages import Event
from schemas.session import SessionStarted
from store.checkpoints import Checkpoint, CheckpointStore, load_key, parse
from store.port import StoredEvent
from workspace.blobs import Blobs

EPOCH = (1980, 1, 1, 0, 0, 0)
"""ZIP's first moment: the same bundle has the same bytes."""

FORMAT = 1
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"


def write_bundle(record: Record, home: Home, session: str, output: Path) -> dict[str, Any]:
    """Write the bundle of `session` to `output`, all of it or nothing.

    Raises CliError when the file cannot be written, BlobError for a damaged artifact, StoreError for a damaged record.
    """
    stream = record.stream(session)
    newest = record.store.version(stream)  # a drive may be appending: everything below is as of this event
    stored = list(record.store.read_raw(stream, 0, newest))
    envelopes = list(record.store.read(stream, 0, newest))
    covering = _covering(cast(CheckpointStore, record.store).checkpoints(), stream, newest)
    refs = artifacts(envelopes)
    blobs = Blobs(home.blobs)
    key = load_key(home.record_key)
    content = report.tables(envelopes, refs)
    files: dict[str, bytes] = {
        "events.jsonl": b"".join(row.raw + b"\n" for row in stored),
        "chain.json": _json(_chain(stream, stored)),
        "checkpoints.json": _json([_checkpoint(each) for each in covering]),
        "report.md": report.markdown(session, content).encode(),
        "report.html": report.page(session, content).encode(),
        **{f"keys/record/{path.name}": path.read_bytes() for path in home.record_public_keys},
        **{f"keys/signing/{path.name}": path.read_bytes() for path in _signing_keys(home, envelopes)},
        **{artifact_path(ref): blobs.read(ref.sha256) for ref in refs if not ref.sealed},
    }
    listed = {name: [hashlib.sha256(data).hexdigest(), len(data)] for name, data in sorted(files.items())}
    manifest = _json({"format": FORMAT, "session": session, "events": newest, "files": listed})
    files |= {MANIFEST: manifest, SIGNATURE: base64.b64encode(key.sign(manifest)) + b"\n"}
    _write(output, files)
    signed = max((parse(each.body).heads[stream][0] for each in covering), default=0)
    return {
        "session": session,
        "file": str(output),
        "events": len(stored),
        "signed_events": signed,
        "artifacts": len(refs),
        "sealed": sum(ref.sealed for ref in refs),
        "checkpoints": len(covering),
    }


def _covering(made: Iterable[Checkpoint], stream: StreamId, newest: int) -> list[Checkpoint]:
    return [each for each in made if 0 < parse(each.body).heads.get(stream, (0, b""))[0] <= newest]


def _chain(stream: StreamId, stored: list[StoredEvent]) -> dict[str, Any]:
    return {
        "tenant": stream.tenant,
        "stream": stream.name,
        "events": [[row.sequence, row.id, row.hash.hex()] for row in stored],
    }


def _checkpoint(each: Checkpoint) -> dict[str, Any]:
    return {
        "number": each.number,
        "key": each.key,
        "body": base64.b64encode(each.body).decode(),
        "signature": base64.b64encode(each.signature).decode(),
    }


def _signing_keys(home: Home, envelopes: list[EventEnvelope[Event]]) -> list[Path]:
    """The public keys that may have signed provenance: the one the policy named, or the home's."""
    started = next((e.event for e in envelopes if isinstance(e.event, SessionStarted)), None)
    if started is not None and started.policy.signing_key:
        named = Path(started.policy.signing_key)
        return [path for path in [named.with_name(named.name + ".pub")] if path.exists()]
    return sorted(home.key.parent.glob("signing*.pem.pub"))


def _json(document: Any) -> bytes:
    return json.dumps(document, indent=1).encode() + b"\n"


def _write(output: Path, files: dict[str, bytes]) -> None:
    draft = output.with_name(f".{output.name}.{secrets.token_hex(4)}")
    try:
        try:
            with zipfile.ZipFile(draft, "x", zipfile.ZIP_DEFLATED) as bundle:
                for name, data in sorted(files.items()):
                    bundle.writestr(zipfile.ZipInfo(name, EPOCH), data, zipfile.ZIP_DEFLATED)
            os.replace(draft, output)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as problem:
        raise CliError(f"{output} cannot be written: {problem.strerror}; name another file with -o") from problem
