"""What the sessions do: tickets through the pipeline `chaos.yaml`, a person who decides gates, rolls back and retries.

Everything that has an effect on the result follows from the ticket's number, so a run with faults must end as one
without.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from schemas import commands as cmd
from schemas.envelope import CommandEnvelope, StreamId
from schemas.messages import Command
from schemas.pipeline import PipelineDefinition
from schemas.policy import Approver, Policy
from schemas.ticket import Budget, Ticket
from schemas.values import Actor, RiskLevel, Sender

TENANT = "default"
EVENTS = (f"vt.{TENANT}.evt.>",)
"""What those follow who follow everything."""

ROLES = ("lead", "data", "evaluation")
PERSON = Actor(name="dana", channel="cli", verified_as="os:dana")
MACHINE = Actor(name="autopilot", channel="bus", verified_as="login:autopilot")
BACK_TO = "review"
"""The phase a rolled back session goes back to."""


def pipeline() -> PipelineDefinition:
    """The definition in `chaos.yaml`."""
    return PipelineDefinition.model_validate(yaml.safe_load(Path(__file__).with_name("chaos.yaml").read_text("utf-8")))


def asks_person(ticket: int) -> bool:
    """Whether the ticket's review waits for a person."""
    return ticket % 3 == 0


def goes_back(ticket: int) -> bool:
    """Whether the ticket's session is rolled back once it is completed, and taken through again."""
    return ticket % 5 == 0


def session_of(ticket: int) -> str:
    """The ticket's session."""
    return f"s{ticket}"


def ticket_of(session: str) -> int:
    """The session's ticket."""
    return int(session.removeprefix("s"))


@dataclass(frozen=True, slots=True)
class Workload:
    """`sessions` tickets on the repository at `repository`."""

    sessions: int
    repository: Path
    base_commit: str
    signing_key: Path

    def start(self, ticket: int) -> CommandEnvelope:
        """The command that starts a ticket's session."""
        command = cmd.StartSession(
            ticket=Ticket(
                id=ticket,
                title=f"Ticket {ticket}",
                pipeline="chaos",
                risk=RiskLevel.MEDIUM if asks_person(ticket) else RiskLevel.LOW,
                requester="alice",
                budget=Budget(minutes=1e5),
            ),
            ticket_digest=f"{ticket:064x}",
            drive="d-chaos",
            pipeline=pipeline(),
            policy=Policy(approvers=(Approver(name=PERSON.name),), signing_key=str(self.signing_key)),
            policy_version="0" * 64,
            repository=str(self.repository),
            base_commit=self.base_commit,
            branch=f"phase/delivery_{ticket}-chaos",
            roots=(),
            seed=ticket,
        )
        return envelope(f"chaos-start-{ticket}", session_of(ticket), command, MACHINE, Sender.AUTOPILOT)


def envelope(id: str, session: str, command: Command, actor: Actor, sender: Sender) -> CommandEnvelope:
    """A command under an id that a sender started again chooses again: the inbox must answer with the first verdict."""
    return CommandEnvelope(
        id=id,
        stream=StreamId(TENANT, "session", session),
        time=datetime.now(UTC),
        actor=actor,
        sender=sender.value,
        correlation_id=session,
        causation_id="",
        command=command,
    )


def approve(session: str, gate: str) -> CommandEnvelope:
    """The person's yes."""
    command = cmd.DecideGate(gate=gate, decision="approve", reason="fine")
    return envelope(f"chaos-approve-{gate}", session, command, PERSON, Sender.OPERATOR)


def roll_back(session: str) -> CommandEnvelope:
    """Back to `BACK_TO`."""
    command = cmd.RollbackSession(phase=BACK_TO, reason="once more")
    return envelope(f"chaos-rollback-{session}", session, command, PERSON, Sender.OPERATOR)


def retry(session: str) -> CommandEnvelope:
    """On from there."""
    command = cmd.RetryPhase(reason="go on")
    return envelope(f"chaos-retry-{session}", session, command, PERSON, Sender.OPERATOR)
