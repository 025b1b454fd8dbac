"""The JetStream streams and durable consumers there are, and making the server's agree with them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from bus.answers import ApiError
from bus.connection import Connection
from bus.permissions import LIVE, agent_consumer_name
from bus.port import BusError, BusUnavailable, ConsumerSpec
from bus.renewing import make_anew
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
    # A full inbox refuses new commands (the sender hears of it) rather than forget old ones. It is written without
    # waiting for the disk: a sender keeps its command until the receipt, which follows the record's commit.
    "VT_COMMANDS": _COMMON
    | {
        "subjects": [f"{ROOT}.*.cmd.>"],
        "retention": "workqueue",
        "persist_mode": "async",
        "discard": "new",
        "max_bytes": 256 * _MIB,
        "allow_direct": False,
    },
    # No limit: what it loses, followers miss until the relay's next rewind. `republish` brings them what is stored.
    "VT_EVENTS": _COMMON
    | {
        "subjects": [f"{ROOT}.*.evt.>"],
        "retention": "limits",
        "discard": "old",
        "allow_atomic": True,
        "republish": {"src": ">", "dest": f"{LIVE}.>"},
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

_PERSIST = "persist_mode"
"""Whether the server answers before a message is on the disk; it does not change that of a stream that exists."""

_RESERVED = sum(
    config["max_bytes"] for config in STREAMS.values() if config["storage"] == "file" and "max_bytes" in config
)
_NO_STORAGE, _IN_USE = 10047, 10058
"""JetStream's error codes for insufficient storage, and for a stream that exists with another configuration."""

_TRIES, _PAUSE_SECONDS = 50, 0.1
"""How often a stream is looked at again that another conductor is just making anew."""

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
) -> bool:
    """Make every stream and consumer exist as declared here. Idempotent. False: a work queue has other settings and
    messages; it is made anew by a call that finds it empty.

    What can be changed is changed, unless `change` is False: then only what is missing is made. Raises BusError naming
    what cannot (retention, storage), BusUnavailable, PermissionDenied.
    """
    finished = True
    for name, config in STREAMS.items():
        wanted = config | {"name": name, "num_replicas": replicas}
        if replicas > 1:  # a group of servers has no other mode than its own
            wanted.pop(_PERSIST, None)
        finished = await _ensure_stream(connection, name, wanted, change) and finished
    for spec in consumers:
        await _ensure_consumer(connection, spec, change)
    return finished


async def _ensure_stream(connection: Connection, name: str, wanted: dict[str, Any], change: bool) -> bool:
    for _ in range(_TRIES):
        present = await _present(connection, name, wanted)
        if present is None:
            return True
        anew = change and present["retention"] == wanted["retention"] and present.get(_PERSIST) != wanted.get(_PERSIST)
        outcome = await make_anew(connection, present, wanted) if anew else "none"
        if outcome == "made":
            log.info("bus_stream_made_anew", stream=name, persist_mode=wanted.get(_PERSIST, "default"))
            return True
        if outcome != "raced":
            break
        await asyncio.sleep(_PAUSE_SECONDS)
    else:
        raise BusUnavailable(f"JetStream stream {name} is being changed by others: start again once they are done")
    if outcome != "none":
        present = present | {"subjects": wanted["subjects"]}  # it is open again
        wanted = {key: value for key, value in wanted.items() if key != _PERSIST}
        wanted |= {_PERSIST: present[_PERSIST]} if _PERSIST in present else {}
    changes = _differences(present, wanted)
    if changes and change:
        try:
            await connection.api(f"STREAM.UPDATE.{name}", wanted)
        except ApiError as refused:
            raise BusError(
                f"JetStream stream {name} exists with {changes}, which the server will not change "
                f"({refused.description}): stop all components, delete that stream (the store holds every event and "
                f"the relay publishes them again), and start again"
            ) from refused
        log.info("bus_stream_changed", stream=name, changes=changes)
    return outcome != "waiting"


async def _present(connection: Connection, name: str, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The configuration of the stream there is; None when there was none and it is made now."""
    try:
        found: dict[str, Any] = (await connection.api(f"STREAM.INFO.{name}"))["config"]
        return found
    except ApiError as refused:
        if refused.code != 404:
            raise
    try:
        await connection.api(f"STREAM.CREATE.{name}", wanted)
    except ApiError as refused:
        if refused.err_code == _IN_USE:  # another conductor made it in between
            return await _present(connection, name, wanted)
        if refused.err_code != _NO_STORAGE:
            raise
        raise BusError(
            f"the NATS server has no room for the JetStream stream {name}: it sets aside {_RESERVED // _MIB} MiB "
            f"for VT_COMMANDS and VT_DEAD; free some space on its disk, or raise its max_file_store"
        ) from refused
    log.info("bus_stream_made", stream=name)
    return None


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
