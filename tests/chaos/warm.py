"""Components of a run as real processes that need not import anything (`tests.warm`), for the short form.

They are killed and started again by the dozen, and what is proved is what they find when they are: it is on disk and on
the bus, and nowhere else. The long form starts each of them from nothing.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import socket
import sys
from collections.abc import Sequence

from tests.warm import ROOT, Warm, bring_a_fork_server, serve

PACKAGES = ("schemas", "bus", "store", "workspace", "conductor", "agents", "autopilot", "cli")
NOT_NEEDED = ("agents.skills.", "store.migrations")
"""The skills of these runs are others (`tests.chaos.light`), and migrations are scripts that Alembic runs."""


@functools.cache
def warm(ack_wait: float, idle: float) -> Warm:
    """The one for components with these options; they change what modules read while they are imported."""
    return Warm("tests.chaos.warm", [str(ack_wait), str(idle)])


def _import_everything(ack_wait: float, idle: float) -> None:
    from tests.chaos import child

    child.hurry(ack_wait)
    if idle:
        child.shorten(idle)
    for package in PACKAGES:
        for found in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            if not found.name.startswith(NOT_NEEDED):
                importlib.import_module(found.name)
    for name in ("components", "points"):
        importlib.import_module(f"tests.chaos.{name}")
    importlib.import_module("agents.discovery").shipped.cache_clear()  # agents look again, and find the light ones


def _component(words: Sequence[str]) -> None:
    """What `python -m tests.chaos.child WORDS` is once everything is imported."""
    from tests.chaos import child

    if words[0].startswith("agent-"):
        bring_a_fork_server()
    sys.argv = [str(ROOT / "tests" / "chaos" / "child.py"), *words]
    child.main()


if __name__ == "__main__":
    _import_everything(float(sys.argv[2]), float(sys.argv[3]))
    serve(socket.socket(fileno=int(sys.argv[1])), _component)
