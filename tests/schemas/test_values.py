"""Values, pipeline definitions and policies: their bounds and their arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from pydantic import TypeAdapter, ValidationError

from schemas.pipeline import ChecklistItem, GateDefinition, PhaseDefinition, PipelineDefinition, RetryPolicy
from schemas.policy import Approver, Policy
from schemas.values import (
    Actor,
    ArtifactRef,
    CriterionResult,
    Measurement,
    PhaseName,
    RiskLevel,
    Role,
    StreamName,
    Tenant,
    Usage,
)
from tests.schemas import strategies

USAGE = strategies.model(Usage)
PHASE: dict[str, Any] = {
    "name": "scope", "agent": "lead", "mode": "scope", "purpose": "Scope.", "skills": ["lead.scope"]
}  # fmt: skip


def test_risk_is_ordered() -> None:
    assert [r.rank for r in (RiskLevel.LOW, RiskLevel.MEDIUM, RiskLevel.HIGH)] == [0, 1, 2]


def test_there_are_seven_agents() -> None:
    assert len(Role) == 7


@given(USAGE, USAGE)
def test_usage_adds_up_and_never_goes_down(one: Usage, other: Usage) -> None:
    total = one.plus(other)
    for name in Usage.model_fields:
        assert getattr(total, name) >= max(getattr(one, name), getattr(other, name))
    assert total == other.plus(one)
    assert one.plus(Usage()) == one


def test_memory_is_the_larger_and_the_rest_the_sum() -> None:
    one = Usage(wall_seconds=1.0, cpu_seconds=2.0, peak_rss_bytes=300, tokens=4, usd=0.5)
    other = Usage(wall_seconds=10.0, cpu_seconds=20.0, peak_rss_bytes=30, tokens=40, usd=5.0)
    assert one.plus(other) == Usage(wall_seconds=11.0, cpu_seconds=22.0, peak_rss_bytes=300, tokens=44, usd=5.5)


@pytest.mark.parametrize("name", Usage.model_fields)
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 1e16])
def test_usage_is_a_quantity(name: str, value: float) -> None:
    with pytest.raises(ValidationError):
        Usage.model_validate({name: value})


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (
            PhaseName,
            ["scope", "data-sources", "a1"],
            ["", "Scope", "a", "1a", "a_b", "a.b", "a b", "scope\n", "x" * 42],
        ),
        (StreamName, ["s12-abcde", "D_1", "0"], ["", "a.b", "a/b", "..", "-a", "*", ">", "a b", "x" * 65, "a\n"]),
        (Tenant, ["default", "acme-1"], ["", "A", "a.b", "a_b", "-a", "*", "x" * 33, "a\n"]),
    ],
)
def test_names_are_subject_tokens_and_file_names(kind: Any, good: list[str], bad: list[str]) -> None:
    adapter: TypeAdapter[str] = TypeAdapter(kind)
    for name in good:
        assert adapter.validate_python(name) == name
    for name in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(name)


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "a b", "-rf", "x" * 101, "a\n"])
def test_artifacts_have_safe_file_names(name: str) -> None:
    with pytest.raises(ValidationError):
        ArtifactRef(name=name, sha256="0" * 64, size=0)


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64])
def test_digests_are_sha_256(digest: str) -> None:
    with pytest.raises(ValidationError):
        ArtifactRef(name="a", sha256=digest, size=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_figures_are_finite(value: float) -> None:
    with pytest.raises(ValidationError):
        Measurement(scope="metrics", name="recall", value=value)
    with pytest.raises(ValidationError):
        CriterionResult(expression="a.b > 1.0", passed=False, measured={"a.b": value})


def test_what_was_measured_keeps_its_kind() -> None:
    result = CriterionResult(expression="x", passed=True, measured={"a.b": 1.0, "c.d": True, "e.f": "low"})
    again = CriterionResult.model_validate_json(result.model_dump_json())
    assert [type(v) for v in again.measured.values()] == [float, bool, str]


def test_values_do_not_change() -> None:
    actor = Actor(name="dana", channel="cli", verified_as="os:dana")
    with pytest.raises(ValidationError, match="frozen"):
        actor.name = "erik"
    with pytest.raises(ValidationError, match="Extra inputs"):
        Actor.model_validate({"name": "dana", "channel": "cli", "verified_as": "x", "admin": True})


# Pipelines


def pipeline(*names: str) -> PipelineDefinition:
    phases = tuple(PhaseDefinition.model_validate(PHASE | {"name": n}) for n in names)
    return PipelineDefinition(name="mine", description="", phases=phases)


def test_phases_follow_each_other() -> None:
    mine = pipeline("scope", "build", "ship")
    assert mine.phase("build").name == "build"
    assert mine.before == {"scope": (), "build": ("scope",), "ship": ("build",)}
    with pytest.raises(KeyError, match=r"pipeline 'mine' has no phase 'sell'; it has scope, build, ship"):
        mine.phase("sell")


def graph(**after: list[str]) -> PipelineDefinition:
    """A pipeline of phases that come after those named; each makes an artifact of its own name."""
    phases = tuple(PHASE | {"name": n, "after": a, "artifacts": [f"{n}.json"]} for n, a in after.items())
    return PipelineDefinition.model_validate({"name": "mine", "description": "", "phases": phases})


def test_phases_may_run_in_parallel_and_join() -> None:
    mine = graph(scope=[], left=["scope"], right=["scope"], join=["right", "left"], apart=[])
    assert mine.before["join"] == ("left", "right")
    assert mine.descendants["scope"] == {"left", "right", "join"}
    assert mine.descendants["apart"] == mine.descendants["join"] == set()


@pytest.mark.parametrize("after", ["join", "ours", "nobody"])
def test_a_phase_comes_after_what_stands_above_it(after: str) -> None:
    with pytest.raises(ValidationError, match=f"phase ours comes `after` {after}, which stands not above it"):
        graph(scope=[], ours=[after], join=["scope"])


def test_two_at_once_do_not_write_the_same_artifact() -> None:
    def artifacts(after: list[str]) -> list[dict[str, object]]:
        names = {"scope": ([], "a"), "left": (["scope"], "x"), "right": (after, "x")}
        return [PHASE | {"name": n, "after": before, "artifacts": [made]} for n, (before, made) in names.items()]

    base = {"name": "mine", "description": ""}
    assert PipelineDefinition.model_validate(base | {"phases": artifacts(["left"])})
    with pytest.raises(ValidationError, match="left and right may run at the same time and both produce x"):
        PipelineDefinition.model_validate(base | {"phases": artifacts(["scope"])})


def test_a_field_that_came_later_leaves_the_bytes_of_older_ones_as_they_were() -> None:
    assert "after" not in pipeline("scope", "build").model_dump_json()
    assert graph(scope=[]).phases[0].model_dump(mode="json")["after"] == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "Scope"}, "String should match pattern"),
        ({"agent": "boss"}, "Input should be 'lead'"),
        ({"mode": "dream"}, "Input should be 'intake'"),
        ({"skills": []}, "at least 1 item"),
        ({"timeout_seconds": 0}, "greater than 0"),
        ({"timeout_seconds": 1e300}, "less than or equal to"),
        ({"checklist": [{"id": "aa", "text": ""}, {"id": "aa", "text": ""}]}, "checklist item named twice: aa"),
        ({"artifacts": ["a", "b", "a", "b"]}, "artifact named twice: a, b"),
        ({"artifacts": ["a b"]}, "String should match pattern"),
        ({"artifacts": ["a"], "sign": ["b", "c"]}, "`sign` names what is not among the phase's artifacts: b, c"),
        ({"artifacts": ["a.dsse.json"]}, "signatures are made by `sign`, not by the phase: a.dsse.json"),
        ({"gate": {"human": "when"}}, "`when: <criterion>` goes with `human: when`, and only with it"),
        ({"gate": {"human": "always", "when": "true"}}, "goes with `human: when`, and only with it"),
        ({"gate": {"human": "always", "quorum": 0}}, "greater than or equal to 1"),
        ({"gate": {"human": "sometimes"}}, "Input should be 'never', 'always' or 'when'"),
        ({"retry": {"max_attempts": 0}}, "greater than or equal to 1"),
        ({"retry": {"max_attempts": 11}}, "less than or equal to 10"),
        ({"retry": {"cap_seconds": 1e300}}, "less than or equal to"),
        ({"skipp": True}, "Extra inputs are not permitted"),
    ],
)
def test_a_phase_that_cannot_be(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PhaseDefinition.model_validate(PHASE | fields)
    assert said in str(caught.value)


def test_a_pipeline_that_cannot_be() -> None:
    with pytest.raises(ValidationError, match="phase named twice: scope"):
        pipeline("scope", "build", "scope")
    with pytest.raises(ValidationError, match="at least 1 item"):
        pipeline()


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        (RetryPolicy(), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]),
        (RetryPolicy(base_seconds=0.0), [0.0] * 8),
        (RetryPolicy(base_seconds=5.0, cap_seconds=3.0), [3.0] * 8),
    ],
)
def test_pauses(policy: RetryPolicy, delays: list[float]) -> None:
    assert [policy.delay(attempt) for attempt in range(2, 10)] == delays
    assert policy.delay(1) == policy.delay(2)


def test_gates_and_items_have_sensible_defaults() -> None:
    assert GateDefinition().human == "never"
    assert ChecklistItem(id="done", text="It is done").required
    assert GateDefinition(human="when", when="true").quorum == 1


# Policies


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"approvers": [{"name": ""}]}, "at least 1 character"),
        ({"approvers": [{"name": "dana", "up_to_risk": "extreme"}]}, "Input should be 'low'"),
        ({"approvers": [{"name": "dana", "phases": ["No"]}]}, "String should match pattern"),
        ({"max_data_bytes": 0}, "greater than 0"),
        ({"wip": 0}, "greater than or equal to 1"),
        ({"max_failures": 0}, "greater than or equal to 1"),
        ({"usd_per_cpu_hour": -1}, "greater than or equal to 0"),
        ({"usd_per_cpu_hour": 1e9}, "less than or equal to 1000"),
        ({"seperation_of_duties": False}, "Extra inputs are not permitted"),
    ],
)
def test_a_policy_that_cannot_be(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Policy.model_validate(fields)
    assert said in str(caught.value)


def test_the_policy_of_nobody_lets_nobody() -> None:
    policy = Policy()
    assert (policy.approvers, policy.operators, policy.separation_of_duties) == ((), (), True)
    assert Approver(name="dana").up_to_risk is RiskLevel.HIGH
