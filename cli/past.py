"""A session's past from its events: what it cost, how long it took, who decided, and which risks showed themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from agents.skill import InputError
from schemas import model_messages as models
from schemas import session as ev
from schemas.envelope import EventEnvelope
from schemas.history import Decision, Ending, PastSession, Signal, Spent, Wait
from schemas.messages import Event
from schemas.ticket import Ticket
from schemas.values import FailureClass

FAILURES = {
    FailureClass.INPUT: "stale-or-invalid-inputs",
    FailureClass.POLICY: "mode-misfire",
    FailureClass.LIMIT: "resource-blow-out",
    FailureClass.TRANSIENT: "orchestration-breakdown",
    FailureClass.AGENT: "orchestration-breakdown",
}
"""The risk that a failed attempt of each class is a sign of."""
CRITERIA = {
    "audit.": "silent-failure",
    "baseline.": "no-evaluation-baseline",
    "data.": "stale-or-invalid-inputs",
    "drift.": "stale-or-invalid-inputs",
    "leakage.": "stale-or-invalid-inputs",
    "review.": "silent-failure",
    "tests.": "silent-failure",
    "release.": "silent-failure",
    "canary.": "silent-failure",
    "advisories.": "security-breach",
    "costs.": "resource-blow-out",
}
"""The same for a criterion that does not hold, by what it reads."""


def past_session(envelopes: Iterable[EventEnvelope[Event]]) -> PastSession | None:
    """The past of one session; None for a stream that holds no start of one."""
    past = _Past()
    for envelope in envelopes:
        past.see(envelope)
    return past.told()


class _Past:
    def __init__(self) -> None:
        self.started: EventEnvelope[Event] | None = None
        self.updated: datetime | None = None
        self.ended: datetime | None = None
        self.ending: Ending = "open"
        self.agents: dict[str, str] = {}
        self.open_gates: dict[str, tuple[datetime, str]] = {}
        self.attempts = self.failed = 0
        self.decided: list[Decision] = []
        self.waits: list[Wait] = []
        self.spent: list[Spent] = []
        self.signals: list[Signal] = []
        self.measured: dict[str, float] = {}

    def see(self, envelope: EventEnvelope[Event]) -> None:
        event, time = envelope.event, envelope.time
        self.updated = time
        if isinstance(event, ev.SessionStarted):
            self.started = envelope
        elif isinstance(event, ev.PhaseStarted):
            self.agents[event.phase] = event.agent.value
            self.attempts += 1
        elif isinstance(event, ev.WorkReported | ev.AttemptFailed):
            use = event.usage
            self._spend(time, event.phase, use.wall_seconds, use.cpu_seconds, use.tokens, use.usd)
            if isinstance(event, ev.WorkReported):
                self.measured |= {f"{m.scope}.{m.name}": m.value for m in event.measurements}
            else:
                self.failed += 1
        elif isinstance(event, models.ModelCalled | models.ModelCallFailed):
            self._spend(time, event.phase, event.seconds, 0.0, event.usage.total, event.usd)
        self._gates(event, time)
        self._end(event, time)
        self.signals += [Signal(risk=risk, time=time, what=what[:300]) for risk, what in signals(event)]

    def _spend(self, time: datetime, phase: str, wall: float, cpu: float, tokens: int, usd: float) -> None:
        agent = self.agents.get(phase, "")
        self.spent.append(
            Spent(time=time, phase=phase, agent=agent, wall_seconds=wall, cpu_seconds=cpu, tokens=tokens, usd=usd)
        )

    def _gates(self, event: Event, time: datetime) -> None:
        if isinstance(event, ev.ApprovalGiven | ev.GateRejected | ev.GateOverridden):
            asked, phase = self.open_gates.get(event.gate, (time, ""))
            self.decided.append(Decision(phase=phase, by=event.by.name, asked=asked, decided=time))
        if isinstance(event, ev.GateOpened) and event.kind == "human":
            self.open_gates[event.gate] = (time, event.phase)
        elif isinstance(event, ev.GatePassed | ev.GateRejected | ev.GateSuperseded | ev.GateExpired):
            self._closed(event.gate, time)
        elif isinstance(event, ev.SessionAborted):
            for gate in list(self.open_gates):
                self._closed(gate, time)

    def _closed(self, gate: str, time: datetime) -> None:
        if gate in self.open_gates:
            opened, phase = self.open_gates.pop(gate)
            self.waits.append(Wait(phase=phase, seconds=(time - opened).total_seconds()))

    def _end(self, event: Event, time: datetime) -> None:
        endings: dict[type[Event], Ending] = {
            ev.SessionCompleted: "completed", ev.SessionBlocked: "blocked", ev.SessionAborted: "aborted",
            ev.SessionRolledBack: "rolled_back", ev.SessionResumed: "open",
        }  # fmt: skip
        if isinstance(event, ev.SessionRestored):
            restored: dict[str, Ending] = {
                "completed": "completed", "blocked": "blocked", "rolled_back": "rolled_back", "waiting": "open"
            }  # fmt: skip
            self.ending = restored[event.to_status]
        elif type(event) in endings:
            self.ending = endings[type(event)]
        else:
            return
        self.ended = time if self.ending in ("completed", "aborted") else None

    def told(self) -> PastSession | None:
        if self.started is None or self.updated is None or not isinstance(self.started.event, ev.SessionStarted):
            return None
        begun = self.started.event
        return PastSession(
            session=self.started.stream.name, ticket=begun.ticket.id, title=begun.ticket.title,
            requester=begun.ticket.requester or "", pipeline=begun.pipeline.name, labels=begun.ticket.labels,
            ending=self.ending, started=self.started.time, updated=self.updated, ended=self.ended,
            attempts=self.attempts, failed=self.failed, waited_seconds=sum(each.seconds for each in self.waits),
            decisions=len(self.decided), spent=tuple(self.spent), signals=tuple(self.signals), measured=self.measured,
            decided=tuple(self.decided), waits=tuple(self.waits), open_gates=len(self.open_gates),
            stated_hours=_stated_hours(begun.ticket),
        )  # fmt: skip


def _stated_hours(ticket: Ticket) -> float | None:
    """The hours of people's work that the ticket's text states; None where it states none, or none that is a number."""
    from agents.skills.lead.statement import read_statement

    try:
        return read_statement(ticket).number("hours of people")
    except InputError:
        return None


def signals(event: Event) -> Iterator[tuple[str, str]]:
    """The risks an event is a sign of, each with what happened."""
    if isinstance(event, ev.AttemptFailed):
        yield FAILURES[event.failure], f"{event.phase}: {event.reason}"
    elif isinstance(event, ev.EffectFailed):
        yield "orchestration-breakdown", f"{event.kind} of {event.phase}: {event.reason}"
    elif isinstance(event, ev.AttemptReassigned):
        yield "orchestration-breakdown", f"{event.phase} was taken from {event.holder}"
    elif isinstance(event, ev.CriteriaEvaluated):
        for result in event.results:
            if not result.passed:
                risk = next((r for start, r in CRITERIA.items() if start in result.expression), "")
                if risk:  # a model that is not good enough is a result, not a risk of the train
                    yield risk, f"{event.phase}: {result.expression} does not hold"
    elif isinstance(event, ev.GateExpired):
        yield "disconnected-team", f"nobody decided the gate of {event.phase} in time"
    elif isinstance(event, ev.GateOverridden):
        yield "checklist-regression", f"the gate of {event.phase} was overridden: {event.reason}"
    elif isinstance(event, ev.HandEditsFound):
        yield "artifact-chaos", f"{len(event.files)} files of the ticket's folder were edited by hand"
    elif isinstance(event, ev.PhaseRepeated) and event.kind == "pivot":
        yield "scope-drift", f"back from {event.phase} to {event.to}: {event.reason}"
