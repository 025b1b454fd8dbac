"""Which sandbox an installation uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workspace.sandbox.bubblewrap import Bubblewrap
from workspace.sandbox.container import Container
from workspace.sandbox.local import LocalUnsafe
from workspace.sandbox.port import BACKENDS, BUBBLEWRAP, CONTAINER, LOCAL_UNSAFE, Sandbox, SandboxUnavailable


def open_sandbox(backend: str = BUBBLEWRAP, environments: Sequence[Path] = ()) -> Sandbox:
    """The sandbox called `backend`. `environments` are directories with programs and libraries that commands may read
    and run besides those of the system and of our own Python; their `bin` comes first on the path.

    Raises SandboxUnavailable when it cannot be used here. There is no fall-back: what should be contained and cannot be
    is not run.
    """
    for directory in environments:
        if not directory.is_dir():
            raise SandboxUnavailable(
                f"the sandbox should show {directory}, which is no directory", "correct `sandbox_environments`"
            )
    if backend == BUBBLEWRAP:
        return Bubblewrap.find(environments)
    if backend == CONTAINER:
        return Container.find(environments)
    if backend == LOCAL_UNSAFE:
        return LocalUnsafe(tuple(environments))
    raise SandboxUnavailable(f"there is no sandbox {backend!r}", f"set `sandbox` to one of {', '.join(BACKENDS)}")
