"""Checking a session's bundle offline: nothing is needed but the file, and better also the record's public key.

A bundle comes from outside: whatever in it cannot be read is a finding, never a crash. Without a key from elsewhere the
one inside is trusted, which proves only that the bundle fits together; the answer says which it was.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autopilot import signing
from cli.bundle import MANIFEST, SIGNATURE
from cli.errors import CliError
from cli.evidence import artifact_path, artifacts
from schemas.envelope import EventEnvelope, StreamId, UnreadableMessage, decode_event
from schemas.messages import Event
from schemas.session import EffectRecorded, EffectRequested
from store import chain
from store.chain import GENESIS, Head, link
from store.checkpoints import Checkpoint, fingerprint, holds, load_public_key, parse, public_key_of, signature_problem
from store.port import StoredEvent, StoreError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LARGEST = 4 << 30
"""Bytes one file of a bundle may unpack to: a small file must not fill a memory."""

_BROKEN = (ValueError, KeyError, TypeError, IndexError, AttributeError)
"""What reading JSON of a shape that nobody promised may raise."""


@dataclass
class _Bundle:
    """The open ZIP and what was found wrong with it so far."""

    archive: zipfile.ZipFile
    findings: list[dict[str, str]] = field(default_factory=list)
    named: set[str] = field(default_factory=set)
    """Files that a finding names already."""

    def found(self, file: str, where: str, problem: str, detail: str) -> None:
        self.findings.append({"where": where, "problem": problem, "detail": detail})
        self.named.add(file)

    def read(self, name: str) -> bytes | None:
        """A file's content; None when it is missing or unreadable, which is then among the findings."""
        try:
            info = self.archive.getinfo(name)
            if info.file_size > LARGEST:
                raise zipfile.BadZipFile(f"it would unpack to {info.file_size} bytes")
            return self.archive.read(info)
        except KeyError:
            self.found(name, f"file {name}", "removed", "the bundle does not hold it")
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as problem:
            self.found(name, f"file {name}", "unreadable", str(problem))
        return None

    def keys(self, folder: str) -> list[tuple[str, Ed25519PublicKey]]:
        """The public keys in a folder of the bundle, each with its file name."""
        found = []
        for name in sorted({n for n in self.archive.namelist() if n.startswith(folder)}):
            content = self.read(name)
            if content is None:
                continue
            try:
                found.append((name, public_key_of(content, name)))
            except StoreError as problem:
                self.found(name, f"file {name}", "unreadable", str(problem))
        return found


def check_bundle(path: Path, key_files: Sequence[Path] = ()) -> dict[str, Any]:
    """Check the bundle at `path` against the public keys in `key_files`, or against the one it holds itself.

    The result has `findings` (empty: nothing was changed), the first bad thing first. Raises CliError when the file is
    no ZIP, StoreError for a key file that holds no public key.
    """
    given = [(str(file), load_public_key(file)) for file in key_files]
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as problem:
        raise CliError(f"{path} is no readable ZIP file ({problem}); ask for it again") from problem
    with archive:
        bundle = _Bundle(archive)
        trusted = given or bundle.keys("keys/record/")
        keys = [key for _, key in trusted]
        stream, rows, head = _rows(bundle)
        signed, count = _checkpoints(bundle, stream, keys)
        walked = chain.verify(rows, {stream: head}, {stream: signed}, lambda _: rows, whole=False)
        for f in walked.findings:
            bundle.found("events.jsonl", f"event {f.sequence}", f.problem, f.detail)
        envelopes = _readable(rows)
        refs = artifacts(envelopes)
        for ref in refs:
            if not ref.sealed:
                _artifact(bundle, artifact_path(ref), ref.name, ref.sha256)
        signatures = _provenance(bundle, envelopes)
        _manifest(bundle, keys)
        return {
            "file": str(path),
            "session": stream.name,
            "events": len(rows),
            "signed_events": max(signed, default=0),
            "artifacts": len(refs),
            "sealed": sum(ref.sealed for ref in refs),
            "checkpoints": count,
            "signatures": signatures,
            "trusted": [{"key": fingerprint(key), "from": name, "in_bundle": not given} for name, key in trusted],
            "findings": sorted(bundle.findings, key=_importance),
        }


def _importance(finding: dict[str, str]) -> int:
    """Events first, then what vouches for them, then the rest: what is bad in itself before what disagrees with it."""
    order = ("event", "checkpoint", "artifact", "signature")
    return next((place for place, word in enumerate(order) if finding["where"].startswith(word)), len(order))


def _rows(bundle: _Bundle) -> tuple[StreamId, list[StoredEvent], Head]:
    """The lines of `events.jsonl` with what `chain.json` says of them: rows and head row as the record had them."""
    lines = (bundle.read("events.jsonl") or b"").splitlines()
    stream, listed = StreamId("", "session", "?"), list[tuple[int, str, bytes]]()
    content = bundle.read("chain.json")
    if content is not None:
        try:
            document = json.loads(content)
            stream = StreamId(str(document["tenant"]), "session", str(document["stream"]))
            listed = [(int(number), str(id_), bytes.fromhex(hash_)) for number, id_, hash_ in document["events"]]
        except _BROKEN as problem:
            bundle.found("chain.json", "file chain.json", "unreadable", repr(problem))
    rows, previous = [], GENESIS
    for index, raw in enumerate(lines):
        if index < len(listed):
            sequence, id_, previous = listed[index]
        else:  # more events than the chain has: linked, so that the walk says "inserted" and not "changed"
            sequence, id_, previous = index + 1, _id_in(raw), link(previous, raw)
        rows.append(StoredEvent(index + 1, stream, sequence, id_, raw, previous))
    head = Head(stream, listed[-1][0], listed[-1][2], 1, len(listed)) if listed else Head(stream)
    return stream, rows, head


def _id_in(raw: bytes) -> str:
    try:
        return decode_event(raw).id
    except UnreadableMessage:
        return ""


def _checkpoints(bundle: _Bundle, stream: StreamId, keys: Sequence[Ed25519PublicKey]) -> tuple[dict[int, bytes], int]:
    """What validly signed checkpoints say of the stream (version → hash), and how many checkpoints there are."""
    content = bundle.read("checkpoints.json")
    signed: dict[int, bytes] = {}
    if content is None:
        return signed, 0
    try:
        listed = [
            Checkpoint(int(c["number"]), base64.b64decode(c["body"]), base64.b64decode(c["signature"]), str(c["key"]))
            for c in json.loads(content)
        ]
    except _BROKEN as problem:
        bundle.found("checkpoints.json", "file checkpoints.json", "unreadable", repr(problem))
        return signed, 0
    for each in listed:
        where = f"checkpoint {each.number}"
        if forged := signature_problem(each, keys):
            bundle.found("checkpoints.json", where, "changed", forged)
            continue
        try:
            claim = parse(each.body)
        except StoreError as unreadable:
            bundle.found("checkpoints.json", where, "unreadable", str(unreadable))
            continue
        if claim.number != each.number or stream not in claim.heads:
            what = f"its signed bytes are checkpoint {claim.number} and name {len(claim.heads)} streams, not this one"
            bundle.found("checkpoints.json", where, "inserted", what)
            continue
        version, hash_ = claim.heads[stream]
        signed[version] = hash_
    return signed, len(listed)


def _readable(rows: Sequence[StoredEvent]) -> list[EventEnvelope[Event]]:
    """The events before the first that is none; the walk over the chain has named that one."""
    envelopes = []
    for row in rows:
        try:
            envelopes.append(decode_event(row.raw))
        except UnreadableMessage:
            break
    return envelopes


def _artifact(bundle: _Bundle, file: str, name: str, sha256: str) -> None:
    if file not in bundle.archive.namelist():
        bundle.found(file, f"artifact {name}", "removed", f"the bundle does not hold {file}")
        return
    content = bundle.read(file)
    if content is None:
        return
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        bundle.found(file, f"artifact {name}", "changed", f"{file} has the digest {actual}, the events say {sha256}")


def _provenance(bundle: _Bundle, envelopes: Sequence[EventEnvelope[Event]]) -> int:
    """Check every DSSE signature the events name: by a key of the bundle, over exactly what was to be signed. How many
    hold."""
    keys = [key for _, key in bundle.keys("keys/signing/")]
    wanted: dict[str, str] = {}
    good = 0
    for envelope in envelopes:
        event = envelope.event
        if isinstance(event, EffectRequested) and event.kind == "sign" and event.artifacts:
            wanted[event.effect] = event.artifacts[0].sha256
        if not (isinstance(event, EffectRecorded) and event.kind == "sign" and event.artifacts):
            continue
        ref = event.artifacts[0]
        file = artifact_path(ref)
        if file in bundle.named:
            continue
        if problem := _signature_problem(bundle.read(file) or b"", keys, wanted.get(event.effect, "")):
            bundle.found(file, f"signature {ref.name} (event {envelope.sequence})", "changed", problem)
        else:
            good += 1
    return good


def _signature_problem(content: bytes, keys: Sequence[Ed25519PublicKey], sha256: str) -> str | None:
    reasons = []
    for key in keys:
        try:
            payload = signing.verify(content, key)
        except signing.SignatureError as problem:
            reasons.append(str(problem))
            continue
        actual = hashlib.sha256(payload).hexdigest()
        return None if actual == sha256 else f"it signs {actual}, the events say that {sha256} was to be signed"
    return "; ".join(reasons) or "the bundle holds no signing key to check it with"


def _manifest(bundle: _Bundle, keys: Sequence[Ed25519PublicKey]) -> None:
    """The list of files must be signed, and the files be exactly those listed."""
    content, signature = bundle.read(MANIFEST), bundle.read(SIGNATURE)
    if content is None or signature is None:
        return
    try:
        raw = base64.b64decode(signature.strip(), validate=True)
        listed = {str(name): (str(sha256), int(size)) for name, (sha256, size) in json.loads(content)["files"].items()}
    except _BROKEN as problem:
        bundle.found(MANIFEST, f"file {MANIFEST}", "unreadable", repr(problem))
        return
    if not any(holds(key, raw, content) for key in keys):
        names = ", ".join(f"{fingerprint(key)[:16]}…" for key in keys) or "there is none"
        bundle.found(MANIFEST, f"file {MANIFEST}", "changed", f"it is not signed by a trusted key ({names})")
    present = bundle.archive.namelist()
    for name in sorted({n for n in present if present.count(n) > 1}):
        bundle.found(name, f"file {name}", "inserted", "the bundle holds it twice, and programs differ on which counts")
    for name in sorted({*present, *listed} - {MANIFEST, SIGNATURE} - bundle.named):
        if name not in listed:
            bundle.found(name, f"file {name}", "inserted", "the manifest does not list it")
        elif (data := bundle.read(name)) is not None:
            actual = hashlib.sha256(data).hexdigest()
            if actual != listed[name][0]:
                detail = f"its digest is {actual}, the manifest says {listed[name][0]}"
                bundle.found(name, f"file {name}", "changed", detail)
