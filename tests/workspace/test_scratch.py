"""What a killed process left among the temporary files goes with the next one's; nobody else's does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from workspace.scratch import PREFIX, YOUNG, scratch_folder, sweep

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys
from workspace.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "index").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for temporary files of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def hold(place: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process with a folder, and the folder, as old as one that may go."""
    environment = {**os.environ, "TMPDIR": str(place), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    age(folder)
    return process, folder


def age(folder: Path) -> None:
    changed = folder.stat().st_mtime - YOUNG - 1
    os.utime(folder, (changed, changed))


def test_it_is_gone_at_the_end(place: Path) -> None:
    with scratch_folder() as folder:
        (folder / "file").write_text("x")
        assert folder.parent == place
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_holds_stays(place: Path) -> None:
    (killed, left), (living, held) = hold(place), hold(place)
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        sweep()
        assert not left.exists()
        assert (held / "index").exists()
    finally:
        for process in (killed, living):
            process.communicate()
    assert list(place.iterdir()) == [], "the living one removed its own"


def test_the_next_process_sweeps(place: Path) -> None:
    killed, left = hold(place)
    killed.kill()
    killed.communicate()
    living, _ = hold(place)
    living.communicate()
    assert not left.exists()


def test_what_is_young_or_not_ours_stays(place: Path) -> None:
    young = place / f"{PREFIX}young"
    young.mkdir()
    other = place / "value-train-chaos-x"
    other.mkdir()
    age(other)
    link = place / f"{PREFIX}link"
    link.symlink_to(other)
    sweep()
    assert {path.name for path in place.iterdir()} == {young.name, other.name, link.name}
    age(young)
    sweep()
    assert not young.exists()
