"""The wire format is for ever: names, versions, fields and bytes that were once committed stay readable."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.envelope import decode_command, decode_event, encode_command, encode_event
from schemas.messages import MessageType
from schemas.registry import COMMANDS, EVENTS
from tests.golden.samples import MESSAGES, NAMES, line_of

REGISTRY = {"commands": COMMANDS, "events": EVENTS}
COMMITTED: dict[str, dict[str, dict[str, list[str]]]] = json.loads(NAMES.read_text("utf-8"))
LINES = MESSAGES.read_bytes().splitlines()
READABLE = "history must stay readable"
ADD = "run `python -m tests.golden.make_messages` and commit what it adds"


def name_of(line: bytes) -> str:
    body = json.loads(line)
    return f"{'command' if 'sender' in body else 'event'}-{body['type']}-{body['version']}"


def _always_written(message: MessageType, committed: list[str]) -> list[str]:
    """The fields of a message, but for those added at its end since, which are left out of the bytes while they have
    their default (`schemas.values.later`): they change no record, and no decision that was recorded."""
    fields = list(message.cls.model_fields)
    added = [name for name in fields if name not in committed]
    silent = all(message.cls.model_fields[name].exclude_if is not None for name in added)
    return fields[: len(fields) - len(added)] if silent and fields[len(fields) - len(added) :] == added else fields


def complaints(
    committed: dict[str, dict[str, dict[str, list[str]]]], registry: dict[str, dict[str, MessageType]]
) -> list[str]:
    """What of `committed` the registry no longer keeps, and what it has that nobody committed."""
    found = []
    for kind, names in committed.items():
        for name, versions in names.items():
            message = registry[kind].get(name)
            if message is None:
                found.append(f"{kind} {name} is gone: {READABLE}; put the class back (or give it name={name!r})")
                continue
            newest = str(message.version)
            if int(newest) < max(map(int, versions)):
                found.append(f"{kind} {name} went back to version {newest}: {READABLE}")
            elif newest not in versions:
                found.append(f"{kind} {name} has a new version {newest}: {ADD}")
            elif versions[newest] != _always_written(message, versions[newest]):
                found.append(
                    f"{kind} {name} version {newest} had the fields {versions[newest]} and now has "
                    f"{list(message.cls.model_fields)}: {READABLE}; declare version {int(newest) + 1} with an upcaster"
                )
        for name in registry[kind].keys() - names.keys():
            found.append(f"{kind} {name} is new: {ADD}")
    return found


def test_every_name_version_and_field_that_was_committed_is_kept() -> None:
    assert complaints(COMMITTED, REGISTRY) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["events"].update(train_left={"1": []}), "events train_left is gone: history must stay readable"),
        (lambda c: c["events"]["phase_started"].update({"2": []}), "events phase_started went back to version 1"),
        (lambda c: c["events"]["phase_started"]["1"].append("x"), "events phase_started version 1 had the fields"),
        (lambda c: c["events"]["phase_started"]["1"].pop(), "events phase_started version 1 had the fields"),
        (lambda c: c["events"]["effect_recorded"]["1"].pop(), "events effect_recorded version 1 had the fields"),
        (lambda c: c["events"]["phase_started"]["1"].reverse(), "declare version 2 with an upcaster"),
        (lambda c: c["commands"].pop("claim_attempt"), "commands claim_attempt is new: run `python -m"),
        (lambda c: c["commands"].update(claim_attempt={"0": []}), "commands claim_attempt has a new version 1: run"),
    ],
)
def test_whatever_is_not_kept_is_explained(change: Any, said: str) -> None:
    committed = json.loads(json.dumps(COMMITTED))
    change(committed)
    (complaint,) = complaints(committed, REGISTRY)
    assert said in complaint


@pytest.mark.parametrize("line", LINES, ids=name_of)
def test_the_committed_bytes_are_read_for_ever(line: bytes) -> None:
    body = json.loads(line)
    if "sender" in body:
        command = decode_command(line)
        current, again = COMMANDS[body["type"]].version, encode_command(command)
    else:
        event = decode_event(line)
        current, again = EVENTS[body["type"]].version, encode_event(event)
    if body["version"] == current:
        assert again == line, "the canonical form changed: hashes of stored events would no longer fit"


def test_every_message_has_a_sample_of_its_version() -> None:
    have = {("sender" in b, b["type"], b["version"]) for b in map(json.loads, LINES)}
    assert len(have) == len(LINES), "two samples of one version"
    for kind, registry in REGISTRY.items():
        for name, message in registry.items():
            assert (kind == "commands", name, message.version) in have, f"{kind} {name} has no sample: {ADD}"


@pytest.mark.parametrize("kind", [*EVENTS.values(), *COMMANDS.values()], ids=lambda k: f"{k.kind}-{k.name}")
def test_samples_fill_every_field(kind: MessageType) -> None:
    body = json.loads(line_of(kind))["data"]
    assert set(body) == set(kind.cls.model_fields)
    defaults = {n: f.get_default(call_default_factory=True) for n, f in kind.cls.model_fields.items()}
    message = kind.cls.model_validate(body)
    assert [n for n, default in defaults.items() if getattr(message, n) == default] == []
