"""What a session does at its ticket's origin (a forge): effects that nobody has to ask for. Pure.

Level by level: `due` compares what the session has there with what it should have and asks for the next step, one at a
time; the receipt leads to the one after it. A session whose ticket has no origin asks for nothing.
"""

from __future__ import annotations

from conductor.state import AtOrigin, Effect, PhaseState, SessionState, Status, replace
from schemas import session as ev
from schemas.messages import Event
from schemas.values import EffectKind, Posted


def unclaimed(state: SessionState) -> bool:
    """Whether the session has to take its ticket before anything else may go on."""
    goes_on = state.status is Status.ACTIVE or state.status is Status.WAITING
    return goes_on and has_origin(state) and not state.at_origin.claim


def has_origin(state: SessionState) -> bool:
    """Whether the session's ticket came from a forge."""
    return state.ticket is not None and state.ticket.origin is not None


def claim(state: SessionState) -> tuple[Event, ...]:
    """Ask for the ticket, unless that is under way."""
    if [effect for effect in state.effects if effect.kind == "claim"]:
        return ()
    return (_request(state, "claim"),)


def publish(state: SessionState, phase: PhaseState) -> tuple[Event, ...]:
    """Ask for the push of what `phase` was committed as, and for the pull request."""
    return (_request(state, "publish", phase.commit, phase),)


def due(state: SessionState) -> tuple[Event, ...]:
    """The next step at the origin in a state in which nothing else follows."""
    if not has_origin(state) or state.status is Status.NEW:
        return ()
    settled = state.status in (Status.ROLLED_BACK, Status.COMPLETED, Status.ABORTED)
    if [effect for effect in state.effects if settled or effect.aside]:
        return ()
    kind = _next(state)
    if kind == "publish":
        return (_request(state, kind, state.commit),)
    if kind is not None:
        return (_request(state, kind),)
    news = _news(state)
    return (_request(state, "announce", news),) if news != state.at_origin.announced else ()


def _next(state: SessionState) -> EffectKind | None:
    """What the end of a session leads to. What failed is not asked for again."""
    here, failed = state.at_origin, state.at_origin.failed
    if state.status is Status.ABORTED:
        if here.pushed and "withdraw" not in failed:
            return "withdraw"
        return "release" if here.taken and "release" not in failed else None
    if state.status is not Status.COMPLETED:
        return None
    if here.commit != state.commit:  # taken back, and now brought back
        return None if "publish" in failed else "publish"
    if not here.ready and "ready" not in failed:
        return "ready"
    return None if here.finished or "finish" in failed else "finish"


def _news(state: SessionState) -> str:
    """What the status comment is to tell; it is edited when this changes."""
    gates = " ".join(gate.id for gate in state.open_gates)
    told = [state.status.value, gates, state.reason[:200] if state.status is Status.BLOCKED else ""]
    return " ".join(filter(None, [*told, *(f"no {kind}" for kind in state.at_origin.failed)]))


def _request(state: SessionState, kind: EffectKind, target: str = "", phase: PhaseState | None = None) -> Event:
    here = state.at_origin
    name = phase.name if phase is not None else state.phase or next(iter(state.phases))
    return ev.EffectRequested(
        effect=f"{state.id}.{kind}.{state.version + 1}",
        kind=kind,
        phase=name,
        attempt=state.phases[name].attempt,
        target=target,
        posted=known(here),
    )


def known(here: AtOrigin) -> Posted:
    """What an effect is told of what the session has at its origin."""
    return Posted(claim=here.claim, pull=here.pull, comment=here.comment, url=here.url, round=here.round)


def asked(here: AtOrigin, effect: Effect) -> AtOrigin:
    """After an effect was asked for: whatever comes of it, it may have been carried out."""
    match effect.kind:
        case "claim":
            return replace(here, taken=True)
        case "publish":
            return replace(here, pushed=True)
        case "announce":
            return replace(here, announced=effect.target)
        case "finish" | "release":
            return replace(here, claim="")
        case _:
            return here


def done(here: AtOrigin, effect: Effect, posted: Posted) -> AtOrigin:
    """After the receipt of an effect."""
    match effect.kind:
        case "claim":
            taken = not posted.taken_by
            return replace(here, claim=posted.claim, taken_by=posted.taken_by, taken=taken, finished=False)
        case "publish":
            return replace(here, commit=effect.target, pull=posted.pull, url=posted.url)
        case "announce":
            return replace(here, comment=posted.comment)
        case "ready":
            return replace(here, ready=True)
        case "finish":
            return replace(here, finished=True, taken=False)
        case "withdraw":
            return replace(
                here, commit="", pull=0, url="", pushed=False, ready=False, finished=False, round=here.round + 1
            )
        case "release":
            return replace(here, taken=False)
        case _:
            return here


def incomplete(effect: Effect, posted: Posted | None) -> str | None:
    """What the receipt of an effect at the origin lacks."""
    if posted is None:
        return f"the receipt of {effect.id} does not say what was done"
    match effect.kind:
        case "claim" if bool(posted.claim) == bool(posted.taken_by):
            return f"the receipt of {effect.id} names the claim's commit, or else who has the ticket"
        case "publish" if not posted.pull:
            return f"the receipt of {effect.id} names no pull request"
        case "announce" if not posted.comment:
            return f"the receipt of {effect.id} names no comment"
        case _:
            return None
