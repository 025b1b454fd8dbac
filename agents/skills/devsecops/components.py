"""The bill of materials of a repository that is changed: CycloneDX 1.6 from what the repository says of itself.

Nothing is installed and nothing looked up: a component's version is known only where it is pinned, and what cannot be
known is said in a property of the component or of the document.
"""

from __future__ import annotations

import json
import re
import tomllib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from agents.skills.devsecops.sbom import validate_sbom
from workspace.checkout import CleanCheckout

_REQUIREMENTS = re.compile(r"^(requirements|constraints)[\w.-]*\.(txt|in)$", re.IGNORECASE)
_OTHER = ("package.json", "go.mod", "Cargo.toml", "pom.xml", "build.gradle", "Gemfile", "composer.json", "Pipfile")


@dataclass(frozen=True, slots=True)
class Component:
    """A Python distribution the project asks for. `version` is empty unless it is pinned; `asked` is what stands in
    the file."""

    name: str
    version: str
    asked: str
    file: str


@dataclass(frozen=True, slots=True)
class Materials:
    """What could be read. `unknown` are sentences about what could not."""

    name: str
    version: str
    components: tuple[Component, ...]
    unknown: tuple[str, ...]


def read_materials(checkout: CleanCheckout, fallback: str) -> Materials:
    """What the project says it is made of; `fallback` is its name when it does not say."""
    name, version, unknown = fallback, "", []
    found: dict[tuple[str, str], Component] = {}
    for path in checkout.files():
        file = PurePosixPath(path).name
        text = checkout.read(path) if file == "pyproject.toml" or _REQUIREMENTS.match(file) else None
        if file in _OTHER:
            unknown.append(f"{path} is not read: components other than Python distributions are not listed")
        if text is None:
            continue
        lines: Iterator[str] = iter(text.splitlines())
        if file == "pyproject.toml":
            try:
                project = tomllib.loads(text)
            except tomllib.TOMLDecodeError as problem:
                unknown.append(f"{path} is no TOML: {problem}")
                continue
            table = project.get("project", {})
            if path == file:
                name, version = str(table.get("name", name)), str(table.get("version", ""))
            lines = _asked(project)
        for line in lines:
            each = _component(line, path)
            if isinstance(each, str):
                unknown.append(each)
            elif each is not None:
                found.setdefault((each.name, each.version), each)
    components = tuple(found[key] for key in sorted(found))
    pinned = {each.name for each in components if each.version}
    components = tuple(each for each in components if each.version or each.name not in pinned)
    if loose := [each.name for each in components if not each.version]:
        unknown.append(f"versions of {len(loose)} components are not pinned: {', '.join(loose[:10])}")
    if not components:
        unknown.append("the repository names no Python dependency in a form that is read (pyproject, requirements)")
    unknown.append("dependencies of dependencies are listed only where a requirements or constraints file pins them")
    return Materials(name, version, components, tuple(unknown))


def _asked(project: dict[str, Any]) -> Iterator[str]:
    table = project.get("project", {})
    yield from table.get("dependencies", [])
    for group in (*table.get("optional-dependencies", {}).values(), *project.get("dependency-groups", {}).values()):
        yield from (each for each in group if isinstance(each, str))
    yield from project.get("build-system", {}).get("requires", [])


def _component(line: str, path: str) -> Component | str | None:
    """One line of a requirements file: a component, why it is none, or nothing to say."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    text = re.split(r"\s+#|\s+--hash|\s*\\$", line.strip(), maxsplit=1)[0].strip()
    if not text or text.startswith(("#", "--hash")):
        return None
    if text.startswith("-"):
        return f"{path} has {text.split()[0]!r}, which is not followed"
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return f"{path} has a line that is no requirement"
    exact = [each.version for each in requirement.specifier if each.operator in ("==", "===")]
    version = exact[0] if len(exact) == 1 and not exact[0].endswith(".*") else ""
    return Component(canonicalize_name(requirement.name), version, str(requirement.specifier) or "any", path)


def build_components(materials: Materials, subject_sha256: str, now: str) -> str:
    """`sbom.cdx.json`, valid against the strict schema. The same project and patch give the same serial number. Raises
    SkillError."""
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component as Part
    from cyclonedx.model.component import ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    root = Part(
        name=materials.name,
        version=materials.version or None,
        type=ComponentType.APPLICATION,
        bom_ref="project",
        properties=[Property(name=f"valuetrain:unknown:{n}", value=why) for n, why in enumerate(materials.unknown, 1)],
    )
    parts = []
    for each in materials.components:
        purl = PackageURL(type="pypi", name=each.name, version=each.version or None)
        parts.append(
            Part(
                name=each.name,
                version=each.version or None,
                type=ComponentType.LIBRARY,
                bom_ref=str(purl),
                purl=purl,
                properties=[
                    Property(name="valuetrain:asked", value=each.asked),
                    Property(name="valuetrain:file", value=each.file),
                ],
            )
        )
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"sha256:{subject_sha256}"),
        metadata=BomMetaData(component=root, timestamp=datetime.fromisoformat(now)),
        components=parts,
    )
    bom.register_dependency(root, parts)
    text = json.dumps(json.loads(JsonV1Dot6(bom).output_as_string()), indent=2, sort_keys=True) + "\n"
    validate_sbom(text)
    return text
