"""Slack: a thread for each session, a message with buttons for each gate, and what people click.

A click comes by a signed request (`chatops.slack_http`) or over a connection that we opened (`chatops.slack_socket`),
and counts by the user's id in it. The buttons name the gate; they are ours only in the message posted for that gate.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import anyio.to_thread
import structlog

from bus.port import Bus, BusUnavailable, NoReceipt
from chatops.board import Board, GateRow, Row
from chatops.grammar import LONGEST_WORDS
from schemas.commands import DecideGate, HoldGate, UnholdGate
from schemas.envelope import CommandEnvelope, StreamId
from schemas.ids import SAID
from schemas.messages import Command
from schemas.values import Actor, Sender

_log = structlog.get_logger("chatops")
ANSWER_SECONDS = 2.5
"""Slack gives up on a click that is not answered within three."""
_USER = re.compile(r"[UW][A-Z0-9]{2,20}")


class Posts(Protocol):
    """Where gates are shown; see `chatops.slack_posts.Poster`."""

    def shown_as(self, gate: str) -> str | None:
        """The time stamp of the message that shows a gate; None when none does."""

    def tell(self, user: str, gate: str, text: str) -> None:
        """Say something to one person in the gate's thread. Blocking. Raises SlackError."""


@dataclass(frozen=True, slots=True)
class Click:
    """A button that somebody pressed, as Slack says."""

    user: str
    gate: str
    action: str
    reason: str
    key: str
    """The same for the same click, and for no other."""


class BadClick(Exception):
    """A message that is no click of ours; the text is for the log."""


class Unanswered(Exception):
    """The conductor gave no verdict in time; the text is for who clicked. The same click may be carried out again."""


class Clicks:
    """What clicks ask for, carried out; the same for both ways that they come."""

    def __init__(
        self,
        channel: str,
        bus: Bus,
        tenant: str,
        board: Board,
        posts: Posts,
    ) -> None:
        """`channel` is the id of the channel the gates are posted to."""
        self._channel = channel
        self._bus = bus
        self._tenant = tenant
        self._board = board
        self._posts = posts

    def read(self, payload: Any) -> Click:
        """The click that a payload tells of. Raises BadClick."""
        return click_in(payload, self._channel, self._posts.shown_as)

    async def tell(self, click: Click, refused: str) -> None:
        """Say to who clicked why nothing was done; nobody else sees it. Raises SlackError."""
        _log.info("click_refused", gate=click.gate, reason=refused)
        await anyio.to_thread.run_sync(self._posts.tell, click.user, click.gate, refused)

    async def carry_out(self, click: Click) -> str | None:
        """Do what a click asks for; why it was not done, or None. Takes ANSWER_SECONDS at the most.

        Raises Unanswered.
        """
        session = self._board.sessions.get(click.gate.partition(".")[0])
        gate = session.gates.get(click.gate) if session is not None else None
        if session is None or gate is None:
            return f"there is no gate {click.gate}"
        name = session.policy.owner_of(click.user)
        if name is None:
            return "the policy that this session runs under does not name you (`slack: " + click.user + "`)"
        if click.action == "reject" and not click.reason:
            return "a rejection needs a reason: write it into the field first"
        envelope = CommandEnvelope(
            id=f"{SAID}slack.{click.key}",
            stream=StreamId(self._tenant, "session", session.id),
            time=datetime.now(UTC),
            actor=Actor(name=name, channel="slack", verified_as=f"slack:{click.user}"),
            sender=Sender.CHATOPS.value,
            correlation_id=session.id,
            causation_id="",
            command=command_of(click, gate),
        )
        try:
            verdict = await self._bus.send(envelope, timeout=ANSWER_SECONDS)
        except (NoReceipt, BusUnavailable) as problem:
            _log.warning("click_unanswered", gate=click.gate, reason=str(problem))
            raise Unanswered(
                "the conductor has not answered yet; look whether the gate changes, else press again"
            ) from problem
        return None if verdict["accepted"] else str(verdict["reason"])


def command_of(click: Click, gate: GateRow) -> Command:
    """The conductor's command. An approval names the commit that the message shows."""
    match click.action:
        case "approve":
            return DecideGate(gate=gate.id, decision="approve", reason=click.reason, commit=gate.commit)
        case "reject":
            return DecideGate(gate=gate.id, decision="reject", reason=click.reason, commit=gate.commit)
        case "hold":
            return HoldGate(gate=gate.id, reason=click.reason)
        case _:
            return UnholdGate(gate=gate.id, reason=click.reason)


ACTIONS = ("approve", "reject", "hold", "unhold")


def click_in(payload: Any, channel: str, shown_as: Callable[[str], str | None]) -> Click:
    """The click in what Slack says of an interaction. Raises BadClick."""
    try:
        if payload["type"] != "block_actions":
            raise BadClick(f"it is of type {str(payload['type'])[:40]}")
        (pressed,) = payload["actions"]
        user, team = payload["user"], payload["team"]["id"]
        action, gate, stamp = pressed["action_id"], pressed["value"], payload["container"]["message_ts"]
        found = payload["state"]["values"].get("reason", {}).get("reason", {}).get("value") or ""
        parts = (team, payload["channel"]["id"], stamp, pressed["action_ts"], user["id"], action, gate)
        if not all(isinstance(part, str) for part in (*parts, found)):
            raise BadClick("its parts are no texts")
        if user.get("team_id", team) != team:
            raise BadClick("the user is a guest of another workspace")
    except BadClick:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise BadClick(f"it is not what Slack sends ({type(problem).__name__})") from problem
    if not _USER.fullmatch(user["id"]):
        raise BadClick("its user has no id")
    if action not in ACTIONS:
        raise BadClick("its action is none of ours")
    if payload["channel"]["id"] != channel or shown_as(gate) != stamp:
        raise BadClick("it was pressed in another message than the gate's")
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    return Click(user["id"], gate, action, found.strip()[:LONGEST_WORDS], key)


def shown(row: Row, gate: GateRow) -> list[dict[str, Any]]:
    """The blocks of a gate's message: what it is bound to, and while it is open a field and buttons."""
    artifacts = "\n".join(f"• {plain(name)}  {digest[:12]}" for name, digest in list(gate.artifacts.items())[:15])
    state = f"{gate.status}{', held' if gate.held else ''}, {len(gate.by)} of {gate.quorum} approvals"
    by = f" ({plain(', '.join(gate.by))})" if gate.by else ""
    about = (
        f"*{plain(gate.id)}*  {state}{by}\nTicket {row.ticket.id}: {plain(row.ticket.title)}\n"
        f"{plain(gate.reason)[:600]}\nCommit {gate.commit[:12]}, policy {row.policy_version[:12]}\n{artifacts}"
    )
    blocks: list[dict[str, Any]] = [{"type": "section", "text": {"type": "mrkdwn", "text": about[:2900]}}]
    if gate.status != "open":
        return blocks
    blocks.append(
        {
            "type": "input",
            "block_id": "reason",
            "optional": True,
            "label": {"type": "plain_text", "text": "Reason (a rejection needs one)"},
            "element": {"type": "plain_text_input", "action_id": "reason", "max_length": LONGEST_WORDS},
        }
    )
    pressed = [("approve", "Approve", "primary"), ("reject", "Reject", "danger")]
    pressed.append(("unhold", "Release", "") if gate.held else ("hold", "Hold", ""))
    buttons = [
        {"type": "button", "action_id": action, "value": gate.id, "text": {"type": "plain_text", "text": text}}
        | ({"style": style} if style else {})
        for action, text, style in pressed
    ]
    return [*blocks, {"type": "actions", "block_id": "decide", "elements": buttons}]


def plain(text: str) -> str:
    """Text of unknown origin: it names nobody and links nowhere."""
    line = " ".join(text.split())
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("*", "∗").replace("`", "'")
