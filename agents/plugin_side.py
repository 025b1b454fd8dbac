"""The side of a plugin on which its code runs: a process that holds no login, key or password.

    describe   what the plugins' skills say of themselves, as JSON (`agents.plugins` starts this as a process)
    load       the class of one skill, in the child that runs it

Nothing here is called in a process of ours that speaks to the bus: importing somebody's file is running it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import inspect
import json
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from agents.skill import Skill

GROUP = "valuetrain.skills"
"""The entry point group: each entry names a module, or one `Skill` class."""


def describe(order: dict[str, Any]) -> list[dict[str, Any]]:
    """What every skill in `order["files"]` (paths) and `order["packages"]` (distributions) says of itself, or
    `{"where", "problem"}` for what cannot be read."""
    found: list[dict[str, Any]] = []
    for path in order["files"]:
        try:
            module, digest = _from_file(path)
            origin = {"file": path, "module": module.__name__, "sha256": digest}
            origin["shown"] = f"file {os.path.basename(path)}, SHA-256 {digest[:12]}"
            here = [_card(cls, origin) for cls in _declared(module)]
        except BaseException as problem:
            found.append({"where": path, "problem": _said(problem)})
            continue
        found += here or [{"where": path, "problem": "it declares no subclass of agents.skill.Skill"}]
    for package in order["packages"]:
        try:
            found += list(_of_package(package))
        except BaseException as problem:
            found.append({"where": f"package {package}", "problem": _said(problem)})
    return found


def _of_package(package: str) -> Iterator[dict[str, Any]]:
    entries = importlib.metadata.distribution(package).entry_points.select(group=GROUP)
    if not entries:
        raise LookupError(f"it has no entry point in the group {GROUP}")
    for entry in entries:
        named = entry.load()
        classes = list(_declared(named)) if inspect.ismodule(named) else [named]
        if not classes or not all(inspect.isclass(cls) and issubclass(cls, Skill) for cls in classes):
            raise TypeError(f"the entry point {entry.name} = {entry.value} is no Skill and no module with one")
        shown = f"package {package} {importlib.metadata.version(package)}"
        for cls in classes:
            yield _card(cls, {"file": None, "module": cls.__module__, "package": package, "shown": shown})


def load(origin: dict[str, Any]) -> type[Skill[Any, Any]]:
    """The class that `origin` (as in a description) names, imported here and now. Raises what its code raises."""
    if origin["file"]:
        module, digest = _from_file(origin["file"])
        if digest != origin["sha256"]:
            raise ImportError(f"{origin['file']} was changed since it was read; start again")
    else:
        module = importlib.import_module(origin["module"])
    cls: type[Skill[Any, Any]] = getattr(module, origin["class"])
    return cls


def _from_file(path: str) -> tuple[ModuleType, str]:
    """The module of a file, and the SHA-256 of the bytes that were run."""
    with open(path, "rb") as file:
        source = file.read()
    name = "valuetrain_plugin_" + os.path.basename(path).removesuffix(".py")
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module  # pydantic looks annotations up there
    exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102  # the operator's own file, named in the settings
    return module, hashlib.sha256(source).hexdigest()


def _declared(module: ModuleType) -> Iterator[type[Skill[Any, Any]]]:
    for _, cls in inspect.getmembers(module, inspect.isclass):
        if issubclass(cls, Skill) and not inspect.isabstract(cls) and cls.__module__ == module.__name__:
            yield cls


def _card(cls: type[Skill[Any, Any]], origin: dict[str, Any]) -> dict[str, Any]:
    """All of a skill but its work. Raises AttributeError for what it does not declare."""
    return {
        "where": origin["file"] or f"package {origin['package']}",
        "origin": origin | {"class": cls.__qualname__},
        "name": cls.name,
        "role": str(getattr(cls.role, "value", cls.role)),
        "modes": sorted(str(getattr(mode, "value", mode)) for mode in cls.modes),
        "needs": list(cls.needs),
        "optional": list(cls.optional),
        "produces": list(cls.produces),
        "sealed": list(cls.sealed),
        "harness": bool(cls.harness),
        "seconds": float(cls.seconds),
        "resumes": bool(cls.resumes),
        "beside": bool(cls.beside),
        "text": inspect.cleandoc(cls.__doc__ or ""),
        "schema": cls.parameters.model_json_schema(),
    }


def _said(problem: BaseException) -> str:
    text = " ".join(str(problem).split())
    if isinstance(problem, importlib.metadata.PackageNotFoundError):
        return "it is not installed in this environment"
    return f"{type(problem).__name__}: {text}"[:500]


def main(order: str) -> None:
    """Describe on the standard output that the process was started with; what plugins print goes to the other."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with answer:
        json.dump(describe(json.loads(order)), answer)
