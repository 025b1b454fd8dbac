"""Gates: whether a person must decide, who may, and when it is enough. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from conductor import criteria
from conductor.state import GateState, SessionState
from schemas.pipeline import PhaseDefinition, PipelineDefinition
from schemas.policy import Account, Approver, Policy
from schemas.ticket import Ticket
from schemas.values import Actor, CriterionResult, RiskLevel, Sender

SYSTEM_NAMES = frozenset({"conductor", "autopilot", "value-train"})
PEOPLE = ("cli", "console", "github", "slack")
"""The channels on which people speak, each with an identity it verified."""

CHANNELS = {Sender.OPERATOR.value: ("cli", "console"), Sender.CHATOPS.value: ("github", "slack")}
"""The channels a login can have verified anybody on: chat-ops cannot speak for somebody at the command line."""


def context(state: SessionState) -> criteria.Context:
    """What criteria may read: `ticket.*`, everything measured by its scope, and `costs.*`."""
    ticket = state.ticket
    facts: dict[str, Mapping[str, Any]] = {**state.measured}
    if ticket is not None:
        facts["ticket"] = {
            "id": float(ticket.id),
            "risk": ticket.risk.value,
            "task": ticket.task.value if ticket.task else "",
            "metric": ticket.metric or "",
            "requester": ticket.requester or "",
        }
    facts["costs"] = {
        "usd": state.usage.usd,
        "wall_seconds": state.usage.wall_seconds,
        "cpu_seconds": state.usage.cpu_seconds,
        "tokens": float(state.usage.tokens),
    }
    return facts


def exit_criteria(state: SessionState, phase: PhaseDefinition) -> tuple[CriterionResult, ...]:
    """Every criterion of the phase's exit held against what was measured, the ticket's acceptance included."""
    expressions = [*phase.criteria, *(state.acceptance if phase.acceptance else ())]
    facts = context(state) if expressions else {}
    return tuple(criteria.evaluate(expression, facts) for expression in expressions)


def unjudged(pipeline: PipelineDefinition, ticket: Ticket) -> str | None:
    """Why the pipeline cannot take the ticket: it names acceptance criteria that no phase would ever hold."""
    if not ticket.acceptance or pipeline.judges_acceptance:
        return None
    return (
        f"pipeline {pipeline.name!r} judges no acceptance criteria (no phase has `acceptance: true`), and the ticket "
        f"names {len(ticket.acceptance)}: take them out, or choose a pipeline that judges them"
    )


def needs_person(state: SessionState, phase: PhaseDefinition) -> tuple[bool, str]:
    """Whether a person must decide at this phase's exit, and why in one line. An unreadable condition asks a person."""
    gate = phase.gate
    if gate.human == "never":
        return False, "criteria hold"
    if gate.human == "always":
        return True, "the pipeline asks for a person here"
    result = criteria.evaluate(gate.when or "", context(state))
    if result.error:
        return True, f"the condition for passing without a person is not known: {criteria.describe(result)}"
    return result.passed, criteria.describe(result)


def who(approver: Approver) -> str:
    """`dana (risk-review, up to medium risk)`."""
    risk = [f"up to {approver.up_to_risk.value} risk"] if approver.up_to_risk.rank < 2 else []
    limits = [*approver.phases, *approver.paths, *risk]
    return f"{approver.name} ({', '.join(limits)})" if limits else approver.name


def eligible(state: SessionState, phase: str, escalated: bool = False) -> tuple[Approver, ...]:
    """Who may decide a gate of this phase under the policy the session started with. One that was escalated is for
    those in `escalate_to`, whatever phases they are named for."""
    if state.policy is None or state.ticket is None:
        return ()
    tier = int(state.measured.get("risk", {}).get("tier", 0.0))
    risk = max(state.ticket.risk.rank, min(tier, RiskLevel.HIGH.rank))
    return tuple(
        a
        for a in state.policy.approvers
        if (a.name in state.policy.escalate_to if escalated else not a.phases or phase in a.phases)
        and _owns(a, state)
        and a.up_to_risk.rank >= risk
        and not (state.policy.separation_of_duties and _party(state.ticket, a.name, a.github))
    )


def _party(ticket: Ticket, name: str, accounts: Iterable[int]) -> str:
    """What somebody did for the ticket that keeps them from deciding its gates, or ""."""
    known = set(accounts)
    if same_person(name, ticket.requester or "") or ticket.requester_id in known:
        return "requested the ticket"
    return "set the label by which the ticket was taken" if ticket.labeller_id in known else ""


def party(state: SessionState, actor: Actor) -> str:
    """What `actor` did for the session's ticket that keeps them from deciding its gates, or "": by name, by the account
    they speak from, and by every GitHub account the policy gives them."""
    if state.ticket is None:
        return ""
    person = state.policy.person(actor.name) if state.policy else None
    channel, _, number = actor.verified_as.partition(":")
    spoken = {int(number)} if actor.channel == channel == "github" and number.isdecimal() else set()
    return _party(state.ticket, actor.name, {*spoken, *(person.github if person else ())})


def touched(state: SessionState) -> tuple[str, ...]:
    """The repository's files that the session's change was found to touch, as its artifacts say."""
    return tuple(sorted({path for artifact in state.artifacts.values() for path in artifact.paths}))


def _owns(approver: Approver, state: SessionState) -> bool:
    """Whether the approver's paths cover every file the change touches; without a change, the ticket's data."""
    if not approver.paths:
        return True
    if not (files := touched(state)):
        if any(p.apply in state.artifacts for p in (state.pipeline.phases if state.pipeline else ()) if p.apply):
            return False  # nobody has said yet what the change touches
        files = ((state.ticket.data if state.ticket else None) or "",)
    return all(any(fnmatchcase(file, path) for path in approver.paths) for file in files)


def missing(state: SessionState, gate: GateState) -> str:
    """Why a gate can never pass as things are, or "": the policy names too few who may decide it."""
    people = len(eligible(state, gate.phase, gate.escalated))
    if gate.kind != "human" or people >= gate.quorum:
        return ""
    named = f"only {people}" if people else "nobody"
    return f"the gate needs {gate.quorum} approvals and the policy names {named} who may decide it"


def same_person(one: str, other: str) -> bool:
    """Whether two names are one but for case, spaces around them and typographic variants of the same letters."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().strip()


def refusal(state: SessionState, gate: GateState, actor: Actor) -> str | None:
    """Why `actor` may not decide `gate`; None if they may. Names are compared exactly: no look-alikes."""
    if reason := unfit(state, gate, actor):
        return reason
    if any(same_person(a.by.name, actor.name) for a in gate.approvals):
        return f"{actor.name} has approved this gate already; another person must"
    same = next((a.by.name for a in gate.approvals if _identity(a.by) == _identity(actor)), None)
    if same is not None:
        return f"{actor.verified_as} has approved this gate already as {same}; another person must"
    return None


def unfit(state: SessionState, gate: GateState, actor: Actor) -> str | None:
    """Why `actor` is none of those who may decide `gate` as things are now, whatever they approved; None if they are.
    Asked again when an approval counts: what the change touches or how risky it is may have been found out since."""
    if actor.name in SYSTEM_NAMES or actor.channel not in PEOPLE:
        return f"{actor.name} is a program; gates are for people"
    allowed = eligible(state, gate.phase, gate.escalated)
    match = next((a for a in allowed if a.name == actor.name), None)
    separated = state.policy is not None and state.policy.separation_of_duties
    if separated and (did := party(state, actor)):
        return f"{actor.name} {did} and may not approve it (separation of duties)"
    if match is None:
        names = (
            ", ".join(who(a) for a in allowed) or "nobody: add an approver to policy.yaml and start the ticket again"
        )
        return f"the policy does not name {actor.name} for {gate.phase} of this session; it names {names}"
    return _impostor(match, actor)


def may_override(state: SessionState, actor: Actor) -> str | None:
    """Why `actor` may not override a gate; None if they may. Who requested a ticket or released it never does, whatever
    the policy says of the separation of duties."""
    if actor.name in SYSTEM_NAMES or actor.channel not in PEOPLE:
        return f"{actor.name} is a program; gates are for people"
    admins = state.policy.admins if state.policy else ()
    if did := party(state, actor):
        return f"{actor.name} {did} and may not override its gates (separation of duties)"
    if state.policy is None or actor.name not in admins:
        return f"{actor.name} is no admin; the policy names {', '.join(admins) or 'nobody'} (`admins`)"
    return _impostor(state.policy.person(actor.name), actor)


def _impostor(person: Approver | Account | None, actor: Actor) -> str | None:
    """Why `actor`, who gives this person's name, is not taken for them: the account is another one.

    At the command line a person without `os_users` may be everybody who can open the home. The other channels reach
    anybody, so there a person without accounts is nobody.
    """
    accounts: tuple[str, ...]
    match actor.channel:
        case "cli":
            accounts = person.os_users if person else ()
            if not accounts or actor.verified_as.removeprefix("os:") in accounts:
                return None
        case "github" | "slack":
            ids = () if person is None else person.github if actor.channel == "github" else person.slack
            accounts = tuple(f"{actor.channel}:{id_}" for id_ in ids)
            if actor.verified_as in accounts:
                return None
            if ":" not in actor.verified_as and not (person and (person.os_users or person.github or person.slack)):
                return None  # recorded before accounts were named: whoever opened the home spoke under any name
            if not accounts:
                return f"the policy gives {actor.name} no {actor.channel} account, so {actor.verified_as} is not theirs"
        case _:
            return None
    return f"{actor.verified_as} may not speak as {actor.name}; the policy names {', '.join(accounts)}"


def wrong_channel(sender: str, actor: Actor) -> str | None:
    """Why a login cannot have verified `actor`: people of that channel speak through another one. None for what it
    serves, for logins that programs speak with, and for programs, whom the other rules refuse."""
    served = CHANNELS.get(sender)
    if served is None or actor.channel not in PEOPLE:
        return None
    numbered = actor.verified_as.startswith(f"{actor.channel}:")
    if sender == Sender.CHATOPS and actor.channel in served and not numbered:
        return f"{actor.verified_as} is no account of {actor.channel}"
    if actor.channel in served or (sender == Sender.OPERATOR and not numbered):
        return None
    return f"{sender} speaks for people on {' and '.join(served)}, not on {actor.channel}"


def _identity(actor: Actor) -> tuple[str, str]:
    return actor.channel, actor.verified_as


def may_operate(policy: Policy | None, actor: Actor) -> str | None:
    """Why `actor` may not operate a session or drive under `policy`; None if they may (operators, admins, and approvers
    of any phase)."""
    if actor.name in SYSTEM_NAMES or actor.channel not in PEOPLE:
        return f"{actor.name} is a program; this is for people"
    named = {*policy.operators, *policy.admins, *(a.name for a in policy.approvers)} if policy else set()
    if actor.name not in named or policy is None:
        return f"the policy does not name {actor.name}; it names {', '.join(sorted(named)) or 'nobody'}"
    return _impostor(policy.person(actor.name), actor)
