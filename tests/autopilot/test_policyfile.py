"""The policy file: read strictly, versioned by meaning, never weakened by a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from autopilot.policyfile import REMEDIES, PolicyError, advice, load_policy, version_of
from schemas.policy import Approver, Policy
from schemas.values import RiskLevel

FULL = """\
# who may decide
approvers:
  - name: alice
    phases: [risk-review]
    up_to_risk: medium
    os_users: alice
  - bob
operators: carol
separation_of_duties: no
data_roots: [data, /srv/data]
max_data_bytes: 1000
max_risk: medium
wip: 3
max_failures: 1
usd_per_cpu_hour: 0.5
signing_key: key.pem
"""


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_every_field(tmp_path: Path) -> None:
    policy, version = load_policy(write(tmp_path, FULL))
    assert policy == Policy(
        approvers=(
            Approver(name="alice", phases=("risk-review",), up_to_risk=RiskLevel.MEDIUM, os_users=("alice",)),
            Approver(name="bob"),
        ),
        operators=("carol",),
        separation_of_duties=False,
        data_roots=("data", "/srv/data"),
        max_data_bytes=1000,
        max_risk=RiskLevel.MEDIUM,
        wip=3,
        max_failures=1,
        usd_per_cpu_hour=0.5,
        signing_key="key.pem",
    )
    assert version == version_of(policy)
    assert set(REMEDIES) == set(Policy.model_fields)


def test_hosts_are_kept_as_they_are_compared(tmp_path: Path) -> None:
    policy, _ = load_policy(write(tmp_path, "sandbox_hosts: [PyPI.example.:443, '[::1]:80', 10.0.0.1:8080]\n"))
    assert policy.sandbox_hosts == ("pypi.example:443", "[::1]:80", "10.0.0.1:8080")
    assert load_policy(write(tmp_path, "sandbox_hosts: pypi.example:443\n"))[0].sandbox_hosts == ("pypi.example:443",)


@pytest.mark.parametrize("text", [None, "", "# nothing yet\n", "approvers:\n"])
def test_without_a_policy_nobody_can_approve_and_that_is_said(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "policy.yaml" if text is None else write(tmp_path, text)
    policy, version = load_policy(path)
    assert policy == Policy()
    assert version == version_of(Policy())
    assert "names no approver, so nobody can decide a gate" in advice(policy, path)[0]
    assert advice(Policy(approvers=(Approver(name="a"),)), path) == []


def test_the_version_follows_the_meaning(tmp_path: Path) -> None:
    _, version = load_policy(write(tmp_path, "wip: 3\nmax_risk: low\n"))
    assert load_policy(write(tmp_path, "# a comment\nmax_risk: low\nwip: 3\n"))[1] == version
    assert load_policy(write(tmp_path, "max_risk: low\nwip: 4\n"))[1] != version
    assert len(version) == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aprovers: [alice]\n", "line 1: `aprovers` is no known field; did you mean `approvers`?"),
        (
            "wip: 1\napprovers:\n  - name: a\n    upto_risk: low\n",
            "line 4: `approvers[1].upto_risk` is no known field; did you",
        ),
        ("approvers:\n  - up_to_risk: low\n", "`approvers[1].name` is missing; write a list"),
        ("approvers: [alice, bob, alice]\n", "line 1: `approvers` names alice twice; write each person once"),
        ("wip: 0\n", "`wip` is '0', but should be greater than or equal to 1; write a whole number"),
        ("sandbox_hosts: pypi.example\n", "'pypi.example' is no host with a port: write NAME:PORT"),
        ("sandbox_hosts: ['*.example:443']\n", "no host with a port"),
        ("sandbox_hosts: ['0x7f.1:443']\n", "has no address as it is usually written"),
        ("wip: many\n", "`wip` is 'many', but should be a valid integer"),
        ("separation_of_duties: perhaps\n", "`separation_of_duties` is 'perhaps', but should be a valid boolean"),
        ("max_risk: low\nmax_risk: high\n", "line 2: `max_risk` is written twice (first in line 1)"),
        ("- a\n", "line 1: `file` is no list of `field: value` lines"),
        ("approvers: &a []\n", "anchor or alias"),
        (b"operators: [caf\xe9]\n", "is not UTF-8 text"),
        ("#" * 300_000, "is larger than 256 kB"),
    ],
)
def test_mistakes_stop_everything_and_are_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_policy_that_cannot_be_read_is_no_empty_policy(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path)
