"""Signed checkpoints: what makes tampering visible even to one who could rewrite every row of the database.

A checkpoint lists the heads of all streams that grew since the one before, and is signed with ed25519. Since each
head's hash depends on every event before it, nothing up to a checkpoint can be changed, removed or cut off without the
key. A checkpoint also holds the digest of its predecessor; only cutting off the newest checkpoints together with what
they list goes unseen, so copies of them belong in another place than the database.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic_core import from_json, to_json

from schemas.envelope import StreamId, timestamp
from store.chain import Head
from store.port import Finding, StoreError, Verification

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

CHECKPOINTS = StreamId("", "system", "checkpoints")
"""The place named in findings about a checkpoint itself; the finding's sequence is the checkpoint's number."""

_NO_DIGEST = "0" * 64


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A row: number (from 1), the signed bytes (JSON), the signature (64 bytes), the public key's fingerprint."""

    number: int
    body: bytes
    signature: bytes
    key: str

    @property
    def digest(self) -> str:
        """What the next checkpoint holds on to: SHA-256 over body and signature, in hex."""
        return hashlib.sha256(self.body + self.signature).hexdigest()


@dataclass(frozen=True, slots=True)
class Claim:
    """What a checkpoint's bytes say: `heads` maps streams to version and hash, `position` is the log's end then."""

    number: int
    previous: str
    position: int
    heads: dict[StreamId, tuple[int, bytes]]


class CheckpointStore(Protocol):
    """What a backend offers for checkpoints, beside the store port."""

    def heads(self, after_position: int = 0) -> list[Head]:
        """Heads of all streams that have an event after `after_position`, as of one moment."""

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints by number."""

    def newest_checkpoint(self) -> Checkpoint | None:
        """The last of them; None when there is none."""

    def add_checkpoint(self, checkpoint: Checkpoint) -> bool:
        """Store one; False when its number is taken."""

    def verify(self, tenant: str | None = None) -> Verification:
        """As in the store port; holds the chains to what the checkpoints say, without looking at signatures."""


def load_key(path: Path) -> Ed25519PrivateKey:
    """The signing key in the PEM file `path`, made on first use (mode 0600) with the public key beside it (`.pub`).

    Raises StoreError for a file that is no such key or that others may read.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not path.exists():
        _make_key(path)
    if path.stat().st_mode & 0o077:
        raise StoreError(f"the signing key {path} can be read by others: chmod 600 it, and consider a new key")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except ValueError as problem:
        raise StoreError(f"the signing key {path} cannot be read: {problem}") from problem
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError(f"the signing key {path} is not an ed25519 key")
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """The public key in the PEM file `path`. Raises StoreError for anything else."""
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise StoreError(f"the public key {path} cannot be read: {problem}") from problem
    return public_key_of(content, str(path))


def public_key_of(content: bytes, where: str) -> Ed25519PublicKey:
    """The public key in the PEM bytes `content`, which come from `where`. Raises StoreError for anything else."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as problem:
        raise StoreError(f"the public key {where} cannot be read: {problem}") from problem
    if not isinstance(key, Ed25519PublicKey):
        raise StoreError(f"the public key {where} is not an ed25519 key")
    return key


def _make_key(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(private)
    try:
        with suppress(FileExistsError):  # another process was first: its key counts
            os.link(draft, path)
            path.with_name(f"{path.name}.pub").write_bytes(public)
    finally:
        draft.unlink()


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of the raw public key, in hex: names the key a checkpoint was signed with."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def checkpoint(store: CheckpointStore, key: Ed25519PrivateKey, time: datetime | None = None) -> Checkpoint | None:
    """Sign the heads of all streams that grew since the last checkpoint, and store that.

    None when nothing grew, or when another process was making the same checkpoint and stored its own first.
    """
    number, previous, position = 1, _NO_DIGEST, 0
    if (last := store.newest_checkpoint()) is not None:
        number, previous, position = last.number + 1, last.digest, parse(last.body).position
    heads = store.heads(position)
    if not heads:
        return None
    body = to_json(
        {
            "number": number,
            "time": timestamp(time or datetime.now(UTC)),
            "previous": previous,
            "position": max(head.last_position for head in heads),
            "heads": [
                [head.stream.tenant, head.stream.kind, head.stream.name, head.version, head.hash.hex()]
                for head in heads
            ],
        }
    )
    made = Checkpoint(number, body, key.sign(body), fingerprint(key.public_key()))
    return made if store.add_checkpoint(made) else None


def parse(body: bytes) -> Claim:
    """What a checkpoint's bytes say. Raises StoreError when they say nothing."""
    try:
        content = from_json(body)
        heads = {
            StreamId(tenant, kind, name): (int(version), bytes.fromhex(hash_))
            for tenant, kind, name, version, hash_ in content["heads"]
        }
        return Claim(int(content["number"]), str(content["previous"]), int(content["position"]), heads)
    except (ValueError, KeyError, TypeError, OverflowError) as problem:
        raise StoreError(f"a checkpoint cannot be read: {problem!r}; verify the record") from problem


def claimed_heads(
    checkpoints: Iterable[Checkpoint],
) -> tuple[dict[StreamId, dict[int, bytes]], list[Finding]]:
    """All heads the checkpoints list, for the walk over the chains; and the checkpoints that list none readably."""
    claimed: dict[StreamId, dict[int, bytes]] = {}
    findings: list[Finding] = []
    for each in checkpoints:
        try:
            heads = parse(each.body).heads
        except StoreError as problem:
            findings.append(Finding(CHECKPOINTS, each.number, "unreadable", str(problem)))
            continue
        for stream, (version, hash_) in heads.items():
            claimed.setdefault(stream, {})[version] = hash_
    return claimed, findings


def verify(store: CheckpointStore, *public_keys: Ed25519PublicKey) -> Verification:
    """Walk every hash chain, hold it to the checkpoints, and check the checkpoints' signatures and their own chain.

    Several keys may be trusted: after a key was replaced, the older checkpoints are still by the one before.
    """
    forged = _first_bad(store.checkpoints(), public_keys)
    verified = store.verify()
    if forged is None:
        return verified
    rest = (found for found in verified.findings if (found.stream, found.sequence) != (CHECKPOINTS, forged.sequence))
    return replace(verified, findings=(forged, *rest))


def signature_problem(checkpoint: Checkpoint, public_keys: Sequence[Ed25519PublicKey]) -> str | None:
    """Why none of `public_keys` vouches for a checkpoint's bytes; None when one does."""
    if any(holds(key, checkpoint.signature, checkpoint.body) for key in public_keys):
        return None
    names = ", ".join(f"{fingerprint(key)[:16]}…" for key in public_keys) or "there is none"
    return f"the signature (key {checkpoint.key[:16]}…) is not by a trusted key ({names})"


def holds(public_key: Ed25519PublicKey, signature: bytes, body: bytes) -> bool:
    """Is `signature` the key's, over exactly these bytes?"""
    from cryptography.exceptions import InvalidSignature

    try:
        public_key.verify(signature, body)
    except InvalidSignature:
        return False
    return True


def _first_bad(checkpoints: Iterable[Checkpoint], public_keys: Sequence[Ed25519PublicKey]) -> Finding | None:
    previous = _NO_DIGEST
    for number, each in enumerate(checkpoints, start=1):
        if each.number != number:
            return Finding(CHECKPOINTS, number, "removed", f"the next checkpoint found is {each.number}")
        if problem := signature_problem(each, public_keys):
            return Finding(CHECKPOINTS, number, "changed", problem)
        try:
            claim = parse(each.body)
        except StoreError as unreadable:
            return Finding(CHECKPOINTS, number, "unreadable", str(unreadable))
        if (claim.number, claim.previous) != (number, previous):
            return Finding(CHECKPOINTS, number, "inserted", "it does not follow the checkpoint before")
        previous = each.digest
    return None
