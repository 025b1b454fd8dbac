"""What going back means outside the record: effects that undo what was done there, in reverse order. Pure.

First the registry is taken back, newest version first, then the pull request, then the branch; what a rollback of a
rollback brings back comes after the branch.
"""

from __future__ import annotations

from conductor.origin import known
from conductor.state import SessionState
from schemas import session as ev
from schemas.values import EffectKind, Registered


def held(state: SessionState) -> tuple[Registered, ...]:
    """The versions that the session has in the registry, those included of which that is not known: they were asked
    for, and their receipts have not come."""
    asked = [Registered(effect=e.id, model=e.target, version="", alias="") for e in state.effects if e.registers]
    return (*state.registered, *asked)


def compensations(
    state: SessionState, phase: str, commit: str, wanted: tuple[Registered, ...]
) -> tuple[ev.EffectRequested, ...]:
    """The effects that make branch and registry what they were: at `commit`, and with the versions in `wanted`."""
    stay, now = {r.effect for r in wanted}, held(state)
    have = {r.effect for r in now}
    doubtful = state.unrestored or any(e.kind in ("register", "unregister") for e in state.effects)
    plan: list[tuple[EffectKind, Registered | None]] = [
        ("unregister", done) for done in reversed(now) if done.effect not in stay
    ]
    if state.at_origin.pushed:
        plan.append(("withdraw", None))
    plan.append(("restore", None))
    plan += [("register", done) for done in wanted if doubtful or done.effect not in have]
    return tuple(
        ev.EffectRequested(
            effect=f"{state.id}.{kind}.{state.version + 1 + (0 if done is None else number)}",
            kind=kind,
            phase=phase,
            attempt=state.phases[phase].attempt,
            target=(commit if kind == "restore" else "") if done is None else done.model,
            registered=done,
            posted=known(state.at_origin) if kind == "withdraw" else None,
        )
        for number, (kind, done) in enumerate(plan)
    )


def consequence(effect: ev.EffectRequested) -> str:
    """What an effect of a rollback does to the registry or at the ticket's origin, for people; "" for neither."""
    done = effect.registered
    if effect.kind == "withdraw":
        pull = f"pull request {effect.posted.pull}" if effect.posted and effect.posted.pull else "its pull request"
        return f"{pull} is closed and the branch deleted there, unless somebody merged it or committed to it"
    if done is None:
        return ""
    if not done.version:
        return f"what {done.effect} may have made of model {done.model} is marked as rolled back, if it was carried out"
    what = f"version {done.version} of model {done.model}"
    still = f"unless somebody moved {done.alias} meanwhile"
    if effect.kind == "register":
        return f"{what} counts as rolled back no more, and {done.alias} points to it again, {still}"
    alias = f"{done.alias} goes back to version {done.before}" if done.before else f"{done.alias} is removed"
    return f"{what} stays, marked as rolled back, and {alias}, {still}"
