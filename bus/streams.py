"""The JetStream streams and durable consumers there are, and making the server's agree with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from bus.answers import ApiError
from bus.connection import Connection
from bus.permissions import LIVE, agent_consumer_name
from bus.port import BusError, ConsumerSpec
from schemas.subjects import ROOT
from schemas.values import Role

log = structlog.get_logger(__name__)

_SECOND = 1_000_000_000  # JetStream counts nanoseconds
_MIB = 1024 * 1024
DUPLICATE_SECONDS = 120
"""How long JetStream remembers message ids. Beyond it the store's inbox and the consumers' own idempotence hold."""

UNSEEN_DELIVERIES = 16
"""The server's `max_deliver` is the spec's and these. The client gives a message up at the spec's number and writes the
dead letter; the server's own limit would leave it in the stream unseen, so it is only there to end a loop."""

_COMMON: dict[str, Any] = {"storage": "file", "duplicate_window": DUPLICATE_SECONDS * _SECOND, "allow_direct": True}

STREAMS: dict[str, dict[str, Any]] = {
    # A full inbox refuses new commands (the sender hears of it) rather than forget old ones.
    "VT_COMMANDS": _COMMON
    | {
        "subjects": [f"{ROOT}.*.cmd.>"],
        "retention": "workqueue",
        "discard": "new",
        "max_bytes": 256 * _MIB,
        "allow_direct": False,
    },
    # No limit: what it loses, followers miss until the relay's next rewind. `republish` rings for them after storing.
    "VT_EVENTS": _COMMON
    | {
        "subjects": [f"{ROOT}.*.evt.>"],
        "retention": "limits",
        "discard": "old",
        "allow_atomic": True,
        "republish": {"src": ">", "dest": f"{LIVE}.>", "headers_only": True},
    },
    "VT_TELEMETRY": _COMMON
    | {
        "subjects": [f"{ROOT}.*.tel.>"],
        "retention": "limits",
        "discard": "old",
        "storage": "memory",
        "max_age": 600 * _SECOND,
        "max_bytes": 32 * _MIB,
        "allow_direct": False,
    },
    "VT_DEAD": _COMMON
    | {"subjects": [f"{ROOT}.*.dead.>"], "retention": "limits", "discard": "new", "max_bytes": 256 * _MIB},
}

_RESERVED = sum(
    config["max_bytes"] for config in STREAMS.values() if config["storage"] == "file" and "max_bytes" in config
)
_NO_STORAGE = 10047
"""JetStream's error code for insufficient storage."""

CONDUCTOR = ConsumerSpec("VT_COMMANDS", "conductor", (f"{ROOT}.*.cmd.>",), max_in_flight=256)
RESTARTS = 64
"""Deliveries of long work before it is given up: each time a drive is stopped in the middle counts as one."""

_TO_DO = (f"{ROOT}.*.evt.*.effect_requested.*", f"{ROOT}.*.evt.*.selection_recorded.*")
EFFECTS = ConsumerSpec("VT_EVENTS", "autopilot-effects", _TO_DO, max_deliver=RESTARTS)
"""What is done outside the record: effects, and telling people which tickets of a selection cannot be read."""
ANSWERS = ConsumerSpec("VT_EVENTS", "autopilot-answers", (f"{ROOT}.*.evt.*.answer_requested.*",), max_deliver=RESTARTS)
"""A consumer of its own: no person's answer waits behind an effect, nor an effect behind answers."""

FETCHES = ConsumerSpec("VT_EVENTS", "autopilot-fetches", _TO_DO[:1], max_deliver=RESTARTS, max_in_flight=2)
"""Rows of named sources: reading them may take minutes, for which no other effect waits."""


def agent_consumer(role: Role | str) -> ConsumerSpec:
    """The phases handed to one agent; its replicas share it."""
    phases = (f"{ROOT}.*.evt.*.phase_started.{role}",)
    return ConsumerSpec("VT_EVENTS", agent_consumer_name(role), phases, max_deliver=RESTARTS)


CONSUMERS: tuple[ConsumerSpec, ...] = (CONDUCTOR, EFFECTS, ANSWERS, FETCHES, *(agent_consumer(role) for role in Role))


def consumer_config(spec: ConsumerSpec) -> dict[str, Any]:
    """What the server is told of a consumer. No backoff list: it would replace `ack_wait` (see `bus.consuming`)."""
    return {
        "durable_name": spec.name,
        "filter_subjects": list(spec.filters),
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": int(spec.ack_wait * _SECOND),
        "max_deliver": spec.max_deliver + UNSEEN_DELIVERIES,
        # Messages waiting for another delivery count too: room for them besides those in work.
        "max_ack_pending": max(1000, 4 * spec.max_in_flight),
    }


async def ensure(
    connection: Connection,
    consumers: Sequence[ConsumerSpec] = CONSUMERS,
    replicas: int = 1,
    *,
    change: bool = True,
) -> None:
    """Make every stream and consumer exist as declared here. Idempotent.

    What can be changed is changed, unless `change` is False: then only what is missing is made. Raises BusError naming
    what cannot (retention, storage), BusUnavailable, PermissionDenied.
    """
    for name, config in STREAMS.items():
        await _ensure_stream(connection, name, config | {"name": name, "num_replicas": replicas}, change)
    for spec in consumers:
        await _ensure_consumer(connection, spec, change)


async def _ensure_stream(connection: Connection, name: str, wanted: dict[str, Any], change: bool = True) -> None:
    try:
        present = (await connection.api(f"STREAM.INFO.{name}"))["config"]
    except ApiError as refused:
        if refused.code != 404:
            raise
        try:
            await connection.api(f"STREAM.CREATE.{name}", wanted)
        except ApiError as full:
            if full.err_code != _NO_STORAGE:
                raise
            raise BusError(
                f"the NATS server has no room for the JetStream stream {name}: it sets aside {_RESERVED // _MIB} MiB "
                f"for VT_COMMANDS and VT_DEAD; free some space on its disk, or raise its max_file_store"
            ) from full
        log.info("bus_stream_made", stream=name)
        return
    changes = _differences(present, wanted)
    if not changes or not change:
        return
    try:
        await connection.api(f"STREAM.UPDATE.{name}", wanted)
    except ApiError as refused:
        raise BusError(
            f"JetStream stream {name} exists with {changes}, which the server will not change "
            f"({refused.description}): stop all components, delete that stream (the store holds every event and the "
            f"relay publishes them again), and start again"
        ) from refused
    log.info("bus_stream_changed", stream=name, changes=changes)


async def _ensure_consumer(connection: Connection, spec: ConsumerSpec, change: bool = True) -> None:
    wanted = consumer_config(spec)
    action = ""
    try:
        present = (await connection.api(f"CONSUMER.INFO.{spec.stream}.{spec.name}"))["config"]
        changes = _differences(present, wanted)
        if not changes or not change:
            return
        action = "update"
    except ApiError as refused:
        if refused.code != 404:
            raise
        changes, action = "", "create"
    body = {"stream_name": spec.stream, "config": wanted, "action": action}
    try:
        await connection.api(f"CONSUMER.CREATE.{spec.stream}.{spec.name}", body)
    except ApiError as refused:
        raise BusError(
            f"consumer {spec.name} of {spec.stream} cannot be {action}d {changes}: {refused.description}; "
            f"delete that consumer and start again (its messages are delivered anew)"
        ) from refused
    log.info("bus_consumer_made" if action == "create" else "bus_consumer_changed", consumer=spec.name, changes=changes)


def _differences(present: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Which declared settings the server has otherwise, as text: `retention limits instead of workqueue`."""
    return ", ".join(
        f"{key} {present.get(key)} instead of {value}"
        for key, value in wanted.items()
        if present.get(key, False if value is False else None) != value
    )
