"""A work queue made anew with settings that the server does not change, without losing a message that waits in it."""

from __future__ import annotations

from typing import Any, Literal

import structlog

from bus.answers import ApiError
from bus.connection import Connection
from bus.port import PermissionDenied

log = structlog.get_logger(__name__)

CLOSED = "vt-closed"
"""The subject of a work queue that takes nothing for the moment: no login may publish on it."""

Made = Literal["made", "waiting", "forbidden", "raced"]


async def make_anew(connection: Connection, present: dict[str, Any], wanted: dict[str, Any]) -> Made:
    """Replace the work queue of the configuration `present` by `wanted`, if nothing waits in it.

    "waiting": something does. "forbidden": this login may not delete it. Both leave it as it was and open. "raced":
    another conductor is at it; look again. Raises ApiError, BusUnavailable. A crash in the middle leaves it closed with
    all that it holds: whoever calls next goes on.
    """
    name = wanted["name"]
    try:
        # Closed first: what is sent between the look and the deletion is refused, and sent again by its sender. The
        # server refuses this change where the queue has been made anew already.
        await connection.api(f"STREAM.UPDATE.{name}", present | {"subjects": [CLOSED]})
        found = await connection.api(f"STREAM.INFO.{name}")
        if found["config"]["subjects"] != [CLOSED]:
            return "raced"
        if found["state"]["messages"]:
            await connection.api(f"STREAM.UPDATE.{name}", present | {"subjects": wanted["subjects"]})
            return "waiting"
        try:
            await connection.api(f"STREAM.DELETE.{name}")
        except PermissionDenied:
            await connection.api(f"STREAM.UPDATE.{name}", present | {"subjects": wanted["subjects"]})
            log.warning(
                "bus_stream_not_made_anew",
                stream=name,
                reason="the NATS server's configuration is of an older version: the login may not delete the stream",
                advice="write it anew with `valuetrain credentials server-config`",
            )
            return "forbidden"
        # Its sequences go on: a dead letter is known by its stream and sequence (and, for all cases, by a digest).
        await connection.api(f"STREAM.CREATE.{name}", wanted | {"first_seq": found["state"]["last_seq"] + 1})
    except ApiError as refused:
        log.info("bus_stream_changed_meanwhile", stream=name, problem=str(refused))
        return "raced"
    return "made"
