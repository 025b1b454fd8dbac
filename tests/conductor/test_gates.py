"""Who may decide what. Every rule of eligibility, and every way around it that was thought of."""

from __future__ import annotations

import pytest

from conductor import gates
from conductor.state import GateState, SessionState, initial
from schemas.pipeline import GateDefinition, PhaseDefinition, PipelineDefinition
from schemas.policy import Approver, Policy
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


@pytest.mark.parametrize("channel", ["cli", "console", "github", "slack"])
def test_people_speak_over_four_channels(channel: str) -> None:
    assert refusal(judged(), person("dana", channel, "4711")) is None


@pytest.mark.parametrize(
    ("channel", "verified", "may"),
    [
        ("cli", "os:grace", True),
        ("cli", "os:gus", True),
        ("cli", "grace", True),
        ("cli", "os:guarded", False),
        ("cli", "os:grac", False),
        ("github", "4711", True),  # the other channels verified the person themselves
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
