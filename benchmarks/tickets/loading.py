"""The tickets of this folder, one a file: title and text, the repository's files, the hidden test, and a reference.

The reference only proves that the ticket can be done and the hidden test told apart; no model sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
COMMAND = "env PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 python -m pytest -q"


@dataclass(frozen=True)
class CodeTicket:
    """One of them; `files` and `reference` are texts by path, `hidden` is the text of the hidden test."""

    name: str
    title: str
    body: str
    files: dict[str, str]
    hidden: str
    reference: dict[str, str]

    def write(self, folder: Path, *, done: bool = False) -> None:
        """The repository's files; with `done` those of the reference over them."""
        project = (
            f'[project]\nname = "{self.name}"\nversion = "1.0.0"\n\n[tool.valuetrain]\ntest_command = "{COMMAND}"\n'
        )
        for path, text in {"pyproject.toml": project, **self.files, **(self.reference if done else {})}.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, "utf-8")


def tickets() -> list[CodeTicket]:
    """All of them, by name. Raises ValueError naming a file that has other fields than a ticket."""
    return [_read(path) for path in sorted(FOLDER.glob("*.yaml"))]


def _read(path: Path) -> CodeTicket:
    fields: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    wanted = {"title", "body", "files", "hidden", "reference"}
    if set(fields) != wanted:
        raise ValueError(f"{path.name} has the fields {sorted(fields)}, a ticket has {sorted(wanted)}")
    return CodeTicket(name=path.stem, **fields)
