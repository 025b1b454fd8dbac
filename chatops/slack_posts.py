"""Posting gates to Slack: each session one thread, each gate one message that is brought up to date.

Slack has no idempotent write. So an intent is on disk before a message is posted, and after a crash in between the
channel is searched for the message's metadata before anything is posted again.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler

from chatops.board import Board, GateRow, Row
from chatops.position import BadPosition, write
from chatops.slack import plain, shown

EVENT = "valuetrain"


class SlackError(Exception):
    """Slack did not do what was asked; the message says what and why, never with the token."""


@dataclass(slots=True)
class _Shown:
    """A message: its time stamp ("" while it is being posted), and what it shows."""

    stamp: str
    state: str = ""


class Poster:
    """Keeps Slack's messages like the board. Writes from one thread at a time."""

    def __init__(self, client: WebClient, channel: str, path: Path) -> None:
        """`path` remembers what was posted. Raises BadPosition when it cannot be read."""
        # Its own handler would post a second time after a broken connection, which may have come after the first.
        client.retry_handlers[:] = [RateLimitErrorRetryHandler(max_retry_count=2)]
        self._client = client
        self._channel = channel
        self._path = path
        self._lock = threading.Lock()
        try:
            content = json.loads(path.read_text("utf-8")) if path.exists() else {}
            self._messages = {str(key): _Shown(str(stamp), str(state)) for key, (stamp, state) in content.items()}
        except (OSError, ValueError, TypeError, AttributeError) as problem:
            raise BadPosition(
                f"{path} cannot be read ({problem}); remove it: open gates are then posted anew"
            ) from None

    def shown_as(self, gate: str) -> str | None:
        """The time stamp of the message that shows a gate."""
        message = self._messages.get(gate)
        return message.stamp if message is not None and message.stamp else None

    def tell(self, user: str, gate: str, text: str) -> None:
        """Say something to one person in the gate's thread. Raises SlackError."""
        thread = self._messages.get(gate.partition(".")[0])
        self._call("chat.postEphemeral", user=user, text=plain(text), **({"thread_ts": thread.stamp} if thread else {}))

    def bring_up_to_date(self, board: Board) -> None:
        """Post open gates that are not shown, and change the messages of those that changed. Raises SlackError."""
        with self._lock:
            for row in list(board.sessions.values()):
                for gate in list(row.gates.values()):
                    state = f"{gate.status} {gate.held} {','.join(gate.by)}"
                    known = self._messages.get(gate.id)
                    if known is None and gate.status != "open":
                        continue
                    if known is None or not known.stamp:
                        self._post(row, gate, state)
                    elif known.state != state:
                        self._call("chat.update", ts=known.stamp, text=_headline(row, gate), blocks=shown(row, gate))
                        self._note(gate.id, known.stamp, state)

    def _post(self, row: Row, gate: GateRow, state: str) -> None:
        thread = self._messages.get(row.id)
        if thread is None or not thread.stamp:
            title = f"Ticket {row.ticket.id}: {plain(row.ticket.title)} (session {row.id})"
            self._once(row.id, "", "", text=title)
        stamp = self._messages[row.id].stamp
        self._once(gate.id, stamp, state, text=_headline(row, gate), thread_ts=stamp, blocks=shown(row, gate))

    def _once(self, key: str, thread: str, state: str, **message: Any) -> None:
        if key in self._messages:  # a crash came between intent and receipt: it may be there
            if stamp := self._find(key, thread):
                return self._note(key, stamp, "")
        else:
            self._note(key, "", "")
        metadata = {"event_type": EVENT, "event_payload": {"key": key}}
        told = self._call("chat.postMessage", metadata=metadata, unfurl_links=False, **message)
        self._note(key, str(told["ts"]), state)

    def _find(self, key: str, thread: str) -> str | None:
        method, more = ("conversations.replies", {"ts": thread}) if thread else ("conversations.history", {})
        cursor = ""
        while True:
            told = self._call(method, include_all_metadata=True, limit=200, cursor=cursor, **more)
            for message in told.get("messages") or ():
                metadata = message.get("metadata") or {}
                if metadata.get("event_type") == EVENT and metadata["event_payload"].get("key") == key:
                    return str(message["ts"])
            cursor = (told.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return None

    def _call(self, method: str, **arguments: Any) -> Any:
        try:
            return self._client.api_call(method, json={"channel": self._channel, **arguments}).data
        except SlackApiError as problem:
            raise SlackError(f"Slack refused {method}: {problem.response.get('error', 'no reason given')}") from None
        except (SlackClientError, OSError) as problem:
            raise SlackError(f"Slack cannot be reached for {method}: {type(problem).__name__}") from None

    def _note(self, key: str, stamp: str, state: str) -> None:
        self._messages[key] = _Shown(stamp, state)
        write(self._path, {name: [each.stamp, each.state] for name, each in self._messages.items()})


def _headline(row: Row, gate: GateRow) -> str:
    return f"Gate {gate.id} of ticket {row.ticket.id} is {gate.status}"
