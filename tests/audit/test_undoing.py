"""`session rollback --dry-run`: says everything, sends nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.audit.homes import STREAM, Place, completed_in
from tests.integration.train import Train

S = STREAM.name


def test_a_dry_run_says_what_would_change_and_writes_nothing(place: Place) -> None:
    boundary = next(e.sequence for e in place.rig.log if e.type == "phase_completed")
    before = place.home.record.read_bytes()
    code, document = place.run("session", "rollback", S, "--to", str(boundary), "--as", "olga", "--dry-run")
    assert (code, document["dry_run"], document["status"]) == (0, True, "rolled_back")
    assert {c["name"] for c in document["changes"] if c["kind"] == "artifact"} == {
        "model.bin", "proof.json", "proof.json.dsse.json", "report.md"}  # fmt: skip
    assert any("stay spent" in line for line in document["cannot_be_undone"])
    by_phase = place.run("session", "rollback", S, "--to", "build-it", "--as", "olga", "--dry-run")[1]
    assert [c for c in by_phase["changes"] if c["kind"] == "artifact"] == [
        c for c in document["changes"] if c["kind"] == "artifact"
    ]
    said = place.say("session", "rollback", S, "--to", str(boundary), "--as", "olga", "--dry-run")
    assert "- artifact model.bin: was" in said
    assert "What cannot be undone:" in said
    assert place.home.record.read_bytes() == before
    assert not place.home.bus.exists(), "nothing was started either"


@pytest.mark.parametrize(
    ("to", "who", "code", "said"),
    [
        ("2", "olga", 1, "was being worked on"),
        ("999", "olga", 1, "has events 1 to"),
        ("nowhere", "olga", 1, "has not started"),
        ("1", "mallory", 5, "does not name mallory"),
    ],
)
def test_a_dry_run_is_refused_as_the_command_would_be(place: Place, to: str, who: str, code: int, said: str) -> None:
    exit_code, document = place.run("session", "rollback", S, "--to", to, "--as", who, "--dry-run")
    assert exit_code == code
    assert said in document["error"]["message"]


def test_back_to_an_event_and_back_again_with_branch_and_bus(tmp_path: Path, blank: Path) -> None:
    """The real command, with the real effect executor on a real repository, and a checkpoint when each system stops."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    git("config", "user.name", "Test")
    git("config", "user.email", "test@localhost")
    git("commit", "--quiet", "--allow-empty", "-m", "Start")
    place, train = completed_in(tmp_path, blank), Train(tmp_path)
    end, content = place.rig.state, git("show", "phase/12:phases.txt")
    boundary = next(e.sequence for e in place.rig.log if e.type == "phase_completed")
    then = next(e.event.commit for e in place.rig.log[:boundary] if e.type == "effect_recorded")  # type: ignore[attr-defined]

    ran = train.run("session", "rollback", S, "--to", str(boundary), "--as", "olga", "--json")
    document = ran.json
    assert (ran.code, document["status"]) == (0, "rolled_back")
    assert any("stay spent" in line for line in document["cannot_be_undone"])
    assert git("rev-parse", "phase/12") == document["commit"]
    assert git("diff", then, "phase/12") == ""
    assert git("log", "-1", "--format=%s", "phase/12") == f"Roll back to event {boundary}"

    ran = train.run("session", "rollback", S, "--to", str(end.version), "--as", "olga", "--json")
    assert (ran.code, ran.json["status"]) == (0, "completed")
    assert git("show", "phase/12:phases.txt") == content
    assert git("diff", end.commit, "phase/12") == ""
    code, replayed = place.run("session", "replay", S, "--verify")
    assert (code, replayed["difference"]) == (0, None)
    assert place.findings() == []
    made = place.run("audit", "verify")[1]["checkpoints"]
    assert (made["count"], made["unsigned_events"]) == (4, 0)
    said = train.run("session", "rollback", S, "--to", "judge-it", "--as", "olga").out
    assert said.index("What cannot be undone:") < said.index("is back at the start of judge-it")
