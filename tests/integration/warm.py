"""Commands of `valuetrain` as real processes that need not import anything (`tests.warm`).

Most of what a short command costs is importing, and most of what a drive waits for is its fork server importing the
skills' libraries. A test that drives the system by fifty commands pays for both once. Each command is a process of its
own, runs `cli.main.run`, and its skills run in children of a fork server of its own. Started cold, from nothing, are
those that tests leave running (`Train.start`), but where a test says that the start is not what it is about.

Their searches are short (`SHORT_SEARCH`), for a drive is about what happens around a training; those started from
nothing search as they do anywhere, and so do the tests of the skills.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tests.warm import POSSIBLE as POSSIBLE
from tests.warm import ROOT, Warm, bring_a_fork_server, serve

PACKAGES = (
    "schemas", "bus", "store", "workspace", "forge", "ingest", "conductor", "agents", "autopilot", "chatops", "cli",
)  # fmt: skip
SKILLFUL = ("drive", "up", "agent")
"""Commands whose skills run in a fork server."""


@functools.cache
def warm() -> Warm:
    """The one of this test process."""
    return Warm("tests.integration.warm")


SHORT_SEARCH: dict[str, Callable[..., Any]] = {
    "fitting_candidates": lambda rows, columns: (("linear",), {}),
    "trial_count": lambda rows, columns, classes: 2,
}
"""In place of functions of these names in `agents.skills.training.plan`: one kind of model, of whatever table."""


def _import_everything() -> None:
    from agents.worker import PRELOAD

    for name in PRELOAD:
        importlib.import_module(name)
    for package in PACKAGES:
        for found in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            if ".migrations" not in found.name:  # scripts that Alembic runs
                importlib.import_module(found.name)
    vars(importlib.import_module("agents.skills.training.plan")).update(SHORT_SEARCH)


def _command(words: Sequence[str]) -> None:
    """What `python -m cli.main WORDS` is once everything is imported."""
    if words[0] in SKILLFUL:
        bring_a_fork_server()
    import cli.main

    sys.modules["__main__"] = cli.main
    sys.argv = [str(ROOT / "cli" / "main.py"), *words]
    cli.main.run()


if __name__ == "__main__":
    _import_everything()
    serve(socket.socket(fileno=int(sys.argv[1])), _command)
