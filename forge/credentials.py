"""What we log in to the forge with. Never printed: `repr` leaves the secrets out."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Token:
    """A personal access token."""

    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class App:
    """A GitHub App's installation. `private_key` is PEM; from it come tokens that hold for an hour."""

    app_id: int
    installation_id: int
    private_key: str = field(repr=False)


Credentials = Token | App
