"""Issues that cannot be read as tickets: each gets one comment for each version of its text, saying what to do."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

from autopilot.telling import code
from forge.client import GitHub
from forge.errors import NotFound
from forge.reading import issue
from forge.writing import our_comment, put_comment
from schemas.drive import SelectionRecorded

_NUMBER = re.compile(r"(\d+)$")
_REMEMBERED = 10_000


class Unreadable:
    """Tells people at GitHub what a drive could not read. Blocking; raises ForgeError."""

    def __init__(self, github: Callable[[str], GitHub]) -> None:
        """`github` gives the connection for `OWNER/REPO`."""
        self._github = github
        self._told: set[tuple[str, int, str]] = set()

    def tell(self, backlog: str, event: SelectionRecorded) -> None:
        """Comment on every issue named there, unless its text has such a comment. Nothing for other backlogs."""
        if not backlog.startswith("github:"):
            return
        repository = backlog.partition(":")[2]
        for name, reason in sorted(event.unreadable.items()):
            if (found := _NUMBER.search(name)) is not None:
                self._one(repository, int(found[1]), reason)

    def _one(self, repository: str, number: int, reason: str) -> None:
        if (repository, number, reason) in self._told:
            return
        github = self._github(repository)
        try:
            it = issue(github, number)
        except NotFound:  # deleted or moved since
            return
        digest = hashlib.sha256(f"{it.title}\n{it.body}".encode()).hexdigest()[:20]
        if it.state == "open" and our_comment(github, number, "unreadable", digest) is None:
            text = (
                f"**Value Train**: this issue cannot be taken as a ticket: {code(reason, 1000)}.\n\nEdit the issue's "
                "text and it is read again; `docs/tickets.md` of the Value Train describes every field. To keep it out "
                "of the train, take the label `auto` away."
            )
            put_comment(github, number, "unreadable", digest, text.replace(github.token(), "***"))
        if len(self._told) >= _REMEMBERED:
            self._told.clear()
        self._told.add((repository, number, reason))
