"""The installed distributions a model needs to run, found from what they declare themselves."""

from __future__ import annotations

import re
from dataclasses import dataclass

ROOTS = ("numpy", "pandas", "pydantic", "scikit-learn", "scipy", "skops")
"""What loading a model and preparing its inputs imports directly."""


@dataclass(frozen=True)
class Distribution:
    """An installed distribution: normalised name, version, licence as its metadata states it (or empty), needs."""

    name: str
    version: str
    license: str
    requires: tuple[str, ...]

    @property
    def purl(self) -> str:
        """Package URL (https://github.com/package-url/purl-spec)."""
        return f"pkg:pypi/{self.name}@{self.version}"


def needed_distributions(roots: tuple[str, ...] = ROOTS) -> list[Distribution]:
    """The roots and all they require on this machine, without extras, sorted by name.

    Raises importlib.metadata.PackageNotFoundError when a requirement is not installed.
    """
    found: dict[str, Distribution] = {}
    pending = [normalised(name) for name in roots]
    while pending:
        name = pending.pop()
        if name not in found:
            found[name] = _read(name)
            pending.extend(found[name].requires)
    return [found[name] for name in sorted(found)]


def normalised(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _read(name: str) -> Distribution:
    from importlib.metadata import distribution

    from packaging.requirements import Requirement

    installed = distribution(name)
    requires = []
    for line in installed.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            requires.append(normalised(requirement.name))
    stated = installed.metadata.get_all
    return Distribution(
        name=name,
        version=installed.version,
        license=_license(stated("License-Expression", []), stated("License", []), stated("Classifier", [])),
        requires=tuple(sorted(set(requires))),
    )


def _license(expressions: list[str], texts: list[str], classifiers: list[str]) -> str:
    """The SPDX expression if there is one, else a short licence text, else the licence classifiers."""
    if expressions:
        return expressions[0]
    if texts and len(texts[0]) <= 80 and "\n" not in texts[0].strip():
        return texts[0].strip()
    named = [line.split(" :: ")[-1] for line in classifiers if line.startswith("License :: ")]
    return " AND ".join(name for name in named if name != "OSI Approved")
