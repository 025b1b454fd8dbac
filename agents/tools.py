"""A skill as a tool of a language model: the same name, the same help text, the same parameters."""

from __future__ import annotations

from typing import Any

from agents.discovery import AnySkill


def tool_name(skill: str) -> str:
    """A name that model endpoints take: `data_profile` for `data.profile`."""
    return skill.replace(".", "_")


def tool(cls: AnySkill) -> dict[str, Any]:
    """The skill's function schema as model endpoints read it (JSON Schema for the parameters)."""
    schema = cls.parameters.model_json_schema()
    schema.pop("title", None)
    return {
        "type": "function",
        "function": {
            "name": tool_name(cls.name),
            "description": first_paragraph(cls) + (f" Needs: {', '.join(cls.needs)}." if cls.needs else ""),
            "parameters": {"type": "object", "properties": {}, "additionalProperties": False} | schema,
        },
    }


def first_paragraph(cls: AnySkill) -> str:
    """What the skill does: the first paragraph of its docstring, on one line."""
    return " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())
