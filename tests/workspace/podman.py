"""podman for tests: installed by the system's packages where we may, else the test says why it cannot run."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from workspace.sandbox.opening import open_sandbox
from workspace.sandbox.port import Limits, SandboxUnavailable

_OTHER = '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\n'
"""For machines without systemd, and with both versions of control groups, which podman's usual settings cannot do."""


def needs_podman(patched: pytest.MonkeyPatch) -> None:
    """Skip, saying why, unless commands can be contained by it here; with settings that work, in the environment."""
    _install()
    if shutil.which("podman") is None:
        pytest.skip("needs podman, which is not installed: install the packages `podman` and `runc`")
    if not (why := _fails("")):
        return
    patched.setenv("CONTAINERS_CONF", _other_settings())
    if again := _fails(_other_settings()):
        pytest.skip(f"podman cannot work here: {why}; and with runc: {again}")


@cache
def _other_settings() -> str:
    path = Path(tempfile.gettempdir()) / f"value-train-containers-{os.geteuid()}.conf"
    path.write_text(_OTHER)
    return os.fspath(path)


@cache
def _install() -> None:
    if shutil.which("podman") is not None or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    with (Path(tempfile.gettempdir()) / "value-train-podman.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes want it at once
        if shutil.which("podman") is None:
            command = ["apt-get", "install", "--yes", "--no-install-recommends", "podman", "runc"]
            subprocess.run(command, capture_output=True, check=False, timeout=300)


@cache
def _fails(settings: str) -> str:
    """Why podman fails with these settings, or an empty string."""
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as place:
        if settings:
            patched.setenv("CONTAINERS_CONF", settings)
        try:
            result = open_sandbox("container").run(["true"], cwd=Path(place), limits=Limits(seconds=60))
        except SandboxUnavailable as problem:
            return str(problem)
        return "" if result.ok else result.output
