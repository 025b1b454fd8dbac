"""Paths of a repository that no change made by the train may touch: what decides how the repository itself is run."""

from __future__ import annotations

from pathlib import PurePosixPath

DIRECTORIES = frozenset({".git", ".github", ".gitlab", ".circleci", ".valuetrain", ".cursor", ".claude"})
"""Anywhere in the tree: git's own files, what CI runs with its secrets, the train's policy, orders to coding agents."""
FILES = frozenset({
    ".gitlab-ci.yml", ".gitmodules", ".travis.yml", "azure-pipelines.yml", "jenkinsfile", "codeowners", "agents.md",
    "claude.md", "gemini.md", ".cursorrules", ".windsurfrules", "copilot-instructions.md",
})  # fmt: skip
"""The same for single files; in lower case."""


def is_protected(path: str) -> bool:
    """Whether `path` (relative, with `/`) is, or lies below, something protected. Upper and lower case are the same: a
    file system may not tell them apart."""
    parts = [part.lower() for part in PurePosixPath(path).parts]
    return any(part in DIRECTORIES or part in FILES for part in parts)
