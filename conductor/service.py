"""The conductor's shell: commands in, one transaction each batch, verdicts out. All judgement is in the pure modules.

Load → fold → decide → ONE transaction (events, inbox, timers, views) → acknowledge and answer. A crash before the
commit leaves the command on the bus; a crash after it leaves the verdict in the inbox: either way the sender gets one
verdict.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import anyio
import anyio.to_thread
import structlog

from bus.port import Ack, Bus, Delivery, GiveUp, Outcome, Retry
from conductor.fold import handle
from conductor.letters import LETTER, LetterState, letter_view
from conductor.loading import Aggregate, load, past_of
from conductor.model_calls import granted
from conductor.process import IDLE, Alarm, awaited, heard, timers
from conductor.refusal import Refusal
from conductor.small import Small, decide_small, evolve_small
from conductor.state import SessionState
from conductor.verdict import Verdict, pulse, verdict_of
from conductor.views import gate_view, session_view
from schemas.envelope import (
    CommandEnvelope,
    EventEnvelope,
    StreamId,
    UnreadableMessage,
    caused,
    decode_command,
    encode_command,
)
from schemas.ids import SAID, uuid7
from schemas.messages import Event
from schemas.subjects import command_sender
from schemas.values import Actor, Sender
from store.fresh import Fresh
from store.port import (
    AlreadyHandled,
    Append,
    Appended,
    AppendResult,
    ArmedTimer,
    Handled,
    Store,
    StoreUnavailable,
    TimerCleared,
    TimerSet,
    VersionConflict,
    View,
)
from store.worker import Worker

_log = structlog.get_logger("conductor")
CONDUCTOR = Actor(name="conductor", channel="system", verified_as="conductor")
CACHED_STREAMS = 4096
AGAIN = timedelta(seconds=0.5)
"""No sender sends a command again before its receipt is so late, unless the link broke (`bus.sending`)."""
HANDED_BACK = 3
"""How often commands go back to the bus, to another conductor perhaps, while the record is away. Then they wait."""
LOOK_SECONDS = 5.0
"""How often timers are looked at when none is due sooner: another conductor may have armed some."""
TIMER = "timer."
"""How the ids of fired timers begin. Nobody else may use it: an id taken before its time would silence the timer."""
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Planned:
    """One decided command, not yet written."""

    append: Append
    state: Aggregate


class Conductor:
    """Handles commands against the store. Several may run at once: the stream's version decides who was first."""

    def __init__(self, store: Store, tenant: str = "default", clock: Callable[[], datetime] | None = None) -> None:
        self._store = store
        self._tenant = tenant
        self._clock = clock or (lambda: datetime.now(UTC))
        self._cache: OrderedDict[StreamId, Aggregate] = OrderedDict()
        self._lock = anyio.Lock(fast_acquire=True)
        self._worker = Worker("conductor")
        self._sooner = anyio.Event()
        self._next_alarm: datetime | None = None  # when `run_timers` looks again; None while it looks
        self._armed = _NEVER  # the soonest alarm that was set since it began to look
        self.fresh = Fresh()
        """What was committed here last, for a relay in this process."""
        self.committed = anyio.Event()
        """Set (and replaced) whenever something was committed: the relay waits on it."""
        self.commits = 0
        """How often this process committed something."""
        self.trouble: StoreUnavailable | None = None
        """Why the record could not be written the last time; None when it could."""

    async def handle_batch(self, bus: Bus, deliveries: Sequence[Delivery]) -> list[Outcome]:
        """The bus handler: one outcome for each delivery, in order."""
        outcomes: list[Outcome] = [Ack()] * len(deliveries)
        commands: list[tuple[int, CommandEnvelope]] = []
        for index, delivery in enumerate(deliveries):
            try:
                envelope = self._authentic(delivery)
            except (UnreadableMessage, ValueError) as problem:
                outcomes[index] = GiveUp(f"unreadable command: {problem}")
                continue
            commands.append((index, envelope))
        verdicts: list[Verdict | Exception] | None = None
        while verdicts is None:
            try:
                verdicts = await self._settled([envelope for _, envelope in commands])
            except StoreUnavailable as problem:
                if all(delivery.attempt < HANDED_BACK for delivery in deliveries):
                    for index, _ in commands:
                        outcomes[index] = Retry(1.0, str(problem))
                    return outcomes
                # A record that is away makes no command a poison message: another delivery would count towards that.
                await anyio.sleep(1.0)
        for (index, envelope), verdict in zip(commands, verdicts, strict=True):
            if isinstance(verdict, Exception):
                _log.error("command_failed", session=envelope.stream.name, command=envelope.type, exc_info=verdict)
                outcomes[index] = Retry(1.0, f"{type(verdict).__name__}: {verdict}")
            else:
                await bus.reply(deliveries[index], verdict)
        return outcomes

    def _authentic(self, delivery: Delivery) -> CommandEnvelope:
        """The command with the sender the server vouches for; its bytes must agree with its address."""
        envelope = decode_command(delivery.raw)
        tokens = delivery.subject.split(".")
        sender = command_sender(delivery.subject)
        if (tokens[1], tokens[3], tokens[4]) != (envelope.stream.tenant, envelope.stream.name, envelope.type):
            raise UnreadableMessage(f"the command's bytes and its subject {delivery.subject} disagree")
        if envelope.stream.tenant != self._tenant:
            raise UnreadableMessage(
                f"the command is for tenant {envelope.stream.tenant!r} and this conductor works for {self._tenant!r}: "
                f"give each tenant a NATS server or account of its own"
            )
        if envelope.stream.kind != envelope.command.message_type.stream:
            raise UnreadableMessage(f"{envelope.type} is not for a {envelope.stream.kind} stream")
        if envelope.id.startswith((TIMER, LETTER)):
            raise UnreadableMessage(f"the id {envelope.id!r} is a timer's or a dead letter's: use a random one")
        if envelope.id.startswith(SAID) and sender != Sender.CHATOPS.value:
            raise UnreadableMessage(f"the id {envelope.id!r} is a comment's: use a random one")
        return envelope.sent_by(sender)

    async def handle_commands(self, envelopes: Sequence[CommandEnvelope]) -> list[Verdict]:
        """Handle commands in order in as few transactions as possible and return their verdicts.

        Raises StoreUnavailable when the record cannot be written: then nothing happened and the commands may be
        handled again. One that cannot be decided (its stream cannot be read) is raised once the others are written.
        """
        verdicts: list[Verdict] = []
        for verdict in await self._settled(envelopes):
            if isinstance(verdict, Exception):
                raise verdict
            verdicts.append(verdict)
        return verdicts

    async def _settled(self, envelopes: Sequence[CommandEnvelope]) -> list[Verdict | Exception]:
        """One verdict for each command, or what kept it alone from being decided. Raises StoreUnavailable."""
        async with self._lock:
            try:
                verdicts, done = await self._worker.run(partial(self._handle, list(envelopes)))
            except StoreUnavailable as problem:
                self._cache.clear()
                self.trouble = problem
                self.fresh.others = True  # of this batch some may be committed
                raise
            for append, appended in done:
                self.fresh.add(append, appended)
        self.trouble = None
        self.commits += 1
        self._ring()
        self._hasten([append for append, _ in done])
        return verdicts

    def wake(self) -> None:
        """Let whoever waits for a commit look: another process committed something."""
        self.fresh.others = True
        self._ring()

    def _ring(self) -> None:
        self.committed.set()
        self.committed = anyio.Event()

    def _hasten(self, appends: Sequence[Append]) -> None:
        """Wake `run_timers` if an alarm was set that is due before it looks again."""
        due = min((t.due for a in appends for t in a.timers if isinstance(t, TimerSet)), default=_NEVER)
        self._armed = min(self._armed, due)
        if self._next_alarm is not None and (due < self._next_alarm or self._next_alarm <= self._clock()):
            self._sooner.set()

    def _handle(
        self, envelopes: list[CommandEnvelope]
    ) -> tuple[list[Verdict | Exception], list[tuple[Append, Appended]]]:
        done: list[tuple[Append, Appended]] = []
        verdicts: dict[int, Verdict | Exception] = {}
        waiting = list(enumerate(envelopes))
        young = self._clock() - AGAIN
        while waiting:
            planned: list[tuple[int, _Planned]] = []
            later: list[tuple[int, CommandEnvelope]] = []
            seen: set[str | StreamId] = set()
            # The transaction asks, too. Asked here as well, since under load many commands are sent again, and to
            # decide each of them once more, on a state read anew, would make the load grow.
            inbox = self._inbox([envelope.id for _, envelope in waiting if verdicts or envelope.time < young])
            for index, envelope in waiting:
                # One command a stream and transaction: should it lose to another conductor's, nothing was built on it.
                # The same command twice: the inbox answers the second.
                if envelope.id in seen or envelope.stream in seen:
                    later.append((index, envelope))
                    continue
                seen |= {envelope.id, envelope.stream}
                try:
                    if (known := inbox(envelope.id)) is not None:
                        verdicts[index] = known.verdict
                    else:
                        planned.append((index, self._plan(envelope)))
                except StoreUnavailable:
                    raise
                except Exception as problem:  # this command's own trouble is not the whole batch's
                    verdicts[index] = problem
            results = self._store.append_batch([plan.append for _, plan in planned])
            for (index, plan), result in zip(planned, results, strict=True):
                if isinstance(result, Appended):
                    done.append((plan.append, result))
                settled = self._settle(plan, result)
                if settled is None:
                    later.append((index, envelopes[index]))
                else:
                    verdicts[index] = settled
            waiting = sorted(later, key=lambda pair: pair[0])
        return [verdicts[index] for index in range(len(envelopes))], done

    def _inbox(self, ids: Sequence[str]) -> Callable[[str], Handled | None]:
        """What the inbox says of each of these commands. Raises StoreUnavailable."""
        try:
            return (self._store.handled_among(ids) if ids else {}).get
        except StoreUnavailable:
            raise
        except Exception:  # one that cannot be read is not the whole batch's trouble
            return self._store.handled

    def _settle(self, plan: _Planned, result: AppendResult) -> Verdict | None:
        """The verdict after the transaction; None when somebody else was first and it must be decided again."""
        if isinstance(result, VersionConflict):
            self._cache.pop(plan.append.stream, None)
            return None
        if isinstance(result, AlreadyHandled):
            self._cache.pop(plan.append.stream, None)
            return result.handled.verdict
        if plan.append.handled is None:
            raise RuntimeError("a decided command has no inbox entry")
        self._remember(plan.append.stream, plan.state)
        return plan.append.handled.verdict

    def _remember(self, stream: StreamId, state: Aggregate) -> None:
        self._cache[stream] = state
        self._cache.move_to_end(stream)
        while len(self._cache) > CACHED_STREAMS:
            self._cache.popitem(last=False)

    def load(self, stream: StreamId) -> Aggregate:
        """The aggregate's state, from memory or folded from the record."""
        if (cached := self._cache.get(stream)) is not None:
            return cached
        return load(self._store, stream)

    def _plan(self, envelope: CommandEnvelope) -> _Planned:
        state = self.load(envelope.stream)
        if not isinstance(state, SessionState):
            return self._plan_small(state, envelope)
        outcome = handle(state, envelope, past_of(self._store, envelope))
        verdict = verdict_of(outcome.events, state.version, outcome.refusal) | pulse(outcome.events, outcome.state)
        if outcome.refusal is None:
            verdict |= granted(envelope.command, outcome.events, outcome.state)
        changes: list[TimerSet | TimerCleared] = []
        if (fired := _fired(envelope)) and fired not in awaited(outcome.state):
            changes.append(TimerCleared(fired))  # or it would fire again; but one that came too late left a newer one
        for change in timers(state, outcome.state):
            changes.append(
                self._timer(envelope, change, outcome.state.version)
                if isinstance(change, Alarm)
                else TimerCleared(change.key)
            )
        if outcome.refusal is None and (put_off := heard(outcome.state, envelope.command, envelope.time)):
            changes.append(self._timer(envelope, put_off, outcome.state.version))
        append = Append(
            stream=envelope.stream,
            expected_version=state.version,
            events=self._envelopes(envelope, state.version, outcome.events),
            handled=Handled(envelope.id, encode_command(envelope), outcome.refusal is None, verdict),
            timers=tuple(changes),
            views=self._views(outcome.state, outcome.events, envelope.time) if outcome.events else (),
        )
        return _Planned(append, outcome.state)

    def _plan_small(self, state: Small, envelope: CommandEnvelope) -> _Planned:
        """A drive's, a dead letter's or an answer's command."""
        after = state
        decision = decide_small(state, envelope)
        events = () if isinstance(decision, Refusal) else decision
        refusal = decision if isinstance(decision, Refusal) else None
        for offset, event in enumerate(events, 1):
            after = evolve_small(after, event, state.version + offset)
        views = (View("letter", after.id, letter_view(after)),) if isinstance(after, LetterState) and events else ()
        append = Append(
            stream=envelope.stream,
            expected_version=state.version,
            events=self._envelopes(envelope, state.version, events),
            handled=Handled(
                envelope.id, encode_command(envelope), refusal is None, verdict_of(events, state.version, refusal)
            ),
            views=views,
        )
        return _Planned(append, after)

    def _envelopes(
        self, command: CommandEnvelope, version: int, events: Sequence[Event]
    ) -> tuple[EventEnvelope[Event], ...]:
        return tuple([caused(command, uuid7(), version + offset, event) for offset, event in enumerate(events, 1)])

    def _timer(self, cause: CommandEnvelope, alarm: Alarm, version: int) -> TimerSet:
        """`version` of the stream makes the id: one alarm a key and transaction, and no name grows with its causes.
        Signs of life put an alarm off without an event: there its time belongs to the id."""
        moment = f"-{alarm.due.timestamp():.6f}".replace(".", "_") if alarm.key.startswith(IDLE) else ""
        command = CommandEnvelope(
            id=f"{TIMER}{alarm.key}.{cause.stream.tenant}.{cause.stream.name}.{version}{moment}",
            stream=cause.stream,
            time=alarm.due,
            actor=CONDUCTOR,
            sender=Sender.CONDUCTOR.value,
            correlation_id=cause.correlation_id,
            causation_id=cause.id,
            command=alarm.command,
        )
        return TimerSet(alarm.key, alarm.due, encode_command(command))

    def _views(self, state: SessionState, events: Sequence[Event], at: datetime) -> tuple[View, ...]:
        views = [View("session", state.id, session_view(state, at))]
        # Not getattr: a model without the field takes ten times as long to say so.
        touched = {gate for event in events if isinstance(gate := event.__dict__.get("gate"), str)}
        views += [View("gate", gate, gate_view(state, state.gates[gate])) for gate in sorted(touched)]
        return tuple(views)

    async def fire_due_timers(self) -> float:
        """Handle the timers that are due; seconds until the next one (at most 5)."""
        now = self._clock()
        due: list[ArmedTimer] = await anyio.to_thread.run_sync(self._store.timers, now)
        if due:
            # Late is recorded as late: the command carries the time it fired, not the time it was meant to.
            commands = [replace(decode_command(t.command), time=max(now, t.due)) for t in due]
            await self.handle_commands(commands)
        soonest = await anyio.to_thread.run_sync(self._store.next_due)
        if soonest is None:
            return LOOK_SECONDS
        return min(LOOK_SECONDS, max(0.0, (soonest - self._clock()).total_seconds()))

    async def run_timers(self) -> None:
        """Fire durable timers until cancelled: late rather than never."""
        while True:
            # Before the record is read: an alarm that is set meanwhile is seen there, or in `_armed`.
            self._sooner, self._armed, self._next_alarm = anyio.Event(), _NEVER, None
            try:
                pause = await self.fire_due_timers()
            except StoreUnavailable as problem:
                _log.error("timers_wait", reason=str(problem))
                pause = 1.0
            self._next_alarm = self._clock() + timedelta(seconds=pause)
            if self._armed < self._next_alarm:
                continue
            with anyio.move_on_after(max(pause, 0.01)):
                await self._sooner.wait()


def _fired(envelope: CommandEnvelope) -> str:
    """The key of the timer that sent this command; "" when none did. See `_timer` for how its id is made."""
    if envelope.sender != Sender.CONDUCTOR.value or not envelope.id.startswith(TIMER):
        return ""
    return envelope.id.removeprefix(TIMER).rsplit(".", 3)[0]
