"""Looking into the model registry for people."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from autopilot.registry.mlflow_registry import MlflowRegistry
from autopilot.registry.port import Registry, RegistryError
from cli.errors import CliError
from cli.home import Home
from cli.settings import load
from schemas.envelope import timestamp


def registry_of(home: Path) -> Registry | None:
    """The registry the home's settings name; None for one in the home that nobody has written to: looking makes none.

    Raises CliError.
    """
    place = Home(home.resolve()).existing()
    uri = load(place.config).registry_uri
    if uri in (None, "home") and not place.registry.exists():
        return None
    return MlflowRegistry(place.registry_at(uri))


def model_rows(registry: Registry | None) -> list[dict[str, Any]]:
    """Each model with its newest version and its aliases. Raises CliError when the registry cannot be read."""
    try:
        found = {} if registry is None else {name: registry.versions(name) for name in registry.models()}
    except RegistryError as problem:
        raise CliError(str(problem)) from problem
    return [
        {
            "model": name,
            "versions": len(versions),
            "newest": versions[0].version if versions else None,
            "aliases": {alias: v.version for v in versions for alias in v.aliases},
        }
        for name, versions in found.items()
    ]


def version_rows(registry: Registry | None, name: str) -> list[dict[str, Any]]:
    """A model's versions, the newest first. Raises CliError for an unknown model and an unreadable registry."""
    try:
        versions = () if registry is None else registry.versions(name)
    except RegistryError as problem:
        raise CliError(str(problem)) from problem
    if not versions:
        raise CliError(f"no model {name!r} is registered; `valuetrain model list` shows them")
    return [asdict(v) | {"created": timestamp(v.created), "aliases": list(v.aliases)} for v in versions]
