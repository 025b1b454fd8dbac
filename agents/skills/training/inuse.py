"""The model in use: a package this train made, read from where the ticket says, and trusted in nothing.

Whatever a package claims is checked against its own manifest and digests; the model in it is loaded as any other model
file (skops, known types only). No code comes out of a package.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from agents.skill import InputError, SkillContext
from agents.skills.data import files
from agents.skills.shapes import FeatureMap, ScopeSpec
from schemas.values import Value

FORMAT = "value-train-model/1"
MANIFEST = "package.json"
NEEDED = ("data-contract.yaml", "feature-map.json", "model.skops", "scope.json", "training-profile.json")
SERVED = ("feature-map.json", "model.skops", "scope.json")
"""What a package must hold to be retrained, and what to be served."""

MAX_UNPACKED = 1_000_000_000
MAX_MEMBERS = 32
_REMEDY = "name a model-package.zip as a delivery of this train left it"


class ModelInUse(Value):
    """`model-in-use.json`: which package a retraining started from."""

    uri: str
    sha256: str
    name: str
    version: str
    kind: str
    """As its experiment log named it: `linear (tuned)`."""
    parameters: dict[str, float | int | str | bool | None]
    signature: str


@dataclass(frozen=True)
class Package:
    """A verified package: the digest of the zip, its manifest, and its files' bytes by name."""

    shown: str
    sha256: str
    manifest: Mapping[str, Any]
    files: Mapping[str, bytes]
    data: bytes
    """The zip itself."""

    @property
    def scope(self) -> ScopeSpec:
        """What the model predicts."""
        return ScopeSpec.model_validate_json(self.files["scope.json"])

    @property
    def features(self) -> FeatureMap:
        """What the model reads."""
        return FeatureMap.model_validate_json(self.files["feature-map.json"])

    @property
    def profile(self) -> dict[str, Any]:
        """`training-profile.json`: the distribution of target and inputs in the training rows."""
        found: dict[str, Any] = json.loads(self.files["training-profile.json"])
        return found

    def in_use(self) -> ModelInUse:
        """The record of it."""
        model = self.manifest["model"]
        return ModelInUse(
            uri=self.shown,
            sha256=self.sha256,
            name=self.manifest["name"],
            version=self.manifest["version"],
            kind=model["kind"],
            parameters=model["parameters"],
            signature=self.features.signature,
        )


def open_in_use(context: SkillContext, recorded: ModelInUse | None = None) -> Package:
    """The package the ticket's `model` names, verified.

    Raises InputError when the ticket names none, the file cannot be read under the rules for data files, anything in
    it does not fit its manifest, or it is not the one that was `recorded` when the session began.
    """
    named = (context.ticket.model or "").strip()
    if not named:
        raise InputError(
            "the ticket names no model in use, which a retraining starts from",
            "add `model:` with the path of its model-package.zip below the backlog",
        )
    file = files.locate(named, context.roots, {".zip": "package"}, "model package")
    data = files.read(file, context.max_data_bytes)
    package = read_package(file.shown, data, NEEDED)
    if recorded is not None and package.sha256 != recorded.sha256:
        raise InputError(
            f"{file.shown} changed since it was recorded (sha256 {recorded.sha256[:12]}, now {package.sha256[:12]})",
            "start a new session, or restore the file",
        )
    return package


def read_package(shown: str, data: bytes, needed: tuple[str, ...] = SERVED) -> Package:
    """The package in `data`. Raises InputError, naming `shown`, unless every file in it is as its manifest says."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            unpacked = _members(shown, packed)
        manifest = json.loads(unpacked.pop(MANIFEST))
        _check_manifest(shown, manifest, unpacked)
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, RuntimeError, NotImplementedError, EOFError) as fault:
        raise InputError(f"{shown} is no model package: {type(fault).__name__}: {str(fault)[:200]}", _REMEDY) from fault
    if absent := [name for name in needed if name not in unpacked]:
        raise InputError(
            f"{shown} lacks {', '.join(absent)}: it was packaged before packages carried what a retraining needs",
            "deliver the model again, and name the new package",
        )
    package = Package(shown, hashlib.sha256(data).hexdigest(), manifest, unpacked, data)
    try:
        agrees = manifest["inputs"]["signature"] == package.features.signature
        fits = manifest["target"] == package.scope.target
    except (ValidationError, KeyError, TypeError) as fault:
        raise InputError(f"{shown}: its scope or feature map cannot be read: {str(fault)[:200]}", _REMEDY) from fault
    if not (agrees and fits):
        raise InputError(f"{shown}: its manifest, scope and feature map do not fit each other", _REMEDY)
    return package


def _members(shown: str, packed: zipfile.ZipFile) -> dict[str, bytes]:
    """Every member's bytes, read only after all sizes are known to be bearable."""
    infos = packed.infolist()
    names = [info.filename for info in infos]
    strange = next((n for n in names if "/" in n or "\\" in n or n.startswith(".")), None)
    if strange is not None:
        raise InputError(f"{shown} holds {strange[:80]!r}, a path that leads out of it", _REMEDY)
    if len(set(names)) != len(names) or len(names) > MAX_MEMBERS:
        raise InputError(f"{shown} holds {len(names)} files, some of one name or too many", _REMEDY)
    if MANIFEST not in names:
        raise InputError(f"{shown} has no {MANIFEST}", _REMEDY)
    if (size := sum(info.file_size for info in infos)) > MAX_UNPACKED:
        raise InputError(f"{shown} unpacks to {size:,} bytes, more than {MAX_UNPACKED:,}", _REMEDY)
    unpacked = {}
    for info in infos:
        with packed.open(info) as member:  # reads no more than the size the directory states, and checks its CRC
            unpacked[info.filename] = member.read(info.file_size)
    return unpacked


def _check_manifest(shown: str, manifest: Any, unpacked: Mapping[str, bytes]) -> None:
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise InputError(f"{shown}: its format is {str(found)[:60]!r}, not {FORMAT!r}", _REMEDY)
    listed = manifest["files"]
    if differing := sorted(set(listed) ^ set(unpacked)):
        raise InputError(f"{shown}: {', '.join(differing[:5])} not both listed and there", _REMEDY)
    for name, content in unpacked.items():
        if hashlib.sha256(content).hexdigest() != listed[name]["sha256"] or len(content) != listed[name]["bytes"]:
            raise InputError(
                f"{shown}: {name} is not what the manifest says (SHA-256 or size differ)",
                "take the package from its branch again; it was changed or damaged",
            )
