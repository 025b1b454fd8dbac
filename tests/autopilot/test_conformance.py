"""The folder and the GitHub source keep the same promises."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from autopilot.sources.folder import FolderBacklog
from autopilot.sources.github import GitHubBacklog
from tests.autopilot.conftest import BOT
from tests.conformance.backlog import TASK, BacklogConformance, World
from tests.github_server.server import GitHubServer
from tests.github_server.state import Repository


def front(fields: Mapping[str, str], text: str) -> str:
    """Front matter and the text below."""
    return "\n".join(["---", *(f"{name}: {value}" for name, value in fields.items()), "---", text]) + "\n"


class Folder:
    """Files that people write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.source = FolderBacklog(folder)

    def write(self, title: str, fields: Mapping[str, str], text: str = "Why.", labels: tuple[str, ...] = TASK) -> int:
        number = len(list(self.folder.iterdir())) + 1
        own = {"id": str(number), "title": title, "labels": f"[{', '.join(labels)}]"}
        (self.folder / f"{number}.md").write_text(front(own | dict(fields), text))
        return number

    def _kept(self, number: int) -> dict[str, str]:
        found = re.findall(r"^(id|title|labels): (.*)$", (self.folder / f"{number}.md").read_text(), re.MULTILINE)
        return dict(found)

    def edit(self, number: int, fields: Mapping[str, str], text: str) -> None:
        (self.folder / f"{number}.md").write_text(front(self._kept(number) | dict(fields), text))

    def close(self, number: int) -> None:
        (self.folder / f"{number}.md").write_text(front(self._kept(number) | {"state": "closed"}, "Done."))

    def lose(self) -> None:
        shutil.rmtree(self.folder)


class Issues:
    """Issues that alice, who may triage, writes and labels."""

    def __init__(self, server: GitHubServer, repository: Repository, source: GitHubBacklog) -> None:
        self.server, self.repository, self.source = server, repository, source

    def write(self, title: str, fields: Mapping[str, str], text: str = "Why.", labels: tuple[str, ...] = TASK) -> int:
        made = self.server.state.issue(self.repository, title, front(fields, text), labels=labels)
        return made.number

    def edit(self, number: int, fields: Mapping[str, str], text: str) -> None:
        self.server.state.edit(self.repository.issues[number], front(fields, text), "alice")

    def close(self, number: int) -> None:
        self.server.state.close(self.repository.issues[number], "alice")

    def lose(self) -> None:
        self.repository.private = True
        self.repository.roles[BOT] = "none"


class TestFolder(BacklogConformance):
    """See `tests/conformance/backlog.py`."""

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        return Folder(tmp_path / "backlog")


class TestGitHub(BacklogConformance):
    """See `tests/conformance/backlog.py`."""

    @pytest.fixture
    def world(self, server: GitHubServer, repository: Repository, source: GitHubBacklog) -> World:
        return Issues(server, repository, source)
