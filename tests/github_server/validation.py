"""Requests and answers against GitHub's OpenAPI description (`openapi.json`, made by `scripts/github_openapi`)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema.exceptions import best_match
from openapi_schema_validator import OAS30Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

DOCUMENT: dict[str, Any] = json.loads(Path(__file__).with_name("openapi.json").read_text("utf-8"))
_ROOT = "urn:github"
_REGISTRY: Registry[Any] = Registry().with_resource(_ROOT, DRAFT202012.create_resource(DOCUMENT))
_SEVERAL_SEGMENTS = {"path", "ref", "branch"}
"""Path parameters that may hold slashes."""
_EXTRA_QUERY = {"per_page", "page"}


class Unfit(Exception):
    """A request or answer that GitHub's description does not allow."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One verb of one path of the description."""

    verb: str
    template: str
    pattern: re.Pattern[str] = field(compare=False)

    @property
    def described(self) -> dict[str, Any]:
        """The operation as the description has it."""
        found: dict[str, Any] = DOCUMENT["paths"][self.template][self.verb]
        return found

    @property
    def parameters(self) -> list[dict[str, Any]]:
        """All of its parameters, with references followed."""
        listed = [*DOCUMENT["paths"][self.template].get("parameters", ()), *self.described.get("parameters", ())]
        return [_followed(parameter) for parameter in listed]

    @property
    def paged(self) -> bool:
        """Whether it takes `page`."""
        return any(parameter["name"] == "page" for parameter in self.parameters)


def _followed(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        found: Any = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def _pattern(template: str) -> re.Pattern[str]:
    parts = []
    for part in re.split(r"(\{[^}]+\})", template):
        if part.startswith("{"):
            name = part[1:-1]
            parts.append(f"(?P<{name}>{'.+' if name in _SEVERAL_SEGMENTS else '[^/]+'})")
        else:
            parts.append(re.escape(part))
    return re.compile("^" + "".join(parts) + "$")


@cache
def _operations() -> tuple[Operation, ...]:
    found = [
        Operation(verb, template, _pattern(template))
        for template, described in DOCUMENT["paths"].items()
        for verb in described
        if verb != "parameters"
    ]
    return tuple(sorted(found, key=lambda each: (each.template.count("{"), -len(each.template))))


def match(verb: str, path: str) -> tuple[Operation, dict[str, str]] | None:
    """The operation a request is for and its path parameters; the one with fewest parameters if several fit."""
    for operation in _operations():
        if operation.verb == verb and (found := operation.pattern.match(path)):
            return operation, found.groupdict()
    return None


def check_request(operation: Operation, path: dict[str, str], query: dict[str, str], body: Any) -> None:
    """Raises Unfit when GitHub's description does not allow this request."""
    known = {p["name"]: p for p in operation.parameters if p["in"] == "query"}
    if unknown := sorted(set(query) - set(known)):
        raise Unfit(f"{operation.verb} {operation.template}: no query parameter {', '.join(unknown)}")
    for parameter in operation.parameters:
        given = {"query": query, "path": path}.get(parameter["in"], {})
        value = given.get(parameter["name"])
        if value is None:
            if parameter.get("required") and parameter["in"] == "query":
                raise Unfit(f"{operation.verb} {operation.template}: query parameter {parameter['name']} is missing")
            continue
        _hold(_typed(value, parameter["schema"]), parameter["schema"], f"{operation.template} {parameter['name']}")
    described = operation.described.get("requestBody")
    if body is not None and described is None:
        raise Unfit(f"{operation.verb} {operation.template}: takes no body")
    if described is not None and (body is not None or described.get("required")):
        _hold_at(_pointer(operation, "requestBody", "content", "application/json", "schema"), body, operation)


def _typed(value: str, schema: dict[str, Any]) -> Any:
    kind = _followed(schema).get("type")
    if kind == "integer" and re.fullmatch(r"-?\d+", value):
        return int(value)
    if kind == "boolean" and value in ("true", "false"):
        return value == "true"
    return value


def check_answer(operation: Operation, status: int, body: Any) -> None:
    """Raises Unfit when GitHub would not answer so."""
    described = operation.described["responses"].get(str(status))
    if described is None:
        if status in (401, 403, 404, 429) or status >= 500:  # these may come for any operation
            return
        raise Unfit(f"{operation.verb} {operation.template}: never answers {status}")
    steps: tuple[str, ...] = ("responses", str(status))
    if "$ref" in described:
        reference = described["$ref"].removeprefix("#/")
        described = _followed(described)
        pointer = f"{_ROOT}#/{reference}"
    else:
        pointer = _pointer(operation, *steps)
    content = described.get("content")
    if content is None:
        if body is not None:
            raise Unfit(f"{operation.verb} {operation.template}: {status} has no body")
        return
    media = "application/json" if "application/json" in content else next(iter(content))
    _hold_at(f"{pointer}/content/{_escaped(media)}/schema", body, operation)


def _pointer(operation: Operation, *steps: str) -> str:
    return f"{_ROOT}#/" + "/".join(_escaped(step) for step in ("paths", operation.template, operation.verb, *steps))


def _escaped(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D").replace("+", "%2B")


@cache
def _validator(pointer: str) -> OAS30Validator:
    return OAS30Validator({"$ref": pointer}, registry=_REGISTRY)


def _hold_at(pointer: str, body: Any, operation: Operation) -> None:
    problem = best_match(_validator(pointer).iter_errors(body))
    if problem is not None:
        where = "/".join(str(part) for part in problem.absolute_path)
        told = problem.message if len(problem.message) < 600 else f"{problem.message[:200]} … {problem.message[-300:]}"
        raise Unfit(f"{operation.verb} {operation.template}: {where or 'body'}: {told}")


def _hold(value: Any, schema: dict[str, Any], name: str) -> None:
    for problem in OAS30Validator(schema, registry=_REGISTRY).iter_errors(value):
        raise Unfit(f"{name}: {problem.message[:300]}")
