"""Subjects: a message's address follows from the message, and the sender from the address."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.envelope import CommandEnvelope
from schemas.registry import COMMANDS, EVENTS
from schemas.subjects import command_sender, command_subject, event_subject, publish_subjects, telemetry_subject
from schemas.values import Role
from tests.golden.samples import envelope_of, sample
from tests.schemas import strategies
from tests.schemas.test_envelope import COMMAND, EVENT


def test_a_command_s_address() -> None:
    assert command_subject(COMMAND) == "vt.default.cmd.s12-abcde.abort_session.operator"


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(sorted(COMMANDS)))
def test_address_and_sender_agree(data: st.DataObject, name: str) -> None:
    if name == "start_session":
        return  # as any other, but slow to make
    envelope: CommandEnvelope = data.draw(strategies.commands(COMMANDS[name]))
    subject = command_subject(envelope)
    assert command_sender(subject) == envelope.sender
    assert subject.split(".") == [
        "vt", envelope.stream.tenant, "cmd", envelope.stream.name, name, envelope.sender]  # fmt: skip


@pytest.mark.parametrize(
    "subject",
    [
        "", "vt", "vt.default.cmd.s1.abort_session", "vt.default.cmd.s1.abort_session.operator.more",
        "tv.default.cmd.s1.abort_session.operator", "vt.default.evt.s1.abort_session.operator",
        "VT.default.cmd.s1.abort_session.operator",
    ],
)  # fmt: skip
def test_what_is_no_command_s_address(subject: str) -> None:
    with pytest.raises(ValueError, match="not a command subject"):
        command_sender(subject)


def test_an_event_is_addressed_to_its_agent_or_to_nobody() -> None:
    assert event_subject(EVENT) == "vt.default.evt.s12-abcde.phase_completed._"
    started = replace(EVENT, event=sample(EVENTS["phase_started"].cls))
    assert event_subject(started) == "vt.default.evt.s12-abcde.phase_started.lead"  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", EVENTS.values(), ids=lambda k: k.name)
def test_every_event_has_an_address_of_six_tokens(kind: object) -> None:
    subject = event_subject(envelope_of(kind))  # type: ignore[arg-type]
    assert len(subject.split(".")) == 6
    assert all(subject.split("."))


def test_progress_has_an_address() -> None:
    assert telemetry_subject("default", "s1", Role.DATA, "progress") == "vt.default.tel.s1.data.progress"
    assert telemetry_subject("default", "s1", "data", "log") == "vt.default.tel.s1.data.log"


def test_each_login_publishes_what_commands_name_it_for_and_no_more() -> None:
    assert publish_subjects("t", "lead") == tuple(
        f"vt.t.cmd.*.{name}.lead" for name in ("claim_attempt", "extend_attempt", "report_failure", "report_work")
    )
    assert publish_subjects("t", "operator") == tuple(
        f"vt.t.cmd.*.{name}.operator"
        for name in (
            "abort_session", "cancel_approval", "change_priority", "decide_gate", "discard_dead_letter",
            "drain_drive", "fork_session", "hold_gate", "override_gate", "pause_session", "reassign_attempt",
            "requeue_dead_letter", "restore_session",
            "resume_session", "retry_phase", "rollback_session", "send_back", "unhold_gate",
        )
    )  # fmt: skip
    assert publish_subjects("t", "chatops") == tuple(
        f"vt.t.cmd.*.{name}.chatops"
        for name in (
            "abort_session", "cancel_approval", "decide_gate", "hold_gate", "override_gate", "pause_session",
            "request_answer", "resume_session", "retry_phase", "rollback_session", "unhold_gate",
        )
    )  # fmt: skip
    assert publish_subjects("t", "conductor") == tuple(
        f"vt.t.cmd.*.{name}.conductor"
        for name in (
            "expire_attempt", "expire_gate", "expire_idle", "record_dead_letter", "record_requeue", "start_retry",
        )
    )  # fmt: skip
    assert publish_subjects("t", "autopilot") == tuple(
        f"vt.t.cmd.*.{name}.autopilot"
        for name in (
            "end_drive", "open_breaker", "record_answer", "record_effect", "record_effect_failure",
            "record_selection", "report_edits", "start_drive", "start_session",
        )
    )  # fmt: skip
    assert publish_subjects("t", "observer") == ()


def test_no_agent_decides_a_gate() -> None:
    for role in Role:
        assert not any("decide_gate" in subject for subject in publish_subjects("t", role.value))
