"""Signatures: DSSE envelopes with ed25519, made by the effect executor only. The key never reaches an agent.
`workspace.dsse` reads and checks them.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from workspace.dsse import PAYLOAD_TYPE, SignatureError, key_id, pre_authentication, verify

__all__ = ["PAYLOAD_TYPE", "SignatureError", "key_id", "load_or_create_key", "public_pem", "sign", "verify"]


def load_or_create_key(path: Path) -> Ed25519PrivateKey:
    """The ed25519 key in `path` (PEM, mode 0600), made on first use with its public half in `<path>.pub`.

    Raises SignatureError when the file is there but is no ed25519 key, or is readable by others.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
        path.with_name(path.name + ".pub").write_bytes(public_pem(key.public_key()))
        return key
    if path.stat().st_mode & 0o077:
        raise SignatureError(f"signing key {path} can be read by others; run: chmod 600 {path}")
    try:
        loaded = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except ValueError as problem:
        raise SignatureError(f"signing key {path} is not a PEM private key: {problem}") from problem
    if not isinstance(loaded, Ed25519PrivateKey):
        raise SignatureError(f"signing key {path} is not an ed25519 key")
    return loaded


def public_pem(key: Ed25519PublicKey) -> bytes:
    """The public key as PEM."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign(body: bytes, key: Ed25519PrivateKey, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """A DSSE envelope (JSON bytes) around `body`. Ed25519 is deterministic: signing twice gives the same bytes."""
    envelope = {
        "payloadType": payload_type,
        "payload": base64.b64encode(body).decode(),
        "signatures": [
            {
                "keyid": key_id(key.public_key()),
                "sig": base64.b64encode(key.sign(pre_authentication(payload_type, body))).decode(),
            }
        ],
    }
    return json.dumps(envelope, indent=2, sort_keys=True).encode() + b"\n"
