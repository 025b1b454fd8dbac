"""Reviews of a pull request at GitHub: which of them are a person's approval of what would be merged. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def approvers(reviews: Iterable[dict[str, Any]], pull: dict[str, Any]) -> tuple[str, ...]:
    """Who approved the head commit, as GitHub's list of reviews has it, oldest first.

    Only the newest word of each account counts, and only for the commit it was said of. Programs do not approve, nor
    does the author: a bot's review of its own work is none. Raises KeyError or TypeError for what is no such list.
    """
    head, author = pull["head"]["sha"], pull["user"]["id"]
    newest: dict[int, tuple[str, bool]] = {}
    for review in reviews:
        who = review["user"]
        if who is None or review["state"] not in ("APPROVED", "CHANGES_REQUESTED", "DISMISSED"):
            continue  # a comment takes no approval back
        good = review["state"] == "APPROVED" and review["commit_id"] == head
        newest[who["id"]] = who["login"], good and who["type"] == "User" and who["id"] != author
    return tuple(login for login, good in newest.values() if good)
