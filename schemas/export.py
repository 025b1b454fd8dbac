"""JSON Schema (2020-12) for every message, and an AsyncAPI 3.0 description of the bus, derived from the registry."""

from __future__ import annotations

from typing import Any

from schemas.registry import COMMANDS, EVENTS
from schemas.subjects import ROOT

_HEADER: dict[str, dict[str, Any]] = {
    "id": {"type": "string"},
    "tenant": {"type": "string"},
    "kind": {"enum": ["session", "drive", "system"]},
    "stream": {"type": "string"},
    "time": {"type": "string", "format": "date-time"},
    "actor": {
        "type": "object",
        "required": ["name", "channel", "verified_as"],
        "properties": {name: {"type": "string"} for name in ("name", "channel", "verified_as")},
        "additionalProperties": False,
    },
    "correlation_id": {"type": "string"},
    "causation_id": {"type": "string"},
}


def json_schemas() -> dict[str, dict[str, Any]]:
    """`events/<name>` and `commands/<name>` to the schema of the whole message, its envelope included."""
    found = {}
    for kind, registry in (("events", EVENTS), ("commands", COMMANDS)):
        for name, message in sorted(registry.items()):
            body = message.cls.model_json_schema(mode="serialization")
            definitions = body.pop("$defs", {})
            extra = (
                {"sequence": {"type": "integer", "minimum": 1}} if kind == "events" else {"sender": {"type": "string"}}
            )
            properties = {
                **_HEADER,
                **extra,
                "type": {"const": name},
                "version": {"const": message.version},
                "data": body,
            }
            found[f"{kind}/{name}"] = {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "$id": f"urn:value-train:{kind}:{name}:{message.version}",
                "title": message.cls.__name__,
                "description": (message.cls.__doc__ or "").strip(),
                "type": "object",
                "required": sorted(properties),
                "properties": properties,
                "additionalProperties": False,
                "$defs": definitions,
            }
    return found


def asyncapi() -> dict[str, Any]:
    """Channels and messages of the bus as AsyncAPI 3.0."""
    schemas = json_schemas()
    channels = {
        "events": {
            "address": f"{ROOT}.{{tenant}}.evt.{{stream}}.{{name}}.{{role}}",
            "description": "JetStream stream VT_EVENTS: what happened, relayed from the record in order.",
            "parameters": {p: {} for p in ("tenant", "stream", "name", "role")},
            "messages": {n: {"$ref": f"#/components/messages/event_{n}"} for n in sorted(EVENTS)},
        },
        "commands": {
            "address": f"{ROOT}.{{tenant}}.cmd.{{stream}}.{{name}}.{{sender}}",
            "description": "JetStream stream VT_COMMANDS: what is asked of the conductor.",
            "parameters": {p: {} for p in ("tenant", "stream", "name", "sender")},
            "messages": {n: {"$ref": f"#/components/messages/command_{n}"} for n in sorted(COMMANDS)},
        },
    }
    messages = {
        f"{kind.removesuffix('s')}_{name}": {
            "name": name,
            "summary": schemas[f"{kind}/{name}"]["description"].split("\n")[0],
            "contentType": "application/json",
            "payload": {
                "schemaFormat": "application/schema+json;version=draft-2020-12",
                "schema": schemas[f"{kind}/{name}"],
            },
        }
        for kind, registry in (("events", EVENTS), ("commands", COMMANDS))
        for name in sorted(registry)
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "AgenticOps Value Train",
            "version": "1",
            "description": "Typed events and commands on NATS.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": {
            "observe": {"action": "receive", "channel": {"$ref": "#/channels/events"}},
            "ask": {"action": "send", "channel": {"$ref": "#/channels/commands"}},
        },
        "components": {"messages": messages},
    }
