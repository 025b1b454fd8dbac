"""Reading the record while something else may be writing it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.errors import CliError
from cli.home import Home
from cli.opening import open_store
from cli.settings import load
from schemas import registry as _registry  # noqa: F401  # declares every message before any is decoded
from schemas.envelope import StreamId
from store.port import Store


@dataclass(frozen=True, slots=True)
class Record:
    """The record of one home, opened for reading."""

    store: Store
    tenant: str

    def sessions(self) -> list[dict[str, Any]]:
        """Rows of the session read model, oldest first."""
        return self.store.views(self.tenant, "session")

    def gates(self) -> list[dict[str, Any]]:
        """Rows of the gate read model, oldest first."""
        return self.store.views(self.tenant, "gate")

    def session(self, name: str) -> dict[str, Any]:
        """One session's row. Raises CliError naming the newest sessions when there is none of that name."""
        row = self.store.view(self.tenant, "session", name)
        if row is None:
            known = ", ".join(r["session"] for r in self.sessions()[-5:]) or "none yet"
            raise CliError(f"there is no session {name!r}; the newest are: {known}")
        return row

    def letters(self) -> list[dict[str, Any]]:
        """Rows of the dead letters' read model, oldest first."""
        return self.store.views(self.tenant, "letter")

    def letter(self, name: str) -> dict[str, Any]:
        """One dead letter's row. Raises CliError naming the open ones when there is none of that name."""
        row = self.store.view(self.tenant, "letter", name)
        if row is None:
            waiting = ", ".join(r["letter"] for r in self.letters() if r["status"] == "open") or "none"
            raise CliError(f"there is no dead letter {name!r}; open are: {waiting}")
        return row

    def stream(self, name: str) -> StreamId:
        """The event stream of session `name`, which must exist."""
        self.session(name)
        return StreamId(self.tenant, "session", name)


@contextlib.contextmanager
def reading(home_path: Path) -> Iterator[Record]:
    """The home's record, read-only. Raises CliError when there is none."""
    home = Home(home_path.resolve()).existing()
    settings = load(home.config)
    store = open_store(home, settings, read_only=True)
    try:
        yield Record(store, settings.tenant)
    finally:
        store.close()
