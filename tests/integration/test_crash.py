"""kill -9 and Ctrl-C in the middle of a drive, a second drive on the same home, agents as processes of their own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

from tests.integration.train import Train, make

PATIENCE = 120.0


def _line(process: subprocess.Popen[str], word: str) -> str:
    """Read the drive's progress until a line holds `word`, and return that line."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if word in line:
            return line
    raise AssertionError(f"the drive ended before it said {word!r}:\n{''.join(seen)}")


def _processes(train: Train) -> list[int]:
    """Processes whose command line or directory names this home: servers, fork servers, children."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                cwd = os.readlink(entry / "cwd")
            except OSError:
                continue
            if str(train.home) in line + cwd:
                found.append(int(entry.name))
    return found


def _all_gone(train: Train) -> bool:
    """Wait, without looking again and again, until every process of the home has ended."""
    for pid in _processes(train):
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            if not poll.poll(30_000):
                return False
        finally:
            os.close(handle)
    return True


def _figures(train: Train) -> dict[str, float]:
    [row] = train.run("session", "list", "--json").json
    assert row["status"] == "completed"
    measured = row["measured"]["metrics"]
    return dict(measured.items())


def test_stopped_twice_in_the_middle_it_continues_to_the_same_result(train: Train, tmp_path: Path) -> None:
    """Ctrl-C while it prepares, kill -9 while it trains; then the same figures as an undisturbed drive."""
    path = train.ticket(1, "Predict a vote", data=train.data("votes.csv"), target="vote")
    calm = make(tmp_path / "calm")
    calm.data("votes.csv")
    (calm.repo / "backlog" / path.name).write_bytes(path.read_bytes())

    for blow, after in ((signal.SIGINT, "extraction"), (signal.SIGKILL, "model-architecture")):
        process = train.start("drive", cold=False)
        try:
            _line(process, after)
        finally:
            os.kill(process.pid, blow)
            out, err = process.communicate(timeout=30)
        assert "Traceback" not in out + err
        if blow == signal.SIGINT:
            assert process.returncode == 130
            assert "nothing is lost" in err
        assert _all_gone(train)

    [session] = train.run("session", "list", "--json").json
    left = train.home / "attempts" / session["session"] / "training-1-1"  # as an attempt that was killed would
    (left / "in").mkdir(parents=True, exist_ok=True)
    assert train.run("drive", "--json").code == 0
    assert calm.run("drive", "--json").code == 0
    assert _figures(train) == _figures(calm)
    assert list((train.home / "attempts").glob("*/*")) == [], "what the killed attempts left is gone"
    assert train.run("session", "replay", session["session"], "--verify", "--json").json["difference"] is None
    assert train.run("audit", "verify").code == 0


def test_a_second_drive_and_a_gate_while_a_drive_runs(train: Train) -> None:
    votes = train.data("votes.csv")
    train.ticket(1, "Predict a vote", data=votes, target="vote", risk="medium", pipeline=train.light())
    process = train.start("drive", "--wait", cold=False)
    try:
        _line(process, "session s1-")
        second = train.run("drive")
        assert second.code == 1
        assert "a drive (process" in second.err
        _line(process, "waits for a person")
        [gate] = train.run("gate", "list", "--json").json
        assert train.run("gate", "approve", gate["gate"], "--as", "dana").code == 0
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, out + err
    assert "COMPLETED" in out


def test_agents_as_processes_of_their_own(train: Train) -> None:
    """Data runs apart and completes its phases; the drive's own agents are off, so nobody else can have done it."""
    train.ticket(1, "Predict a vote", data=train.data("votes.csv"), target="vote")
    drive = train.start("drive", "--no-agents", cold=False)
    agents: list[subprocess.Popen[str]] = []
    try:
        _line(drive, "session s1-")
        agents = [train.start("agent", "run", role, cold=False) for role in ("lead", "data")]
        _line(drive, "exploration")
    finally:
        drive.send_signal(signal.SIGINT)
        drive.communicate(timeout=30)
        for agent in agents:
            agent.communicate(timeout=30)
    assert [agent.returncode for agent in agents] == [0, 0], "an agent ends when its system ends"
    assert train.run("audit", "verify").code == 0
