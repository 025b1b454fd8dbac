"""The folder backlog: good tickets are never hidden by bad files, and every bad file is named."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from autopilot import frontmatter
from autopilot.sources import folder as module
from autopilot.sources.folder import FolderBacklog
from autopilot.sources.port import Backlog, BacklogError


def write(path: Path, number: int, extra: str = "") -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"---\nid: {number}\ntitle: Ticket {number}\n{extra}---\nWhy.\n".encode()
    path.write_bytes(text)
    return text


async def test_tickets_of_all_folders_with_their_digests(tmp_path: Path) -> None:
    text = write(tmp_path / "1-one.md", 1)
    write(tmp_path / "sub" / "deep" / "2.MD", 2)
    write(tmp_path / "README.md", 3)
    write(tmp_path / "_drafts" / "4.md", 4)
    write(tmp_path / ".git" / "5.md", 5)
    write(tmp_path / "data.txt", 6)
    os.utime(tmp_path / "1-one.md", (1_700_000_000, 1_700_000_000))
    backlog: Backlog = FolderBacklog(tmp_path)
    snapshot = await backlog.snapshot()
    assert list(snapshot.entries) == [1, 2]
    assert snapshot.entries[1].source == "1-one.md"
    assert snapshot.entries[2].source == "sub/deep/2.MD"
    assert snapshot.entries[1].edited == datetime.fromtimestamp(1_700_000_000, UTC)
    assert snapshot.digests[1] == hashlib.sha256(text).hexdigest()
    assert snapshot.tickets[2].title == "Ticket 2"
    assert snapshot.unreadable == {}
    assert snapshot.hint == ""
    assert snapshot.backlog == backlog.name == f"folder:{tmp_path}"


def test_a_missing_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(BacklogError, match=r"there is no backlog folder .*nowhere; make it, then put a Markdown file"):
        FolderBacklog(tmp_path / "nowhere").read()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    write(tmp_path / "1.md", 1)
    with pytest.raises(BacklogError, match="is a file, not a backlog folder"):
        FolderBacklog(tmp_path / "1.md").read()


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    write(tmp_path / "README.md", 1)
    snapshot = FolderBacklog(tmp_path).read()
    assert not snapshot.entries
    assert "holds no ticket; put a Markdown file for each ticket there (docs/tickets.md" in snapshot.hint


def test_bad_files_are_named_and_hide_nothing(tmp_path: Path) -> None:
    write(tmp_path / "1.md", 1)
    write(tmp_path / "2.md", 2, "risk: huge\n")
    (tmp_path / "3.md").write_bytes(b"---\nid: 3\ntitle: caf\xe9\n---\n")
    (tmp_path / "4.md").write_text("no front matter")
    (tmp_path / "5.md").write_bytes(b"---\n" + b"#" * 300_000)
    (tmp_path / "6.md").symlink_to(tmp_path / "missing.md")
    (tmp_path / "7.md").mkdir()
    os.mkfifo(tmp_path / "8.md")
    (tmp_path / "9.md").symlink_to(tmp_path / "9.md")
    (tmp_path / "10.md").write_bytes(b"")
    snapshot = FolderBacklog(tmp_path).read()
    assert list(snapshot.entries) == [1]
    reasons = snapshot.unreadable
    assert reasons["2.md"].startswith("line 4: `risk` is 'huge'")
    assert reasons["3.md"] == "line 3: is not UTF-8 text; save the file as UTF-8"
    assert "does not begin with front matter" in reasons["4.md"]
    assert "is larger than 256 kB" in reasons["5.md"]
    assert "leads nowhere" in reasons["6.md"]
    assert "is not a plain file" in reasons["8.md"]
    assert "cannot be read" in reasons["9.md"]
    assert "does not begin with front matter" in reasons["10.md"]
    assert "7.md" not in reasons  # a folder of that name is just a folder


def test_two_files_with_the_same_id_are_both_unreadable(tmp_path: Path) -> None:
    for name in ("a.md", "b.md", "c/d.md"):
        write(tmp_path / name, 7)
    write(tmp_path / "e.md", 8)
    snapshot = FolderBacklog(tmp_path).read()
    assert list(snapshot.entries) == [8]
    assert snapshot.unreadable == {
        "a.md": "`id` 7 is also the id of b.md, c/d.md; give each ticket a number of its own",
        "b.md": "`id` 7 is also the id of a.md, c/d.md; give each ticket a number of its own",
        "c/d.md": "`id` 7 is also the id of a.md, b.md; give each ticket a number of its own",
    }


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "1.md", 1)
    write(tmp_path / "backlog" / "2.md", 2)
    (tmp_path / "backlog" / "1.md").symlink_to(tmp_path / "elsewhere" / "1.md")
    (tmp_path / "backlog" / "linked").symlink_to(tmp_path / "elsewhere")
    snapshot = FolderBacklog(tmp_path / "backlog").read()
    assert list(snapshot.entries) == [2]
    assert list(snapshot.unreadable) == ["1.md"]
    assert "leads out of the backlog folder" in snapshot.unreadable["1.md"]


def test_the_backlog_itself_may_be_a_link(tmp_path: Path) -> None:
    write(tmp_path / "real" / "1.md", 1)
    (tmp_path / "backlog").symlink_to(tmp_path / "real")
    assert list(FolderBacklog(tmp_path / "backlog").read().entries) == [1]


def test_only_what_changed_is_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def parse(text: str, source: str) -> object:
        parsed.append(source)
        return frontmatter.parse_ticket(text, source)

    monkeypatch.setattr(module, "parse_ticket", parse)
    write(tmp_path / "1.md", 1)
    write(tmp_path / "2.md", 2)
    backlog = FolderBacklog(tmp_path)
    first = backlog.read()
    write(tmp_path / "2.md", 2, "risk: high\n")
    second = backlog.read()
    (tmp_path / "1.md").unlink()
    third = backlog.read()
    assert parsed == ["1.md", "2.md", "2.md"]
    assert first.digests[2] != second.digests[2]
    assert second.tickets[2].risk == "high"
    assert list(third.entries) == [2]
