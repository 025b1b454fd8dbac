"""Who may decide what. Every rule of eligibility, and every way around it that was thought of."""

from __future__ import annotations

import pytest

from conductor import gates
from conductor.state import GateState, SessionState, initial, replace
from schemas import commands as cmd
from schemas.pipeline import GateDefinition, PhaseDefinition, PipelineDefinition
from schemas.policy import Account, Approver, Policy
from schemas.ticket import Ticket
from schemas.values import Actor, Approval, Measurement, RiskLevel
from tests.conductor.rig import DANA, ERIK, PIPELINE, SYSTEM, TICKET, Rig, person


def judged(risk: RiskLevel = RiskLevel.LOW, tier: float = 0.0, policy: Policy | None = None, **ticket: object) -> Rig:
    """A session that waits at the gate of the last phase."""
    rig = Rig(ticket=Ticket.model_validate(dict(TICKET) | {"risk": risk} | ticket), policy=policy or Rig().policy)
    always = PIPELINE.phases[2].model_copy(update={"gate": GateDefinition(human="always")})
    rig.pipeline = PipelineDefinition(name="small", description="", phases=(PIPELINE.phases[0], always))
    rig.to("judge-it")
    rig.work(measurements=tuple(
        Measurement(scope=s, name=n, value=v) for s, n, v in
        (("metrics", "recall", 0.95), ("risk", "tier", tier))
    ))  # fmt: skip
    assert rig.state.open_gate is not None
    return rig


def refusal(rig: Rig, actor: Actor) -> str | None:
    gate = rig.state.open_gate
    assert gate is not None
    return gates.refusal(rig.state, gate, actor)


@pytest.mark.parametrize(
    ("phases", "up_to", "risk", "tier", "may"),
    [
        ((), "high", "low", 0.0, True),
        ((), "high", "high", 2.0, True),
        ((), "high", "high", 7.0, True),  # there is no limit above `high`, whatever the Risk agent's scale
        ((), "medium", "medium", 0.0, True),
        ((), "medium", "high", 0.0, False),
        ((), "low", "medium", 0.0, False),
        ((), "low", "low", 0.0, True),
        ((), "low", "low", 1.0, False),  # the measured tier counts when it is higher than what the author wrote
        ((), "medium", "low", 1.0, True),
        ((), "medium", "low", 2.0, False),
        ((), "low", "low", -3.0, True),
        ((), "low", "high", -3.0, False),  # and never lowers it
        (("judge-it",), "high", "low", 0.0, True),
        (("judge-it", "plan-it"), "high", "low", 0.0, True),
        (("plan-it",), "high", "low", 0.0, False),
        (("plan-it",), "low", "high", 0.0, False),
    ],
)
def test_phase_and_risk(phases: tuple[str, ...], up_to: str, risk: str, tier: float, may: bool) -> None:
    policy = Policy(approvers=(Approver(name="dana", phases=phases, up_to_risk=RiskLevel(up_to)),))
    rig = judged(RiskLevel(risk), tier, policy)
    reason = refusal(rig, DANA)
    assert (reason is None) == may
    if reason:
        assert "dana" in reason
        assert "judge-it" in reason


@pytest.mark.parametrize("requester", ["dana", "Dana", "DANA", " dana ", "dａna"])
def test_nobody_approves_their_own_ticket_however_it_is_spelt(requester: str) -> None:
    rig = judged(requester=requester)
    reason = refusal(rig, DANA)
    assert reason is not None
    assert "separation of duties" in reason
    assert refusal(rig, ERIK) is None


def test_separation_of_duties_can_be_switched_off() -> None:
    rig = judged(requester="dana", policy=Policy(approvers=(Approver(name="dana"),), separation_of_duties=False))
    assert refusal(rig, DANA) is None


def test_a_ticket_without_requester_separates_nobody() -> None:
    assert refusal(judged(requester=None), DANA) is None


@pytest.mark.parametrize("name", ["Dana", "dana ", "dаna", "dana\u200b", "d-ana", ""])  # the third has a Cyrillic а
def test_look_alikes_are_strangers(name: str) -> None:
    actor = Actor.model_construct(name=name, channel="cli", verified_as="os:dana")
    reason = refusal(judged(), actor)
    assert reason is not None
    assert "the policy does not name" in reason


@pytest.mark.parametrize(
    "actor",
    [
        SYSTEM,
        Actor(name="conductor", channel="cli", verified_as="os:root"),
        Actor(name="autopilot", channel="github", verified_as="1"),
        Actor(name="value-train", channel="console", verified_as="x"),
        Actor(name="dana", channel="bus", verified_as="login:operator"),
        Actor(name="dana", channel="system", verified_as="dana"),
        Actor(name="dana", channel="CLI", verified_as="os:dana"),
    ],
)
def test_programs_decide_nothing_even_if_the_policy_names_them(actor: Actor) -> None:
    policy = Policy(approvers=(Approver(name=actor.name),), operators=(actor.name,))
    rig = judged(policy=policy)
    assert "is a program" in (refusal(rig, actor) or "")
    assert "is a program" in (gates.may_operate(rig.state.policy, actor) or "")


DANA_EVERYWHERE = Policy(
    approvers=(Approver(name="dana", github=(4711,), slack=("U024BE7LH",)), Approver(name="erik", github=(4712,))),
    operators=("olga",),
    admins=("adam", "dana"),
    accounts=(Account(name="olga", github=(4713,)), Account(name="adam", github=(4714,), slack=("U024BE7LJ",))),
)


@pytest.mark.parametrize(
    ("channel", "verified"),
    [("cli", "os:dana"), ("console", "dana"), ("github", "github:4711"), ("slack", "slack:U024BE7LH")],
)
def test_people_speak_over_four_channels(channel: str, verified: str) -> None:
    assert refusal(judged(policy=DANA_EVERYWHERE), person("dana", channel, verified)) is None


@pytest.mark.parametrize(
    ("channel", "verified"),
    [
        ("github", "github:4712"),  # somebody else's account, under dana's name
        ("github", "github:47110"),
        ("github", "github:04711"),
        ("github", "github:４７１１"),
        ("github", "4711"),
        ("github", "slack:U024BE7LH"),
        ("slack", "github:4711"),
        ("slack", "slack:U024BE7LK"),
        ("slack", "slack:u024be7lh"),
    ],
)
def test_a_channel_that_lies_about_names_gains_nothing(channel: str, verified: str) -> None:
    rig = judged(policy=DANA_EVERYWHERE)
    actor = person("dana", channel, verified)
    for reason in (
        refusal(rig, actor),
        gates.may_operate(rig.state.policy, actor),
        gates.may_override(rig.state, actor),
    ):
        assert reason is not None
        assert f"{verified} may not speak as dana" in reason


def test_without_accounts_nobody_speaks_for_a_person_in_comments() -> None:
    rig = judged()
    why = "the policy gives dana no github account, so github:4711 is not theirs"
    assert refusal(rig, person("dana", "github", "github:4711")) == why
    assert gates.may_operate(rig.state.policy, person("olga", "github", "github:1")) == why.replace(
        "dana", "olga"
    ).replace("4711", "1")


@pytest.mark.parametrize(("field", "did"), [("requester_id", "requested"), ("labeller_id", "set the label")])
@pytest.mark.parametrize(("channel", "verified"), [("github", "github:4711"), ("slack", "slack:U024BE7LH")])
def test_duties_are_separated_by_number_on_every_channel(field: str, did: str, channel: str, verified: str) -> None:
    rig = judged(policy=DANA_EVERYWHERE, **{field: 4711})
    reason = refusal(rig, person("dana", channel, verified))
    assert reason is not None
    assert did in reason
    assert "separation of duties" in reason
    assert [a.name for a in gates.eligible(rig.state, "judge-it")] == ["erik"], "nor is dana counted for the quorum"


def admin(name: str = "adam", number: int = 4714) -> Actor:
    return person(name, "github", f"github:{number}")


def overriding(rig: Rig, **changes: str) -> cmd.OverrideGate:
    gate = rig.state.open_gate
    assert gate is not None
    return cmd.OverrideGate(**({"gate": gate.id, "reason": "the release waits"} | changes))


def test_an_admin_overrides_alone_and_the_record_says_so() -> None:
    rig = Rig(policy=DANA_EVERYWHERE).to("build-it")
    rig.work()
    assert rig.state.open_gate is not None
    assert rig.state.open_gate.quorum == 2
    events = rig.accepted(overriding(rig), "chatops", admin())
    assert events[:2] == ["gate_overridden", "gate_passed"]
    gate = next(g for g in rig.state.gates.values() if g.phase == "build-it")
    assert (gate.status, gate.overridden, gate.decided_by) == ("passed", True, "adam")
    started = next(e.event for e in reversed(rig.log) if e.type == "phase_started")
    assert "override: the release waits, by adam (github:4714)" in getattr(started, "approvals")[-1]  # noqa: B009
    back = cmd.RestoreSession(sequence=rig.state.version - len(events) + 1)
    assert rig.refused(back, "operator", DANA).code == "not_at_rest", "nothing rests between override and gate"


@pytest.mark.parametrize(
    ("ticket", "actor", "changes", "code", "why"),
    [
        ({}, person("erik", "github", "github:4712"), {}, "not_an_admin", "erik is no admin"),
        ({}, admin(number=4713), {}, "not_an_admin", "may not speak as adam"),
        ({}, admin(), {"reason": " "}, "reason_missing", "needs a reason"),
        ({}, admin(), {"gate": "nowhere"}, "unknown_gate", "no gate"),
        ({}, admin(), {"commit": "0123456"}, "other_commit", "is for commit commit-"),
        ({}, admin(), {"commit": "commit"}, "other_commit", "is for commit commit-"),
        ({"requester": "adam"}, admin(), {}, "not_an_admin", "requested the ticket"),
        ({"requester_id": 4714}, admin(), {}, "not_an_admin", "requested the ticket"),
        ({"labeller_id": 4714}, admin(), {}, "not_an_admin", "set the label"),
        ({"requester_id": 4714}, person("adam", "slack", "slack:U024BE7LJ"), {}, "not_an_admin", "requested"),
        ({"requester_id": 4714}, person("adam"), {}, "not_an_admin", "requested"),
    ],
)
@pytest.mark.parametrize("separated", [True, False])
def test_what_an_override_is_refused_for(
    ticket: dict[str, object], actor: Actor, changes: dict[str, str], code: str, why: str, separated: bool
) -> None:
    policy = DANA_EVERYWHERE.model_copy(update={"separation_of_duties": separated})
    rig = judged(policy=policy, **ticket)
    sender = "operator" if actor.channel == "cli" else "chatops"
    refused = rig.refused(overriding(rig, **changes), sender, actor)
    assert refused.code == code
    assert why in refused.reason


def test_a_held_gate_is_not_overridden() -> None:
    rig = judged(policy=DANA_EVERYWHERE)
    gate = rig.state.open_gate
    assert gate is not None
    rig.accepted(cmd.HoldGate(gate=gate.id), "operator", DANA)
    assert rig.refused(overriding(rig), "chatops", admin()).code == "gate_held"


def test_an_approval_is_taken_back_by_who_gave_it() -> None:
    rig = Rig(policy=DANA_EVERYWHERE).to("build-it")
    rig.work()
    gate = rig.state.open_gate
    assert gate is not None
    take_back = cmd.CancelApproval(gate=gate.id, reason="I looked at the wrong run")
    assert rig.refused(take_back, "operator", DANA).code == "no_approval"
    assert rig.decide("approve", DANA) == ["approval_given"]
    assert rig.refused(take_back, "operator", ERIK).code == "no_approval"
    assert rig.refused(take_back, "operator", person("mallory")).code == "not_an_approver"
    assert rig.refused(take_back, "chatops", person("dana", "github", "github:4712")).code == "not_an_approver"
    on_github = person("dana", "github", "github:4711")
    assert rig.accepted(take_back, "chatops", on_github) == ["approval_cancelled"]
    assert rig.state.gates[gate.id].approvals == ()
    assert rig.decide("approve", ERIK) == ["approval_given"], "one of two again"
    assert rig.decide("approve", DANA)[:2] == ["approval_given", "gate_passed"]
    assert rig.refused(take_back, "operator", DANA).code in ("gate_closed", "session_over")


def test_an_approval_counts_only_while_its_giver_may_decide() -> None:
    """What the change touches is found out by a phase beside the gate: the first approver does not own all of it."""
    rig = Rig(policy=DANA_EVERYWHERE).to("build-it")
    rig.work()
    assert rig.decide("approve", DANA) == ["approval_given"]
    assert rig.state.policy is not None
    lower = Approver(name="dana", up_to_risk=RiskLevel.LOW)
    policy = rig.state.policy.model_copy(update={"approvers": (lower, *rig.state.policy.approvers[1:])})
    measured = {**rig.state.measured, "risk": {"tier": 2.0}}
    rig.state = replace(rig.state, policy=policy, measured=measured)
    assert rig.decide("approve", ERIK) == ["approval_cancelled", "approval_given"]
    gate = rig.state.open_gate
    assert gate is not None
    assert [a.by.name for a in gate.approvals] == ["erik"]


@pytest.mark.parametrize(
    ("sender", "channel", "verified"),
    [
        ("chatops", "cli", "os:dana"),  # it could open no home: nobody verified a login there
        ("chatops", "console", "dana"),
        ("operator", "github", "github:4711"),
        ("operator", "slack", "slack:U024BE7LH"),
    ],
)
def test_a_login_speaks_for_the_people_of_its_own_channels(sender: str, channel: str, verified: str) -> None:
    rig = judged(policy=DANA_EVERYWHERE)
    refused = rig.refused(rig.decide_command("approve"), sender, person("dana", channel, verified))
    assert refused.code == "not_allowed"
    assert f"not on {channel}" in refused.reason


@pytest.mark.parametrize(
    ("seen", "may"),
    [("", True), ("commit-", True), ("COMMIT-", True), ("commit", False), ("deadbeef", False), ("commit-99", False)],
)
def test_a_named_commit_must_be_the_gates(seen: str, may: bool) -> None:
    rig = judged(policy=DANA_EVERYWHERE)
    gate = rig.state.open_gate
    assert gate is not None
    command = cmd.DecideGate(gate=gate.id, decision="approve", commit=seen)
    if may:
        assert "gate_passed" in rig.accepted(command, "operator", DANA)
    else:
        assert rig.refused(command, "operator", DANA).code == "other_commit"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"approvers": [{"name": "a", "github": [1]}, {"name": "b", "github": [1]}]}, "give 1 to both a and b"),
        ({"approvers": [{"name": "a"}], "accounts": [{"name": "a", "github": [1]}]}, "who is an approver"),
        ({"accounts": [{"name": "a", "slack": ["U12"]}, {"name": "b", "slack": ["U12"]}]}, "give U12 to both a and b"),
        ({"approvers": [{"name": "a", "github": ["octocat"]}]}, "valid integer"),
        ({"approvers": [{"name": "a", "slack": ["@alice"]}]}, "match pattern"),
    ],
)
def test_an_account_is_one_persons(changes: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Policy.model_validate(changes)


@pytest.mark.parametrize(
    ("channel", "verified", "may"),
    [
        ("cli", "os:grace", True),
        ("cli", "os:gus", True),
        ("cli", "grace", True),
        ("cli", "os:guarded", False),
        ("cli", "os:grac", False),
        ("console", "4711", True),  # this channel verified the person itself
    ],
)
def test_accounts_of_the_operating_system(channel: str, verified: str, may: bool) -> None:
    reason = refusal(judged(), person("guarded", channel, verified))
    assert (reason is None) == may
    assert gates.may_operate(judged().state.policy, person("guarded", channel, verified)) == reason, (
        "nor retry or abort"
    )
    if reason:
        assert reason == f"{verified} may not speak as guarded; the policy names grace, gus"


@pytest.mark.parametrize("again", ["dana", "DANA"])
def test_one_person_approves_once(again: str) -> None:
    policy = Policy(approvers=(Approver(name="dana"), Approver(name="DANA"), Approver(name="erik")))
    rig = Rig(policy=policy).to("build-it")
    rig.work()
    assert rig.decide("approve", DANA) == ["approval_given"]
    assert refusal(rig, person(again)) == f"{again} has approved this gate already; another person must"
    assert refusal(rig, ERIK) is None


def test_nobody_is_named_when_nobody_may() -> None:
    rig = judged(policy=Policy())
    assert "add an approver to policy.yaml" in (refusal(rig, DANA) or "")


def test_a_session_that_has_not_started_has_no_approvers() -> None:
    state = initial("s1")
    gate = GateState("g", "judge-it", 1, "human", 1, "", (), "", "", TICKET_TIME)
    assert gates.eligible(state, "judge-it") == ()
    assert "it names nobody" in (gates.refusal(state, gate, DANA) or "")
    assert "it names nobody" in (gates.may_operate(state.policy, DANA) or "")


TICKET_TIME = Rig().now


@pytest.mark.parametrize(("name", "may"), [("olga", True), ("dana", True), ("Olga", False), ("stranger", False)])
def test_operators_and_approvers_operate(name: str, may: bool) -> None:
    reason = gates.may_operate(judged().state.policy, person(name))
    assert (reason is None) == may
    if reason:
        assert "alice, builder, dana, erik, guarded, low, olga" in reason


@pytest.mark.parametrize(
    ("approver", "line"),
    [
        (Approver(name="dana"), "dana"),
        (Approver(name="dana", phases=("judge-it",)), "dana (judge-it)"),
        (Approver(name="dana", phases=("judge-it",), up_to_risk=RiskLevel.MEDIUM),
         "dana (judge-it, up to medium risk)"),
        (Approver(name="dana", up_to_risk=RiskLevel.LOW), "dana (up to low risk)"),
    ],
)  # fmt: skip
def test_who_in_one_line(approver: Approver, line: str) -> None:
    assert gates.who(approver) == line


def phase(gate: GateDefinition) -> PhaseDefinition:
    return PIPELINE.phases[2].model_copy(update={"gate": gate})


@pytest.mark.parametrize(
    ("gate", "asks", "reason"),
    [
        (GateDefinition(), False, "criteria hold"),
        (GateDefinition(human="always"), True, "the pipeline asks for a person here"),
        (GateDefinition(human="when", when="metrics.rows >= 1.0"), True, "(measured metrics.rows = 20)"),
        (GateDefinition(human="when", when="metrics.rows < 1.0"), False, "(measured metrics.rows = 20)"),
        (GateDefinition(human="when", when="drift.score > 0.5"), True, "is not known: drift.score > 0.5"),
        (GateDefinition(human="when", when="metrics.rows"), True, "is not known"),
    ],
)
def test_when_a_person_is_asked(gate: GateDefinition, asks: bool, reason: str) -> None:
    state = Rig().to("judge-it").state
    person_needed, why = gates.needs_person(state, phase(gate))
    assert person_needed is asks
    assert reason in why


def test_a_condition_that_is_not_there_asks_a_person() -> None:
    gate = GateDefinition.model_construct(human="when", when=None)
    assert gates.needs_person(Rig().to("judge-it").state, phase(gate))[0]


def test_what_criteria_may_read() -> None:
    rig = Rig().to("judge-it")
    rig.claim()
    facts = gates.context(rig.state)
    assert facts["ticket"] == {"id": 12.0, "risk": "low", "task": "", "metric": "", "requester": "alice"}
    assert facts["metrics"] == {"rows": 20.0, "recall": 0.95}
    assert facts["costs"]["wall_seconds"] == 12.0
    assert facts["costs"]["usd"] == pytest.approx(0.022)
    assert facts["costs"]["tokens"] == 10.0
    assert gates.context(initial("s1")).keys() == {"costs"}


def test_an_agent_cannot_measure_the_ticket_or_the_costs() -> None:
    rig = Rig().start()
    rig.report(measurements=(
        Measurement(scope="ticket", name="risk", value=0.0), Measurement(scope="costs", name="usd", value=0.0),
    ))  # fmt: skip
    facts = gates.context(rig.state)
    assert facts["ticket"]["risk"] == "low"
    assert facts["costs"]["usd"] > 0.0


def test_exit_criteria_are_the_phases_own_and_the_tickets_where_they_apply() -> None:
    state: SessionState = Rig().to("judge-it").state
    plan, build, judge = PIPELINE.phases
    assert gates.exit_criteria(state, plan) == ()
    assert [r.expression for r in gates.exit_criteria(state, build)] == ["metrics.rows >= 10.0"]
    assert [r.expression for r in gates.exit_criteria(state, judge)] == ["metrics.recall >= 0.9"]


def test_approvals_are_kept_with_the_gate() -> None:
    rig = Rig().to("build-it")
    rig.work()
    rig.decide("approve", DANA, reason="fine")
    gate = rig.state.open_gate
    assert gate is not None
    assert gate.approvals == (Approval(by=DANA, reason="fine"),)
