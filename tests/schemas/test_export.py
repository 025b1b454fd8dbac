"""JSON Schema and AsyncAPI: what programs in other languages are told, held against real messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

from schemas.envelope import encode_command, encode_event
from schemas.export import asyncapi, json_schemas
from schemas.registry import COMMANDS, EVENTS
from tests.golden.samples import MESSAGES
from tests.schemas import strategies

SCHEMAS = json_schemas()
LINES = [json.loads(line) for line in MESSAGES.read_text("utf-8").splitlines()]
CURRENT = [
    line for line in LINES if line["version"] == (COMMANDS if "sender" in line else EVENTS)[line["type"]].version
]


def key(line: dict[str, Any]) -> str:
    return f"{'commands' if 'sender' in line else 'events'}/{line['type']}"


def test_every_message_has_a_schema() -> None:
    assert set(SCHEMAS) == {f"events/{n}" for n in EVENTS} | {f"commands/{n}" for n in COMMANDS}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_says_what_the_message_means(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    kind, wire = name.split("/")
    message = (EVENTS if kind == "events" else COMMANDS)[wire]
    assert schema["$id"] == f"urn:value-train:{kind}:{wire}:{message.version}"
    assert schema["description"]
    assert schema["properties"]["version"] == {"const": message.version}
    assert ("sequence" in schema["properties"]) == (kind == "events")
    assert ("sender" in schema["properties"]) == (kind == "commands")


@pytest.mark.parametrize("line", CURRENT, ids=key)
def test_the_golden_samples_are_valid(line: dict[str, Any]) -> None:
    Draft202012Validator(SCHEMAS[key(line)]).validate(line)


@pytest.mark.parametrize("line", CURRENT, ids=key)
def test_a_message_with_a_piece_missing_or_added_is_not(line: dict[str, Any]) -> None:
    validator = Draft202012Validator(SCHEMAS[key(line)])
    for name in line:
        with pytest.raises(ValidationError):
            validator.validate({n: v for n, v in line.items() if n != name})
    for broken in ({"extra": 1}, {"type": "other"}, {"version": 99}, {"data": line["data"] | {"extra": 1}}):
        with pytest.raises(ValidationError):
            validator.validate(line | broken)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.sampled_from(sorted(set(SCHEMAS) - {"commands/start_session", "events/session_started"})))
def test_whatever_the_classes_allow_the_schemas_allow(data: st.DataObject, name: str) -> None:
    kind, wire = name.split("/")
    if kind == "events":
        raw = encode_event(data.draw(strategies.events(EVENTS[wire])))
    else:
        raw = encode_command(data.draw(strategies.commands(COMMANDS[wire])))
    Draft202012Validator(SCHEMAS[name]).validate(json.loads(raw))


def test_asyncapi_has_a_message_for_each() -> None:
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    messages = document["components"]["messages"]
    assert set(messages) == {f"event_{n}" for n in EVENTS} | {f"command_{n}" for n in COMMANDS}
    for channel, kind, registry in (("events", "event", EVENTS), ("commands", "command", COMMANDS)):
        references = document["channels"][channel]["messages"]
        assert {n: r["$ref"] for n, r in references.items()} == {
            n: f"#/components/messages/{kind}_{n}" for n in registry
        }
        address, parameters = document["channels"][channel]["address"], document["channels"][channel]["parameters"]
        assert [t.strip("{}") for t in address.split(".") if t.startswith("{")] == list(parameters)
    for name, message in messages.items():
        kind, wire = name.split("_", 1)
        assert message["payload"]["schema"] == SCHEMAS[f"{kind}s/{wire}"]
        assert message["summary"].endswith((".", ":", ","))
    assert json.loads(json.dumps(document)) == document


def test_operations_name_channels_that_exist() -> None:
    document = asyncapi()
    for operation in document["operations"].values():
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in document["channels"]
