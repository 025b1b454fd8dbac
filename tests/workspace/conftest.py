"""A real repository for each test, with a git configuration of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from workspace.git import Repository


def shell(directory: Path, *arguments: str) -> str:
    """Plain git, as a user would run it. Raises CalledProcessError."""
    done = subprocess.run(["git", *arguments], cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """A repository with one commit (`README`, `src/a.py`) and a hostile hook."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", os.fspath(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    path = tmp_path / "repository"
    path.mkdir()
    shell(path, "init", "--quiet", "--initial-branch", "main")
    shell(path, "config", "user.name", "Ada")
    shell(path, "config", "user.email", "ada@example.org")
    (path / "README").write_text("hello\n")
    (path / "src").mkdir()
    (path / "src" / "a.py").write_text("a = 1\n")
    shell(path, "add", ".")
    shell(path, "commit", "--quiet", "-m", "Start")
    for hook in ("reference-transaction", "post-checkout", "pre-commit", "post-commit"):
        script = path / ".git" / "hooks" / hook
        script.write_text(f"#!/bin/sh\ntouch '{tmp_path}/hook-ran'\n")
        script.chmod(0o755)
    yield Repository(path)
    assert not (tmp_path / "hook-ran").exists()
