"""`session rollback --dry-run`: says everything, sends nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from cli.bootstrap import system
from cli.settings import Settings
from conductor.state import Status
from schemas.commands import RetryPhase, RollbackSession
from schemas.values import ArtifactRef
from tests.audit.homes import STREAM, Place, completed_in
from tests.conductor.rig import OLGA
from tests.integration.train import Train
from workspace.git import AUTHOR_EMAIL, AUTHOR_NAME, EFFECT

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


Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """Runs git in a new repository with one commit; what it printed."""

    def run(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    run("init", "--quiet", "--initial-branch=main")
    run("config", "user.name", "Test")
    run("config", "user.email", "test@localhost")
    run("commit", "--quiet", "--allow-empty", "-m", "Start")
    return run


def test_back_to_an_event_and_back_again_with_branch_and_bus(tmp_path: Path, blank: Path, git: Git) -> None:
    """The real command, with the real effect executor on a real repository, and a checkpoint when each system stops."""
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


@pytest.mark.parametrize("made", [True, False], ids=["made but not reported", "not made"])
def test_a_rollback_while_a_commit_is_under_way(tmp_path: Path, blank: Path, git: Git, made: bool) -> None:
    """The executor died around the commit, then a person rolled back: the branch follows, and nothing comes after."""
    place = completed_in(tmp_path, blank)
    rig = place.rig
    place.send(RollbackSession(phase="judge-it"), "operator", OLGA)
    assert place.commit is not None
    rig.accepted(rig.receipt_command(commit=git("rev-parse", "phase/12~1")), "autopilot")
    place.send(RetryPhase(), "operator", OLGA)
    rig.claim()
    sha256, size = place.blobs.put(b"a second report")
    rig.report(artifacts=(ArtifactRef(name="report.md", sha256=sha256, size=size),))
    (under_way,) = rig.state.effects
    assert under_way.kind == "commit"
    if made:
        git("switch", "--quiet", "phase/12")
        (tmp_path / "phases.txt").write_text("half told\n")
        git("add", "phases.txt")
        author = ("-c", f"user.name={AUTHOR_NAME}", "-c", f"user.email={AUTHOR_EMAIL}")
        git(*author, "commit", "--quiet", "-m", f"Phase judge-it\n\n{EFFECT}: {under_way.id}")
        git("switch", "--quiet", "main")
    target = rig.state.marks["build-it"].commit
    place.send(RollbackSession(phase="build-it"), "operator", OLGA)
    place.record()
    before = git("rev-parse", "phase/12")
    stray = place.home.blobs / "open" / ".incoming-half"  # what the executor was storing when it died
    stray.write_bytes(b"half")
    os.utime(stray, (0, 0))

    async def carry_out() -> None:
        async with system(place.home, Settings(), "test", agents=False) as running:
            await running.settled(STREAM)
            state = await anyio.to_thread.run_sync(running.conductor.load, STREAM)
            assert (state.status, state.effects, state.unrestored) == (Status.ROLLED_BACK, (), False)

    anyio.run(carry_out)
    assert not stray.exists()
    assert git("diff", target, "phase/12") == ""
    assert git("rev-parse", "phase/12~1") == before, "one commit more, and nothing taken away"
    assert git("log", "--format=%s", "-1", "phase/12") == "Roll back to the start of build-it"
    assert git("log", "--format=%H", f"--grep={under_way.id}", "phase/12").count("\n") == 0
    assert bool(git("log", "--format=%H", f"--grep={under_way.id}", "phase/12")) == made
    assert place.findings() == []
    assert place.run("session", "replay", S, "--verify")[1]["difference"] is None
