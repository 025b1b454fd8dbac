"""Which function answers which operation. The files of the areas register theirs here when they are imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.github_server.state import Account, Repository, State


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was let in: who asks for what."""

    state: State
    actor: Account
    path: dict[str, str]
    query: dict[str, str]
    body: Any
    headers: dict[str, str]
    url: str
    """The server's own address, for the addresses in answers."""

    @property
    def repository(self) -> Repository:
        """The repository that is meant. Raises Refusal (404) when there is none, or the actor may not see it."""
        found = self.state.repositories.get(f"{self.path['owner']}/{self.path['repo']}".lower())
        if found is None or (found.private and found.role(self.actor) == "none"):
            raise Refusal(404, "Not Found")
        return found

    def needs(self, role: str) -> None:
        """Raises Refusal (403) when the actor has less than `role` in the repository."""
        if not self.repository.may(self.actor, role):
            raise Refusal(403, "Resource not accessible by personal access token")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. A list as body is paged by the server where the operation takes `page`."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """An error answer of GitHub."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"message": message, "documentation_url": "https://docs.github.com/rest", **more}


Handler = Callable[[Call], Reply]
HANDLERS: dict[tuple[str, str], Handler] = {}
PLAIN: dict[tuple[str, str], Handler] = {}
"""Paths outside the description, such as `/graphql`; their handlers check what they get themselves."""
GRAPHQL: dict[str, Handler] = {}
"""What answers a GraphQL query, by a word in it; others go to the plain path `/graphql`."""


def operation(verb: str, template: str) -> Callable[[Handler], Handler]:
    """Register a function for an operation of the description."""

    def registered(handler: Handler) -> Handler:
        HANDLERS[verb, template] = handler
        return handler

    return registered


def plain(verb: str, path: str) -> Callable[[Handler], Handler]:
    """Register a function for a path outside the description."""

    def registered(handler: Handler) -> Handler:
        PLAIN[verb, path] = handler
        return handler

    return registered


def graphql(word: str) -> Callable[[Handler], Handler]:
    """Register a function for the GraphQL queries that hold a word."""

    def registered(handler: Handler) -> Handler:
        GRAPHQL[word] = handler
        return handler

    return registered
