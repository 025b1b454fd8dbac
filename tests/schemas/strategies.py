"""Hypothesis strategies derived from the message classes: whatever a class declares, it is tried with.

A field's strategy comes from its annotation and constraints. Only types whose fields must fit each other are spelt out.
"""

from __future__ import annotations

import types
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from functools import cache, partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

from schemas.envelope import CommandEnvelope, EventEnvelope, StreamId
from schemas.messages import Command, Event, MessageType
from schemas.pipeline import ChecklistItem, GateDefinition, PhaseDefinition, PipelineDefinition
from schemas.policy import Account, Approver, Policy
from schemas.ticket import CLASSIFICATION_METRICS, REGRESSION_METRICS, SEARCH_SHARE, Budget, Ticket
from schemas.values import Actor, Task

EPOCH = datetime(1970, 1, 3, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ZONES = st.one_of(st.just(UTC), st.integers(-23 * 60, 23 * 60).map(lambda m: timezone(timedelta(minutes=m))))
MOMENTS = st.builds(
    lambda seconds, microseconds, zone: (EPOCH + timedelta(seconds=seconds, microseconds=microseconds)).astimezone(
        zone
    ),
    st.integers(0, 7000 * 365 * 24 * 3600),
    st.integers(0, 999_999),
    ZONES,
)
TOKENS = st.from_regex(r"[!-~]{1,60}", fullmatch=True)


def of(annotation: Any, constraints: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    """Values of `annotation` that pydantic takes, within `constraints`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [c for a in arguments[1:] for c in (a.metadata if isinstance(a, FieldInfo) else [a])]
        return of(arguments[0], (*constraints, *inner))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of([of(a, constraints) for a in arguments])
    if origin is tuple:
        return st.lists(of(arguments[0]), min_size=bound(constraints, "min_length") or 0, max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(of(arguments[0]), of(arguments[1]), max_size=3)
    if annotation is type(None):
        return st.none()
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return st.sampled_from(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return model(annotation)
    return scalar(annotation, constraints)


def scalar(annotation: Any, constraints: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """Numbers, text and times."""
    least, above = bound(constraints, "ge"), bound(constraints, "gt")
    most, below = bound(constraints, "le"), bound(constraints, "lt")
    if annotation is str:
        pattern = bound(constraints, "pattern")
        if pattern:
            return st.from_regex(pattern.removesuffix("$") + r"\Z")
        shortest = bound(constraints, "min_length") or 0
        longest = bound(constraints, "max_length") or 20
        return TEXT if not shortest else st.text(TEXT_CHARACTERS, min_size=shortest, max_size=min(longest, 20))
    if annotation is int:
        highest = most if most is not None else (below - 1 if below is not None else 2**53)
        return st.integers(least if least is not None else (above + 1 if above is not None else -(2**53)), highest)
    if annotation is float:
        return st.floats(
            min_value=least if least is not None else above,
            max_value=most,
            exclude_min=above is not None,
            allow_nan=False,
            allow_infinity=False,
        )
    if annotation is bool:
        return st.booleans()
    if annotation in (datetime, AwareDatetime):
        return MOMENTS
    raise NotImplementedError(f"no strategy for {annotation!r}: add one")


TEXT_CHARACTERS = st.characters(exclude_categories=["Cs"])


def bound(constraints: tuple[Any, ...], name: str) -> Any:
    return next((v for c in constraints if (v := getattr(c, name, None)) is not None), None)


@cache
def model(cls: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Instances of `cls`, fields with defaults sometimes left out."""
    if cls in FITTING:
        return FITTING[cls]()
    return plain(cls)


def plain(cls: type[BaseModel], **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    required = {n: given.get(n, field_of(f)) for n, f in cls.model_fields.items() if f.is_required() or n in given}
    optional = {n: field_of(f) for n, f in cls.model_fields.items() if n not in required}

    @st.composite
    def build(draw: st.DrawFn) -> BaseModel:
        fields = {name: draw(values) for name, values in required.items()}
        fields |= {name: draw(values) for name, values in optional.items() if draw(st.booleans())}
        return cls(**fields)

    return build()


def field_of(field: FieldInfo) -> st.SearchStrategy[Any]:
    return of(field.annotation, tuple(field.metadata))


def tickets() -> st.SearchStrategy[Ticket]:
    metrics: dict[Task | None, tuple[str, ...]] = {
        None: CLASSIFICATION_METRICS + REGRESSION_METRICS,
        Task.CLASSIFICATION: CLASSIFICATION_METRICS,
        Task.REGRESSION: REGRESSION_METRICS,
    }
    pairs = st.sampled_from(list(metrics)).flatmap(
        lambda task: st.tuples(st.just(task), st.none() | st.sampled_from(metrics[task]))
    )
    base = plain(
        Ticket,
        id=st.integers(1, 999),
        blocked_by=st.lists(st.integers(1000, 9999), max_size=2).map(tuple),
        created=st.none() | MOMENTS,
        task=st.none(),
        metric=st.none(),
    )
    return st.tuples(base, pairs).map(
        lambda both: Ticket(**(dict(both[0]) | {"task": both[1][0], "metric": both[1][1]}))
    )


def gates() -> st.SearchStrategy[GateDefinition]:
    quorum = st.integers(1, 3)
    fixed = st.builds(GateDefinition, human=st.sampled_from(["never", "always"]), quorum=quorum)
    return fixed | st.builds(GateDefinition, human=st.just("when"), when=TEXT, quorum=quorum)


def phases() -> st.SearchStrategy[PhaseDefinition]:
    names = st.lists(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,9}\Z"), unique=True, max_size=3).map(
        lambda found: tuple(n for n in found if not n.endswith(".dsse.json"))
    )
    items = st.lists(model(ChecklistItem), unique_by=lambda i: i.id, max_size=3).map(tuple)
    base = plain(
        PhaseDefinition,
        checklist=items,
        artifacts=names,
        sign=st.just(()),
        after=st.none(),
        repeat=st.just(()),
        apply=st.none(),
        registers=st.none(),
    )
    return st.tuples(base, st.integers(0, 3)).map(
        lambda both: PhaseDefinition(
            **(
                dict(both[0])
                | {"sign": both[0].artifacts[: both[1]], "apply": next(iter(both[0].artifacts[both[1] :]), None)}
                | {"registers": next(iter(both[0].artifacts[: both[1]]), None)}
            )
        )
    )


def definitions() -> st.SearchStrategy[PipelineDefinition]:
    unique = st.lists(model(PhaseDefinition), unique_by=lambda p: p.name, min_size=1, max_size=2)
    return plain(PipelineDefinition, phases=st.tuples(unique, st.booleans()).map(linked))


def linked(found: tuple[list[PhaseDefinition], bool]) -> tuple[PhaseDefinition, ...]:
    """The last phase after the first, said or not; or beside it, if they make different artifacts."""
    phases, said = found
    apart = len({a for p in phases for a in p.artifacts}) == sum(len(p.artifacts) for p in phases)
    after = () if apart else (phases[0].name,)
    return tuple(p.model_copy(update={"after": after}) if said and p is not phases[0] else p for p in phases)


def _people(first: int, drawn: list[Any]) -> tuple[Any, ...]:
    """Each with a name and account numbers of their own, counted from `first`: two people never share any."""
    return tuple(
        who.model_copy(
            update={
                "name": f"{number} {who.name}",
                "github": tuple(number * 1000 + at for at in range(1, len(who.github) + 1)),
                "slack": tuple(f"U{number * 1000 + at:07}" for at in range(1, len(who.slack) + 1)),
            }
        )
        for number, who in enumerate(drawn, first)
    )


def policies() -> st.SearchStrategy[Policy]:
    hosts = st.tuples(st.from_regex(r"[a-z][a-z0-9]{0,10}(\.[a-z]{2,5})?", fullmatch=True), st.integers(1, 65535))
    return plain(
        Policy,
        approvers=st.lists(model(Approver), max_size=3).map(partial(_people, 1)),
        accounts=st.lists(model(Account), max_size=3).map(partial(_people, 11)),
        escalate_to=st.just(()),
        sandbox_hosts=st.lists(hosts.map(lambda pair: f"{pair[0]}:{pair[1]}"), max_size=3).map(tuple),
    )


def budgets() -> st.SearchStrategy[Budget]:
    """The search has at most a quarter of the minutes."""

    def searched(found: tuple[Budget, float | None]) -> Budget:
        budget, share = found
        seconds = None if share is None else min(1e6, budget.minutes * 60 * SEARCH_SHARE) * share
        return Budget(usd=budget.usd, minutes=budget.minutes, search_seconds=seconds or None)

    shares = st.none() | st.floats(0.01, 1.0)
    return st.tuples(plain(Budget, search_seconds=st.none()), shares).map(searched)


FITTING: dict[type[BaseModel], Any] = {
    Budget: budgets,
    Policy: policies,
    Ticket: tickets,
    GateDefinition: gates,
    PhaseDefinition: phases,
    PipelineDefinition: definitions,
}
"""Types whose fields must fit each other."""


def streams(kind: str) -> st.SearchStrategy[StreamId]:
    return st.builds(
        StreamId,
        tenant=st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,31}\Z"),
        kind=st.just(kind),
        name=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z"),
    )


def events(kind: MessageType) -> st.SearchStrategy[EventEnvelope[Event]]:
    """Envelopes around events of this type."""
    return st.builds(
        EventEnvelope,
        id=TOKENS,
        stream=streams(kind.stream),
        sequence=st.integers(1, 2**53),
        time=MOMENTS,
        actor=model(Actor),
        correlation_id=TOKENS | st.just(""),
        causation_id=TOKENS | st.just(""),
        event=model(kind.cls),
    )


def commands(kind: MessageType) -> st.SearchStrategy[CommandEnvelope]:
    """Envelopes around commands of this type, from one of its senders."""
    return st.builds(
        CommandEnvelope,
        id=TOKENS,
        stream=streams(kind.stream),
        time=MOMENTS,
        actor=model(Actor),
        sender=st.sampled_from(kind.senders),
        correlation_id=TOKENS | st.just(""),
        causation_id=TOKENS | st.just(""),
        command=model(kind.cls),
    )


def command_bodies(kind: MessageType) -> st.SearchStrategy[Command]:
    return model(kind.cls)
