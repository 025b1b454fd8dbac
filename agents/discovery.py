"""Finding skills: every `Skill` subclass in a module below `agents/skills/`, and the plugins that the settings name.
Nothing is listed by hand."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import agents.skills
from agents.skill import Skill

AnySkill = type[Skill[Any, Any]]


class SkillDeclarationError(TypeError):
    """A skill class lacks something or a name is taken twice."""


_plugins: dict[str, AnySkill] = {}


def use(plugins: Iterable[AnySkill]) -> None:
    """Have these plugins' skills beside the shipped ones from now on, in place of what was named before; they are
    checked (`agents.plugins.find`)."""
    found = {plugin.name: plugin for plugin in plugins}
    _plugins.clear()
    _plugins.update(found)


def skills() -> dict[str, AnySkill]:
    """All skills by name, shipped ones and plugins. Raises SkillDeclarationError."""
    return {**_plugins, **shipped()}


@lru_cache(maxsize=1)
def shipped() -> dict[str, AnySkill]:
    """The shipped skills by name. Raises SkillDeclarationError naming the class and what is wrong with it."""
    found: dict[str, AnySkill] = {}
    for module in pkgutil.walk_packages(agents.skills.__path__, prefix="agents.skills."):
        for _, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if not issubclass(cls, Skill) or inspect.isabstract(cls) or cls.__module__ != module.name:
                continue
            where = f"{cls.__module__}.{cls.__name__}"
            missing = [name for name in ("name", "role", "modes") if not hasattr(cls, name)]
            if missing or not cls.__doc__:
                raise SkillDeclarationError(f"skill {where} lacks {', '.join(missing) or 'a docstring'}")
            if cls.name in found:
                other = found[cls.name]
                raise SkillDeclarationError(f"skill {cls.name!r} is declared by {where} and by {other.__module__}")
            found[cls.name] = cls
    return found


def skill(name: str) -> AnySkill:
    """The skill called `name`. Raises KeyError naming the known ones."""
    try:
        return skills()[name]
    except KeyError:
        raise KeyError(f"there is no skill {name!r}; there are {', '.join(sorted(skills()))}") from None
