"""What attempts leave behind: removed once nobody holds it, and kept where people may look."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workspace.leftovers import CONVERSATION, FAILED, KEPT, clear_dead, held, keep

HOLD = """
import sys, time
from pathlib import Path
from workspace.leftovers import held
with held(Path(sys.argv[1])) as place:
    (place / "in").mkdir()
    print("held", flush=True)
    time.sleep(600)
"""


def left(session: Path, name: str) -> Path:
    directory = session / name
    (directory / "in").mkdir(parents=True)
    return directory


def test_what_a_killed_process_held_goes_and_what_a_living_one_holds_stays(tmp_path: Path) -> None:
    there = tmp_path / "attempts" / "s1-abcde" / "build-it-1-7"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(there)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert clear_dead(tmp_path / "attempts") == ()
        assert (there / "in").is_dir()
    finally:
        process.kill()
        process.communicate()
    assert clear_dead(tmp_path / "attempts") == (there,)
    assert list(there.parent.iterdir()) == []


def test_what_failed_is_kept_with_the_reason(tmp_path: Path) -> None:
    session = tmp_path / "s1-abcde"
    with held(session / "build-it-1-7") as failed:
        (failed / "in").mkdir()
        keep(failed, "the data has no column left")
    done = left(session, "build-it-2-9")
    assert clear_dead(tmp_path) == (done,)
    assert (failed / FAILED).read_text("utf-8") == "the data has no column left\n"
    assert sorted(path.name for path in failed.iterdir()) == ["in", FAILED]


@pytest.mark.parametrize("name", [CONVERSATION, KEPT])
def test_what_can_go_on_waits_for_who_takes_it_over(tmp_path: Path, name: str) -> None:
    died = left(tmp_path / "s1-abcde", "build-it-1-7")
    (died / name).mkdir()
    assert clear_dead(tmp_path) == ()
    (died / name).rename(tmp_path / "taken over")
    assert clear_dead(tmp_path) == (died,)


def test_what_is_about_to_be_held_or_is_no_directory_stays(tmp_path: Path) -> None:
    session = tmp_path / "s1-abcde"
    coming, old = left(session, ".build-it-1-7"), left(session, ".build-it-1-3")
    os.utime(old, (time.time() - 3600,) * 2)
    elsewhere = left(tmp_path / "elsewhere" / "deeper", "build-it-1-7")
    (session / "link").symlink_to(elsewhere, target_is_directory=True)
    (session / "notes.txt").write_text("by a person", "utf-8")
    assert clear_dead(tmp_path / "nowhere") == ()
    assert old in clear_dead(tmp_path)
    assert sorted(path.name for path in session.iterdir()) == [coming.name, "link", "notes.txt"]


def test_a_directory_that_is_there_already_is_made_anew(tmp_path: Path) -> None:
    before = left(tmp_path / "s1-abcde", "build-it-1-7")
    with held(before) as place:
        assert list(place.iterdir()) == []
    (tmp_path / "a file").write_text("in the way", "utf-8")
    with held(tmp_path / "a file" / "build-it-1-7") as nowhere:
        assert not nowhere.exists()
    keep(tmp_path / "nowhere", "why")
    assert not (tmp_path / "nowhere").exists()
