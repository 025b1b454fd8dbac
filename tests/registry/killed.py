"""Run as a module: a session whose registration was lost and given up goes on, and every effect that its executor then
carries out in the registry is killed with SIGKILL right after each single write, until nothing is left to write.

A child of this process does each try; this process has no threads and opens no registry, so it may fork. Prints how
often a child was killed, and the versions after each step.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from autopilot.registry.mlflow_registry import MlflowRegistry
from conductor.state import SessionState, Status
from schemas.values import Registered
from tests.conductor.test_registering import MODEL, Line, fail, roll_back

WRITES = (
    "create_registered_model", "create_model_version", "set_registered_model_alias", "delete_registered_model_alias",
    "set_model_version_tag", "delete_model_version_tag",
)  # fmt: skip


def _die_after(name: str) -> None:
    from mlflow import MlflowClient

    real = getattr(MlflowClient, name)

    def killed(*arguments: Any, **options: Any) -> NoReturn:
        real(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    setattr(MlflowClient, name, killed)


def in_child(what: Callable[[], Any], writes: tuple[str, ...]) -> Any:
    """What it comes to in a process that dies after the first of `writes`; None when it died."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        for name in writes:
            _die_after(name)
        os.write(writing, json.dumps(what()).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert os.WEXITSTATUS(status) == 0
    return json.loads(said)


class Killed:
    """A session, and an executor that does not live long."""

    def __init__(self, uri: str) -> None:
        self.line, self.uri = Line(MlflowRegistry(uri)), uri
        self.kills: list[int] = []

    @property
    def state(self) -> SessionState:
        return self.line.rig.state

    def carry_out(self) -> dict[str, Any]:
        return {name: done.model_dump() for name, done in self.line.carry_out().items()}

    def effect(self) -> None:
        """Carry the oldest effect out, one write a try, and send its receipt."""
        at_the_registry = self.state.effects[0].kind in ("register", "unregister", "restore")
        kills = 0
        while (done := in_child(self.carry_out, WRITES) if at_the_registry else {}) is None:
            kills += 1
            assert kills < 20, "the same is done again and again"
        if kills:
            self.kills.append(kills)
        receipt = {name: Registered.model_validate(fields) for name, fields in done.items()}
        self.line.rig.accepted(self.line.rig.receipt_command(**receipt), "autopilot")

    def go(self, until: Callable[[], bool]) -> None:
        while not until():
            if self.state.effects:
                self.effect()
            else:
                self.line.go()

    def versions(self) -> Any:
        """Oldest first: number, whether the session knows of it, whether it was rolled back, aliases."""
        known = {done.effect for done in self.state.registered}
        return in_child(
            lambda: [
                (v.version, v.effect in known, v.rolled_back, v.aliases)
                for v in reversed(MlflowRegistry(self.uri).versions(MODEL))
            ],
            (),
        )


def after(uri: str, dies_after: tuple[str, ...], content: str, *then: str) -> dict[str, Any]:
    """A registration dies after one of `dies_after`, or whole, and nobody hears of it; then the registry is away.

    `content` is that of the package from then on. `then`: "retry" goes on to the end, "back" takes the phase back.
    """
    it, told = Killed(uri), []
    it.go(lambda: any(effect.registers for effect in it.state.effects))
    in_child(it.carry_out, dies_after)
    fail(it.line.rig)
    it.line.content = content
    for each in then:
        if each == "retry":
            it.go(lambda: it.state.status is Status.COMPLETED)
        else:
            roll_back(it.line.rig)
            it.go(lambda: not it.state.effects)
        told.append(it.versions())
    return {"kills": it.kills, "versions": told}


def main(store: str) -> None:
    """`store` is an empty registry's file; each session has a copy of it."""

    def copy(name: str) -> str:
        return f"sqlite:///{shutil.copy(store, f'{store}.{name}')}"

    # MLflow is imported and made ready once: on a store that no child opens, since a connection must not be inherited.
    MlflowRegistry(copy("apart")).models()
    assert threading.active_count() == 1
    told = {
        "same file": after(copy("same"), ("create_model_version",), "0", "retry", "back"),
        "other file": after(copy("other"), (), "1", "retry"),
        "rolled back": after(copy("back"), (), "0", "back"),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
