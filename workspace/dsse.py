"""DSSE envelopes with ed25519 signatures, read and checked. Making them needs the key: see `autopilot.signing`.

DSSE protocol v1 (github.com/secure-systems-lab/dsse): the signature is over
`DSSEv1 SP len(type) SP type SP len(body) SP body`, so that payload type and payload cannot be confused.
"""

from __future__ import annotations

import base64
import hashlib
import json

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"


class SignatureError(ValueError):
    """A key that cannot be used, or a signature that does not hold."""


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 of the raw public key, hexadecimal."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()


def pre_authentication(payload_type: str, body: bytes) -> bytes:
    """What is signed: type and body with their lengths."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)


def verify(envelope: bytes, key: Ed25519PublicKey) -> bytes:
    """The payload of a DSSE envelope signed by `key`. Raises SignatureError when it is not."""
    try:
        parsed = json.loads(envelope)
        body = base64.b64decode(parsed["payload"], validate=True)
        message = pre_authentication(parsed["payloadType"], body)
        signatures = [base64.b64decode(s["sig"], validate=True) for s in parsed["signatures"]]
    except (ValueError, KeyError, TypeError) as problem:
        raise SignatureError(f"not a DSSE envelope: {problem}") from problem
    for signature in signatures:
        try:
            key.verify(signature, message)
        except InvalidSignature:
            continue
        return body
    raise SignatureError(f"no signature by key {key_id(key)[:16]}… holds")


def load_public_key(pem: bytes, shown: str) -> Ed25519PublicKey:
    """The ed25519 public key in `pem`. Raises SignatureError, naming `shown`, when it holds none."""
    try:
        loaded = serialization.load_pem_public_key(pem)
    except ValueError as problem:
        raise SignatureError(f"{shown} is not a PEM public key: {problem}") from problem
    if not isinstance(loaded, Ed25519PublicKey):
        raise SignatureError(f"{shown} is not an ed25519 public key")
    return loaded
