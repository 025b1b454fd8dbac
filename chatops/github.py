"""The conversation of a GitHub repository, as the ear needs it."""

from __future__ import annotations

from datetime import datetime

from forge import conversation
from forge.client import GitHub
from forge.conversation import Remark, Standing


class GitHubConversation:
    """See `chatops.hearing.Conversation`. Reads only."""

    def __init__(self, github: GitHub) -> None:
        self._github = github

    def since(self, moment: datetime) -> list[Remark]:
        """Comments written or edited since then, oldest first."""
        return list(conversation.remarks(self._github, moment))

    def one(self, number: int) -> Remark | None:
        """One comment as it is now."""
        return conversation.remark(self._github, number)

    def standing(self, login: str) -> Standing:
        """Who has the login now, and what they may do."""
        return conversation.standing(self._github, login)

    def me(self) -> int:
        """Our own account's number."""
        return self._github.me.id
