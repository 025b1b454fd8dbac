"""Stored inputs past their days: shown first, removed with a journal, never what a session was made from."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from agents.skills.feature.backfill import BackfillParameters, FeatureBackfill
from agents.skills.feature.partitions import MANIFEST, WORK, held
from cli.errors import CliError
from cli.reading import reading
from cli.retention import JOURNAL, check_journal, past_their_days, remove, used_by
from schemas.ticket import Ticket
from tests.audit.homes import Place, completed
from tests.skills.conftest import DATA
from tests.skills.harness import run_skill
from tests.skills.packages import package, scope_of

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
"""When the tests' skills run."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A real backfill of real rows, some of them personal, in `root`."""
    return backfilled(tmp_path, tmp_path / "backfills")


def backfilled(folder: Path, root: Path, **parameters: Any) -> Path:
    rows = pd.read_csv(DATA / "votes.csv")
    rows.to_csv(folder / "votes.csv", index=False)
    package(
        folder / "model-package.zip", rows.drop(columns="vote"), rows["vote"],
        scope_of("vote", ("Clinton", "Dole"), "roc_auc"),
    )  # fmt: skip
    run_skill(
        FeatureBackfill, Ticket(id=5, title="Past rows", data="votes.csv"), folder / "runs",
        {"model-package.zip": folder / "model-package.zip"}, roots=(folder,), facts={"backfills": str(root)},
        parameters=BackfillParameters(window_rows=500, **parameters),
    )  # fmt: skip
    return root


def files(root: Path) -> set[str]:
    return {path.name for path in root.glob("*/*.parquet")}


def test_only_what_is_past_its_days_goes_and_the_journal_says_so(root: Path) -> None:
    everything = files(root)
    assert len(everything) == 4
    assert past_their_days(root, 365, 30, NOW + timedelta(days=30), {}) == []
    soon = NOW + timedelta(days=31)
    found = past_their_days(root, 365, 30, soon, {})
    assert {each.file for each in found} == {name for name in everything if ".personal." in name}
    assert files(root) == everything, "looking removes nothing"
    removed = remove(root, found, soon)
    assert files(root) == {name for name in everything if ".personal." not in name}
    assert past_their_days(root, 365, 30, soon, {}) == []
    later = NOW + timedelta(days=366)
    rest = past_their_days(root, 365, 30, later, {})
    remove(root, rest, later)
    assert files(root) == set()
    lines = [json.loads(line) for line in (root / JOURNAL).read_text("utf-8").splitlines()]
    assert [line["file"] for line in lines] == [each.file for each in (*removed, *rest)]
    assert all(line["sha256"] == line["expected"] and line["by"] for line in lines)
    assert lines[0]["reason"] == "made 2026-11-20T09:00:00Z, kept 30 days"
    [manifest] = root.glob(f"*/{MANIFEST}")
    told = json.loads(manifest.read_text("utf-8"))
    assert (told["partitions"], len(told["removed"])) == ([], 4)
    check_journal(root)


def test_the_same_ticket_makes_them_again_byte_for_byte(root: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in root.glob("*/*.parquet")}
    later = NOW + timedelta(days=31)
    remove(root, past_their_days(root, 365, 30, later, {}), later)
    backfilled(tmp_path, root)
    assert {path.name: path.read_bytes() for path in root.glob("*/*.parquet")} == before


def test_a_backfill_may_ask_for_less_time(tmp_path: Path) -> None:
    root = backfilled(tmp_path, tmp_path / "backfills", keep_days=3)
    found = past_their_days(root, 365, 30, NOW + timedelta(days=4), {})
    assert ({each.days for each in found}, len(found)) == ({3}, 4)


def test_what_is_used_stays_and_says_why(root: Path) -> None:
    later = NOW + timedelta(days=366)
    first = past_their_days(root, 365, 30, later, {})[0]
    found = past_their_days(root, 365, 30, later, {first.sha256: "session s1 was made from it"})
    assert "stays: session s1 was made from it" in found[0].sentence
    remove(root, found, later)
    assert files(root) == {first.file}


def test_what_sessions_refer_to_is_read_from_the_record(tmp_path: Path, blank: Path) -> None:
    source = {"sha256": "cd" * 32}
    place = completed(tmp_path / "home", blank, {"data-source.json": json.dumps(source).encode()})
    with reading(place.home.path) as record:
        used = used_by(record, place.blobs)
    assert "was made from it" in used["cd" * 32]
    assert any("is an artifact of session" in why for why in used.values())
    [blob] = [
        path for path in (place.home.blobs / "open").rglob("*")
        if path.is_file() and path.read_bytes() == json.dumps(source).encode()
    ]  # fmt: skip
    blob.unlink()
    with reading(place.home.path) as record, pytest.raises(CliError, match="so nothing is removed"):
        used_by(record, place.blobs)


def test_a_journal_that_was_changed_stops_every_removal(root: Path) -> None:
    soon, later = NOW + timedelta(days=31), NOW + timedelta(days=366)
    remove(root, past_their_days(root, 365, 30, soon, {}), soon)
    journal = root / JOURNAL
    lines = journal.read_text("utf-8").splitlines()
    for broken in (lines[1:], [lines[0].replace("personal", "impersonal"), lines[1]], ["{}"]):
        journal.write_text("\n".join(broken) + "\n")
        before = files(root)
        with pytest.raises(CliError, match=r"line \d does not follow"):
            remove(root, past_their_days(root, 365, 30, later, {}), later)
        assert files(root) == before
    assert len(before) == 2


def test_a_removal_that_was_cut_off_is_finished(root: Path) -> None:
    """The file went, the manifest was not written any more: the next run completes it without a second line."""
    later = NOW + timedelta(days=31)
    found = past_their_days(root, 365, 30, later, {})
    (root / found[0].job / found[0].file).unlink()
    remove(root, found, later)
    assert len((root / JOURNAL).read_text("utf-8").splitlines()) == len(found) - 1
    assert past_their_days(root, 365, 30, later, {}) == []


def test_work_in_progress_is_left_alone_and_old_pieces_go(root: Path) -> None:
    later = NOW + timedelta(days=366)
    found = past_their_days(root, 365, 30, later, {})
    with held(root, found[0].job), pytest.raises(CliError, match="another run works on backfill"):
        remove(root, found, later)
    work = root / found[0].job / WORK
    work.mkdir()
    piece = work / "00000000.parquet"
    piece.write_bytes(b"rows")
    os.utime(piece, (NOW.timestamp(),) * 2)
    assert not any(each.file == "" for each in past_their_days(root, 365, 30, NOW + timedelta(days=29), {}))
    [old] = [each for each in past_their_days(root, 365, 30, NOW + timedelta(days=31), {}) if not each.file]
    assert "the pieces of a run that did not end" in old.sentence
    remove(root, [old], NOW + timedelta(days=31))
    assert not work.exists()


@pytest.mark.parametrize(
    "broken", ["[]", '{"made": "now"}', '{"made": "2026-01-01T00:00:00Z", "partitions": [{"file": "../x.parquet"}]}']
)
def test_a_manifest_that_names_something_else_is_refused(root: Path, broken: str) -> None:
    [path] = root.glob(f"*/{MANIFEST}")
    path.write_text(broken)
    with pytest.raises(CliError, match=r"manifest\.json cannot be read"):
        past_their_days(root, 1, 1, NOW + timedelta(days=9), {})


def test_the_command_shows_first_and_removes_when_told(place: Place, tmp_path: Path) -> None:
    root = backfilled(tmp_path, place.home.path / "backfills")
    [manifest] = root.glob(f"*/{MANIFEST}")
    told = json.loads(manifest.read_text("utf-8"))
    assert place.run("feature", "expire") == (0, {"past_their_days": [], "removed": 0})
    manifest.write_text(json.dumps(told | {"made": (datetime.now(UTC) - timedelta(days=40)).isoformat()}))
    code, found = place.run("feature", "expire")
    assert (code, found["removed"], len(found["past_their_days"])) == (0, 0, 2)
    assert "2 would be removed" in place.say("feature", "expire")
    assert len(files(root)) == 4
    code, found = place.run("feature", "expire", "--apply")
    assert (code, found["removed"]) == (0, 2)
    assert all(each["personal"] and each["removed"] for each in found["past_their_days"])
    assert len(files(root)) == 2
    assert "Nothing is past its days." in place.say("feature", "expire")
