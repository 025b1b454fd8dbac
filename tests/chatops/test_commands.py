"""Each slash command: what it becomes, and what it says when it cannot become anything."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chatops.board import Board, Row
from chatops.command import Asked, NotUnderstood, Text, known
from schemas import commands as cmd
from schemas.messages import COMMANDS
from schemas.policy import Approver, Policy
from schemas.values import Sender
from tests.conductor.rig import DANA, START, TICKET, Rig

ORIGIN = "github:acme/models"
LATER = START + timedelta(days=1)


def session(*, gate: bool = True) -> Row:
    """What chat-ops sees of a session, waiting at a gate of two approvals or just started."""
    ticket = TICKET.model_copy(update={"origin": ORIGIN})
    rig = Rig(ticket=ticket, policy=Policy(approvers=(Approver(name="dana"), Approver(name="erik"))))
    if gate:
        rig.to("build-it").work()
        rig.decide("approve", DANA)
    else:
        rig.start()
    board = Board()
    for envelope in rig.log:
        board.apply(envelope)
    row = board.of_ticket("github:Acme/Models", 12)
    assert row is not None
    return row


def meaning(text: str, row: Row | None = None, written: datetime = LATER) -> Any:
    name, _, words = text.lstrip("/").partition(" ")
    return known()[name].meaning(Asked(words, row or session(), written))


GATE = "s12-abcde.build-it.1"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/approve", cmd.DecideGate(gate=GATE, decision="approve")),
        (f"/approve {GATE}", cmd.DecideGate(gate=GATE, decision="approve")),
        ("/approve ABCDEF0", cmd.DecideGate(gate=GATE, decision="approve", commit="abcdef0")),
        (f"/approve {GATE}  abcdef0", cmd.DecideGate(gate=GATE, decision="approve", commit="abcdef0")),
        ("/approve cancel", cmd.CancelApproval(gate=GATE)),
        (f"/approve Cancel {GATE}", cmd.CancelApproval(gate=GATE)),
        ("/reject recall is 0.8", cmd.DecideGate(gate=GATE, decision="reject", reason="recall is 0.8")),
        (f"/reject {GATE} too low", cmd.DecideGate(gate=GATE, decision="reject", reason="too low")),
        ("/hold", cmd.HoldGate(gate=GATE)),
        (f"/hold {GATE} legal looks at it", cmd.HoldGate(gate=GATE, reason="legal looks at it")),
        ("/unhold done", cmd.UnholdGate(gate=GATE, reason="done")),
        ("/retry", cmd.RetryPhase()),
        ("/retry data is back", cmd.RetryPhase(reason="data is back")),
        ("/pause maintenance", cmd.PauseSession(reason="maintenance")),
        ("/resume", cmd.ResumeSession()),
        ("/abort no longer wanted", cmd.AbortSession(reason="no longer wanted")),
        ("/rollback plan-it", cmd.RollbackSession(phase="plan-it")),
        ("/rollback plan-it wrong column", cmd.RollbackSession(phase="plan-it", reason="wrong column")),
        (f"/override {GATE} the release waits", cmd.OverrideGate(gate=GATE, reason="the release waits")),
    ],
)
def test_what_it_becomes(text: str, command: object) -> None:
    assert meaning(text) == command


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("/approve please", "is neither a gate nor a commit"),
        ("/approve not yet", "is neither a gate nor a commit"),
        ("/approve abcdef", "is neither a gate nor a commit"),
        ("/approve `@everyone", "is neither a gate nor a commit"),
        (f"/approve {GATE} abcdef0 now", "is neither a gate nor a commit"),
        ("/approve s12-abcde.build-it.2", "has no gate `s12-abcde.build-it.2`; open: `s12-abcde.build-it.1`"),
        ("/approve s13-xxxxx.build-it.1", "has no gate"),
        ("/approve cancel everything", "is no gate"),
        ("/reject", "a reason is missing: `/reject [gate] reason`"),
        (f"/reject {GATE}", "a reason is missing"),
        ("/abort", "a reason is missing"),
        ("/rollback", "name a phase that has started"),
        ("/rollback elsewhere", "name a phase that has started"),
        ("/override the release waits", "an override names its gate"),
        (f"/override {GATE}", "a reason is missing"),
        ("/help dance", "there is no such command"),
    ],
)
def test_what_is_not_understood(text: str, why: str) -> None:
    with pytest.raises(NotUnderstood, match=re.escape(why)):
        meaning(text)


@pytest.mark.parametrize("text", ["/approve", "/approve cancel", "/reject why", "/hold", "/unhold", "/explain"])
def test_a_gate_must_be_open_when_none_is_named(text: str) -> None:
    with pytest.raises(NotUnderstood, match="no gate of ticket 12 waits"):
        meaning(text, session(gate=False))


@pytest.mark.parametrize("text", ["/approve", "/approve cancel", "/reject why", "/hold"])
def test_a_gate_must_be_named_when_several_are_open(text: str) -> None:
    row = session()
    (gate,) = row.open_gates
    row.gates["s12-abcde.other-it.1"] = type(gate)(
        "s12-abcde.other-it.1", "other-it", "c", 1, gate.opened, "", {}
    )  # fmt: skip
    with pytest.raises(NotUnderstood, match=f"`{GATE}`, `s12-abcde.other-it.1`"):
        meaning(text, row)
    assert meaning(f"/approve {GATE}", row).gate == GATE


def test_words_from_before_a_gate_do_not_mean_it() -> None:
    row = session()
    (gate,) = row.open_gates
    early = gate.opened - timedelta(seconds=2)
    with pytest.raises(NotUnderstood, match="was opened after this was written"):
        meaning("/approve", row, early)
    assert meaning("/approve", row, gate.opened.replace(microsecond=0)).gate == GATE
    assert meaning(f"/approve {GATE}", row, early).gate == GATE, "an id names one gate for ever"


def test_answers_that_need_no_command() -> None:
    status = meaning("/status")
    assert isinstance(status, Text)
    assert "1 of 2 approvals" in status.text
    explained = meaning("/explain").text
    assert all(part in explained for part in (GATE, "dana", "model.bin", "policy `bbbbbbbbbbbb`"))
    everything = meaning("/help").text
    assert all(f"`/{name}" in everything for name in known())
    assert meaning("/help approve").text.startswith("- `/approve [gate] [sha]`")
    assert meaning("/help /approve").text == meaning("/help approve").text


def test_every_command_explains_itself_and_chat_ops_may_send_what_it_becomes() -> None:
    assert {"approve", "reject", "hold", "unhold", "retry", "pause", "resume", "abort", "rollback", "override",
            "status", "explain", "help"} == set(known())  # fmt: skip
    for name, command in known().items():
        assert command.usage
        assert all(line.split()[0] == f"/{name}" for line in command.usage)
        assert command.help.endswith(".")
    allowed = {name for name, kind in COMMANDS.items() if Sender.CHATOPS in kind.senders}
    assert allowed == {"decide_gate", "cancel_approval", "hold_gate", "unhold_gate", "retry_phase", "pause_session",
                       "resume_session", "abort_session", "rollback_session", "override_gate",
                       "request_answer"}  # fmt: skip


def test_the_board_follows_a_session() -> None:
    row = session()
    assert (row.status, row.phase, row.open_gates[0].by) == ("active", "build-it", ["dana"])
    assert row.started.tzinfo is UTC
    assert row.policy.approvers[0].name == "dana"
