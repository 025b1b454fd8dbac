"""Effects in the model registry: a version and its alias, and taking both back.

The registry says itself what an effect did there. What it did without anybody hearing of it is looked for before the
next one is carried out, so that no version is left which no session knows.
"""

from __future__ import annotations

from collections.abc import Sequence

from autopilot.board import SessionRow
from autopilot.registry.port import CANDIDATE, Package, Registry, RegistryError
from schemas.session import EffectRequested
from schemas.values import Registered
from workspace.blobs import Blobs


def doubtful(effect: EffectRequested, row: SessionRow) -> tuple[str, ...]:
    """What may have made versions that nobody heard of, as far as it concerns `effect`: for a registration those of its
    phase, for a step of a rollback all of the session. Call it where events are folded, not in a thread."""
    if effect.kind == "register" and effect.registered is None:
        return row.registrations.doubtful(row.pending_effects, effect.phase)
    return row.registrations.doubtful(row.pending_effects) if effect.kind in ("unregister", "restore") else ()


class RegistryEffects:
    """Carries out effects in a registry. Blocking: run it in a thread. Raises RegistryError and BlobError."""

    def __init__(self, registry: Registry | None, blobs: Blobs) -> None:
        """Without a `registry` every effect that needs one fails with that reason."""
        self._registry = registry
        self._blobs = blobs

    def carry_out(self, effect: EffectRequested, row: SessionRow, doubtful: Sequence[str]) -> Registered:
        """`register` or `unregister`: do it unless it is done; the version and what its alias points to.

        `doubtful` is what the function of that name gave when `row` showed the effect as pending.
        """
        registry, done = self._there(), effect.registered
        if effect.kind == "unregister" and done is not None:
            self.settle(effect, row, doubtful)
            return registry.take_back(effect.effect, done)
        if done is not None:
            return registry.bring_back(effect.effect, done)
        artifact = effect.artifacts[0]
        self._blobs.verify(artifact.sha256)
        metrics = {m.name: m.value for p in row.phases.values() for m in p.measurements if m.scope == "metrics"}
        package = Package(artifact, row.id, row.ticket.id, row.branch, row.commit, metrics)
        return registry.register(effect.effect, effect.target, CANDIDATE, package, doubtful)

    def settle(self, effect: EffectRequested, row: SessionRow, doubtful: Sequence[str]) -> None:
        """Before the first step of a rollback: take back the versions that the session may have and does not know of,
        the newest first. The registry is not asked when there is no doubt."""
        for made_by in reversed(doubtful):
            unknown = Registered(effect=made_by, model=row.ticket.slug, version="", alias=CANDIDATE)
            self._there().take_back(effect.effect, unknown)

    def _there(self) -> Registry:
        if self._registry is None:
            raise RegistryError("this effect executor was started without a model registry")
        return self._registry
