"""What the effect executor needs of a model registry, whatever keeps it.

Every change carries an effect's id, and the same effect twice changes nothing the second time: the registry itself says
what was done, so that a crash between the call and its receipt needs no special case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from schemas.values import ArtifactRef, Registered

CANDIDATE = "candidate"
"""The alias of the version that was approved last."""


class RegistryError(Exception):
    """The registry cannot be used, or does not hold what it should; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Package:
    """What becomes a version: a file by its digest, where it comes from, and what was measured of it."""

    artifact: ArtifactRef
    session: str
    ticket: int
    branch: str
    commit: str
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def location(self) -> str:
        """Where the file is: the session, and its name there. Its bytes are on the session's branch."""
        return f"valuetrain://{self.session}/{self.artifact.name}"


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model. `before` is what the alias pointed to when it was registered, "" for nothing."""

    model: str
    version: str
    created: datetime
    effect: str
    session: str
    location: str
    sha256: str
    branch: str
    commit: str
    before: str
    rolled_back: bool
    aliases: tuple[str, ...]
    metrics: Mapping[str, float]


class Registry(Protocol):
    """Models, their versions, and aliases that point to one version each. Every method raises RegistryError when the
    registry cannot be reached or refuses."""

    def register(
        self, effect: str, model: str, alias: str, package: Package, doubtful: Sequence[str] = ()
    ) -> Registered:
        """Make `package` a new version of `model` and point `alias` to it.

        The version of an effect that was carried out before is found again. Its alias is moved only from where it was
        then: somebody may have moved it meanwhile.

        `doubtful` are earlier effects for the same package of the same session that may have made a version without
        anybody hearing of it. The newest such version becomes that of `effect`, if it has the same file and `alias`
        points to no newer one; the others are marked as rolled back, and give the alias back as in `take_back`. A
        version that was rolled back is left alone.
        """
        ...

    def take_back(self, effect: str, done: Registered) -> Registered:
        """Undo `done`: mark its version as rolled back, and give the alias back to the version it pointed to before (to
        none, if there was none). Nothing is deleted.

        An alias that points elsewhere by now stays where it is, and a version before that was itself rolled back is
        passed over. If `done` never came to be, there is nothing to undo. `current` of the answer is what the alias
        points to afterwards.
        """
        ...

    def bring_back(self, effect: str, done: Registered) -> Registered:
        """Undo a `take_back`: the version is marked no more, and the alias points to it again if it still points to
        what it was given back to. If `done` never came to be (then it names no version), there is nothing to bring
        back. Raises RegistryError when the version is gone."""
        ...

    def models(self) -> tuple[str, ...]:
        """The names of all models, in alphabetical order."""
        ...

    def versions(self, model: str) -> tuple[Version, ...]:
        """All versions of a model, the newest first; none for a name nobody registered."""
        ...
