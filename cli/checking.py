"""`valuetrain check`: the trees to compare, and what is wrong with the change between them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cli.errors import CliError
from workspace.checking import Finding, Tree, branch_of, check, since, staged
from workspace.git import Repository
from workspace.reviews import approvers


def examine(
    repo: Path, base: str | None, branch: str | None, largest: int, pull: Path | None, reviews: Path | None
) -> list[dict[str, Any]]:
    """All findings as rows. Without `base` what is staged is checked. Raises GitError, CliError."""
    repository = Repository(repo)
    if base is None:
        before, after = Tree(repository, "HEAD"), Tree(repository, staged(repository))
    else:
        before, after = Tree(repository, since(repository, base)), Tree(repository, "HEAD")
    found = check(before, after, branch_of(repository) if branch is None else branch, largest)
    if pull is not None and reviews is not None:
        found += _reviewed(_read(pull), _read(reviews), pull, reviews)
    return [asdict(finding) for finding in found]


def _reviewed(pull: Any, reviews: Any, pull_file: Path, reviews_file: Path) -> list[Finding]:
    try:
        if approvers(reviews, pull):
            return []
        where = f"pull request {pull['number']}"
    except (KeyError, TypeError, AttributeError) as problem:
        raise CliError(f"{pull_file} and {reviews_file} are not what GitHub's API gives ({problem!r})") from problem
    why = "no person but its author approved its newest commit (a bot's review and one of an older commit do not count)"
    return [Finding("review", where, why, "ask somebody who may review it")]


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise CliError(f"{file} cannot be read: {problem}") from problem
