"""The ticket folder: everything shown, nothing sealed committed, free text harmless, edits named."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from schemas.ticket import Ticket
from schemas.values import ArtifactRef
from workspace.blobs import BlobMissing, Blobs
from workspace.folder import (
    LARGEST_COMMITTED,
    GateEntry,
    ItemEntry,
    PhaseEntry,
    TicketFolder,
    code,
    detect_edits,
    plain,
    render,
    why_not_committed,
)
from workspace.git import EFFECT, Repository, ticket_folder
from workspace.worktree import Worktree

TICKET = Ticket.model_validate(
    {"id": 12, "title": "Flag [malignant](http://x) | tumours", "labels": ("Task", "auto"), "body": "Why:\nbecause."}
)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def artifact(blobs: Blobs, name: str, content: bytes, sealed: bool = False) -> ArtifactRef:
    sha256, size = blobs.put(content, sealed=sealed)
    return ArtifactRef(name=name, sha256=sha256, size=size, sealed=sealed)


@pytest.fixture
def folder(blobs: Blobs) -> TicketFolder:
    made = (
        artifact(blobs, "train.parquet", b"rows"),
        artifact(blobs, "split.json", b'{"rows": 3}'),
        artifact(blobs, "holdout-labels.parquet", b"labels", sealed=True),
        artifact(blobs, "sealed.json", b"labels too", sealed=True),
    )
    items = (
        ItemEntry("twins-searched", "Twins were | searched", True, "0 of 455 rows\nhave a twin"),
        ItemEntry("extra", "More", False),
    )
    return TicketFolder(
        session="s12-k7m2p",
        ticket=TICKET,
        pipeline="ml-delivery",
        branch="phase/delivery_12-k7m2p",
        base_commit="a" * 40,
        status="waiting",
        phase="training",
        updated="2026-11-21T09:00:00.000000Z",
        acceptance=("metrics.recall >= 0.88 || false",),
        phases=(
            PhaseEntry("preparation", "data", "build", "completed", 1, "Split 569 rows", items, made, ("Few | rows",)),
            PhaseEntry("training", "training", "build", "gate", 2, "", (), (artifact(blobs, "model.skops", b"m"),)),
            PhaseEntry("validation", "evaluation", "evaluate", "pending", 0),
        ),
        gates=(GateEntry("g1", "training", "human", "open", "", "medium risk"),),
        measured={"metrics.recall": 0.9302325, "data.rows": 569.0},
        cost_usd=0.0123,
        seconds=41.27,
    )


def header(text: bytes) -> Any:
    _, head, _ = text.decode().split("---\n", 2)
    return yaml.safe_load(head)


def test_the_files(folder: TicketFolder, blobs: Blobs) -> None:
    files = render(folder, blobs.read)
    assert sorted(files) == [
        "ACTIVE_SESSION.md",
        "artifacts/manifest.json",
        "artifacts/preparation/split.json",
        "artifacts/training/model.skops",
        "checklist.md",
        "ticket.yml",
    ]
    assert files == render(folder, blobs.read)
    assert files["artifacts/preparation/split.json"] == b'{"rows": 3}'


def test_active_session_has_a_header_for_programs_and_a_body_for_people(folder: TicketFolder, blobs: Blobs) -> None:
    text = render(folder, blobs.read)["ACTIVE_SESSION.md"]
    assert header(text) == {
        "session": "s12-k7m2p",
        "ticket": 12,
        "pipeline": "ml-delivery",
        "status": "waiting",
        "phase": "training",
        "attempt": 2,
        "branch": "phase/delivery_12-k7m2p",
        "base_commit": "a" * 40,
        "gates": [{"gate": "g1", "phase": "training", "kind": "human", "status": "open"}],
        "updated": "2026-11-21T09:00:00.000000Z",
    }
    body = text.decode()
    assert "# Ticket 12: Flag \\[malignant\\](http://x) \\| tumours" in body
    assert "session `s12-k7m2p` was **waiting**, in phase training" in body
    assert (
        "`valuetrain session show s12-k7m2p` says how it stands now. Used so far: 41.3 s of skill time, $0.0123."
        in body
    )
    assert (
        "| ✔ | preparation | data | 1 | 1/2 | train.parquet, [split.json](artifacts/preparation/split.json), "
        "holdout-labels.parquet, sealed.json | Split 569 rows |"
    ) in body
    assert "| · | validation | evaluation | – | 0/0 | – | – |" in body
    assert "| `metrics.recall` | 0.930233 | – | – |" in body
    assert "- `metrics.recall >= 0.88 \\|\\| false`" in body
    assert "| `g1` | training | human | open | – | medium risk |" in body
    assert "- preparation: Few \\| rows" in body


def test_the_checklist_is_ticked_with_evidence(folder: TicketFolder, blobs: Blobs) -> None:
    text = render(folder, blobs.read)["checklist.md"].decode()
    assert "- [x] `twins-searched` Twins were \\| searched: 0 of 455 rows have a twin" in text
    assert "- [ ] `extra` More (optional)" in text
    assert "## validation" not in text


def test_the_ticket_reads_back(folder: TicketFolder, blobs: Blobs) -> None:
    text = render(folder, blobs.read)["ticket.yml"].decode()
    assert Ticket.model_validate(yaml.safe_load(text)) == TICKET
    assert "body: |-\n  Why:\n  because." in text


def test_the_manifest_lists_everything_and_says_why_not(folder: TicketFolder, blobs: Blobs) -> None:
    manifest = json.loads(render(folder, blobs.read)["artifacts/manifest.json"])
    entries = {entry["name"]: entry for entry in manifest["artifacts"]}
    assert list(entries) == ["holdout-labels.parquet", "sealed.json", "split.json", "train.parquet", "model.skops"]
    assert entries["sealed.json"]["reason"].startswith("sealed")
    assert entries["train.parquet"]["reason"].startswith(".parquet: rows of data")
    assert entries["split.json"]["path"] == "preparation/split.json"
    for ref in (ref for phase in folder.phases for ref in phase.artifacts):
        assert (entries[ref.name]["sha256"], entries[ref.name]["size"]) == (ref.sha256, ref.size)
        assert entries[ref.name]["committed"] == ("reason" not in entries[ref.name])


@pytest.mark.parametrize(
    ("name", "size", "sealed", "committed"),
    [
        ("a.json", 10, False, True),
        ("a.JSON", 10, False, True),
        ("a.json", LARGEST_COMMITTED, False, True),
        ("a.json", LARGEST_COMMITTED + 1, False, False),
        ("a.json", 10, True, False),
        ("a.parquet", 10, False, False),
        ("a.csv", 10, False, False),
        ("a", 10, False, False),
        ("model-package.zip.dsse.json", 10, False, True),
    ],
)
def test_what_belongs_into_git(name: str, size: int, sealed: bool, committed: bool) -> None:
    ref = ArtifactRef(name=name, sha256="0" * 64, size=size, sealed=sealed)
    assert (why_not_committed(ref) is None) == committed


def test_a_missing_artifact_is_not_passed_over(folder: TicketFolder, tmp_path: Path) -> None:
    with pytest.raises(BlobMissing):
        render(folder, Blobs(tmp_path / "empty").read)


@given(text=st.text())
def test_free_text_stays_one_line_and_draws_nothing(text: str) -> None:
    for shown in (plain(text), code(text)):
        assert len(shown.splitlines()) <= 1
        bare = shown.replace("\\\\", "").replace("\\|", "")
        assert "|" not in bare
    bare = plain(text).replace("\\\\", "")
    assert all(bare[at - 1] == "\\" for at, character in enumerate(bare) if character in "`[]<*")
    assert code(text).count("`") == 2


def test_edits_by_hand_in_the_folder_are_named(
    folder: TicketFolder, blobs: Blobs, repository: Repository, tmp_path: Path
) -> None:
    tree = Worktree.create(repository, tmp_path / "tree", folder.branch, repository.head_commit())
    place = ticket_folder(12)
    files = {f"{place}/{path}": content for path, content in render(folder, blobs.read).items()}
    first = tree.commit(files, "preparation", datetime(2026, 11, 21, tzinfo=UTC), {EFFECT: "e1"}, below=place)
    assert detect_edits(tree, 12) == []
    (tree.directory / place / "checklist.md").write_text("- [x] all done, trust me")
    (tree.directory / "README").write_text("not in the folder")
    assert detect_edits(tree, 12) == detect_edits(tree, 12, first) == [f"{place}/checklist.md"]
