"""Whether a delivered package is the one that was signed: its envelope against trusted keys, its bytes against that."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.skill import InputError
from agents.skills.devsecops.provenance import PREDICATE, STATEMENT

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PACKAGE = "model-package.zip"
_NOT_SIGNED = "release a package as a delivery of this train left it, with its provenance.json.dsse.json beside it"


@dataclass(frozen=True)
class Signed:
    """A package's provenance, and whose key vouches for it."""

    statement: Mapping[str, Any]
    key: str
    """The SHA-256 of the public key that verified it."""

    @property
    def materials(self) -> dict[str, str]:
        """What the package was made from: artifact to SHA-256."""
        return _digests(self.statement["predicate"]["buildDefinition"]["resolvedDependencies"])

    @property
    def documents(self) -> dict[str, str]:
        """What was written beside the package: name to SHA-256."""
        return _digests(self.statement["predicate"]["runDetails"]["byproducts"])


def trusted_keys(facts: Mapping[str, Any]) -> list[Ed25519PublicKey]:
    """The public keys that a package may be signed with: the files that the fact `release_keys` names, and of a
    folder in it every `signing*.pem.pub`. Raises InputError when there is none, or one cannot be used: without a key
    nothing can be verified, and so nothing is released.
    """
    from workspace.dsse import SignatureError, load_public_key

    named = [Path(each) for each in str(facts.get("release_keys") or "").split(os.pathsep) if each]
    files = [
        file for path in named for file in (sorted(path.glob("signing*.pem.pub")) if path.is_dir() else [path])
    ]  # fmt: skip
    keys = []
    for file in files:
        try:
            keys.append(load_public_key(file.read_bytes(), file.name))
        except (OSError, SignatureError) as problem:
            raise InputError(f"release key {file.name} cannot be used: {problem}", "set release_keys anew") from problem
    if not keys:
        raise InputError(
            "no public key is trusted, so no signature can be verified",
            "name the signer's public key in the setting release_keys, or deliver from this home first",
        )
    return keys


def verified(package: bytes, envelope: bytes, facts: Mapping[str, Any]) -> Signed:
    """The provenance in `envelope`, if a trusted key signed it and it is about this `package`. Raises InputError."""
    from workspace.dsse import SignatureError, key_id, verify

    keys, digest = trusted_keys(facts), hashlib.sha256(package).hexdigest()
    body, signer, reasons = b"", "", []
    for key in keys:
        try:
            body, signer = verify(envelope, key), key_id(key)
            break
        except SignatureError as problem:
            reasons.append(str(problem))
    if not signer:
        raise InputError(f"the provenance of the package is not signed by a trusted key: {reasons[0]}", _NOT_SIGNED)
    try:
        statement = json.loads(body)
        kind = (statement["_type"], statement["predicateType"])
        subjects = _digests(statement["subject"])
        found = Signed(statement, signer)
        read = bool(found.materials) and bool(found.documents)
    except (ValueError, KeyError, TypeError) as problem:
        raise InputError(f"what is signed is no provenance: {type(problem).__name__}: {problem}", _NOT_SIGNED) from None
    if kind != (STATEMENT, PREDICATE) or not read:
        raise InputError(f"what is signed is no provenance of a package, but {str(kind)[:120]}", _NOT_SIGNED)
    if subjects.get(PACKAGE) != digest:
        raise InputError(
            f"the package is {digest[:12]}, but what was signed is {str(subjects.get(PACKAGE))[:12]}",
            "take package and envelope of one delivery from its branch again",
        )
    return found


def _digests(listed: Any) -> dict[str, str]:
    return {str(each["name"]): str(each["digest"]["sha256"]) for each in listed}
