"""Replacing the key that signs the record: whatever moment a crash picks, each checkpoint is by a trusted key."""

from __future__ import annotations

import os
import secrets
from contextlib import closing
from pathlib import Path
from typing import cast

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cli.errors import CliError
from cli.home import Home
from cli.opening import has_record, open_store
from cli.settings import Settings
from store.checkpoints import CheckpointStore, checkpoint, fingerprint, load_key


def rotate(home: Home, settings: Settings) -> dict[str, str]:
    """Let the old key sign what it has not yet, then put a new one in its place. The old private key is gone then; its
    public half stays beside the new one (`record-….pem.pub`), where `audit verify` and `audit export` look for it.

    Returns fingerprints `old` and `new`, and `retired`, the file of the old public half. Raises HomeBusy while a system
    runs on the home, CliError when there is no key, and the store's errors: then nothing was replaced.
    """
    path = home.record_key
    with home.locked("audit rotate-key"), home.recording("audit rotate-key"):
        if not path.exists():
            raise CliError(f"there is no key {path} to replace: the next drive makes one")
        old = load_key(path)
        if has_record(home, settings):
            with closing(open_store(home, settings)) as store:
                checkpoint(cast(CheckpointStore, store), old)
        new, name = Ed25519PrivateKey.generate(), fingerprint(old.public_key())
        retired = path.with_name(f"record-{name[:16]}.pem.pub")
        try:
            # The private half last: until it is in place the old one signs, and is trusted by its retired half.
            _put(retired, _public(old), 0o644)
            _put(path.with_name(f"{path.name}.pub"), _public(new), 0o644)
            _put(path, _private(new), 0o600)
        except OSError as problem:
            raise CliError(f"the key {path} cannot be replaced: {problem}; the old one stays in use") from problem
    return {"old": name, "new": fingerprint(new.public_key()), "retired": str(retired)}


def _public(key: Ed25519PrivateKey) -> bytes:
    encoding, kind = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(encoding, kind)


def _private(key: Ed25519PrivateKey) -> bytes:
    kind, unencrypted = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, kind, unencrypted)


def _put(path: Path, content: bytes, mode: int) -> None:
    """Make `content` the file at `path`, on the disk before the next step: all of it or nothing."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
