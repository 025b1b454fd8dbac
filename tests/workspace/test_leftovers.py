"""What attempts leave behind: removed once a newer lease proves the older one dead, and kept where people may look."""

from __future__ import annotations

from pathlib import Path

from workspace.leftovers import FAILED, clear_dead, keep, place_of


def made(session: Path, phase: str, attempt: int, lease: int) -> Path:
    directory = place_of(session, phase, attempt, lease)
    (directory / "in").mkdir(parents=True)
    (directory / "in" / "rows.csv").write_text("a,b\n", "utf-8")
    return directory


def test_older_leases_of_the_phase_are_dead_and_nothing_else_is(tmp_path: Path) -> None:
    session = tmp_path / "s1-abcde"
    first, second = made(session, "build-it", 1, 7), made(session, "build-it", 1, 9)
    mine, newer = made(session, "build-it", 2, 12), made(session, "build-it", 2, 13)
    others = [made(session, "build", 1, 5), made(session, "build-it-well", 1, 6), made(session, "judge-it", 1, 8)]
    strange = session / "build-it-1"
    strange.mkdir()
    link = place_of(session, "build-it", 1, 3)
    link.symlink_to(others[0], target_is_directory=True)

    assert clear_dead(session, "build-it", 12) == (first, second)

    assert sorted(session.iterdir()) == sorted([mine, newer, *others, strange, link])
    assert clear_dead(session, "build-it", 12) == ()


def test_what_failed_is_kept_with_the_reason(tmp_path: Path) -> None:
    session = tmp_path / "s1-abcde"
    failed, died = made(session, "build-it", 1, 7), made(session, "build-it", 2, 9)
    keep(failed, "the data has no column left")
    assert clear_dead(session, "build-it", 12) == (died,)
    assert (failed / FAILED).read_text("utf-8") == "the data has no column left\n"


def test_a_session_without_a_directory(tmp_path: Path) -> None:
    keep(tmp_path / "nowhere", "why")
    assert clear_dead(tmp_path / "nowhere", "build-it", 2) == ()
    assert list(tmp_path.iterdir()) == []
