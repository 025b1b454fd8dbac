"""bubblewrap for tests: installed by the system's packages where we may, else the test says why it cannot run."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from workspace.sandbox.cgroup import counted
from workspace.sandbox.port import SandboxUnavailable


def needs_bubblewrap() -> None:
    """Skip, saying why, unless commands can be contained here."""
    if why := _missing():
        pytest.skip(why)


@cache
def _missing() -> str:
    """Why there is no working bubblewrap, or an empty string."""
    if shutil.which("bwrap") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        with (Path(tempfile.gettempdir()) / "value-train-bubblewrap.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes want it at once
            if shutil.which("bwrap") is None:
                command = ["apt-get", "install", "--yes", "--no-install-recommends", "bubblewrap"]
                subprocess.run(command, capture_output=True, check=False, timeout=120)
    if shutil.which("bwrap") is None:
        return "needs bubblewrap, which is not installed: install the package `bubblewrap`"
    tried = subprocess.run(
        ["bwrap", "--unshare-user", "--disable-userns", "--ro-bind", "/", "/", "true"], capture_output=True, check=False
    )
    if tried.returncode != 0:
        return f"bubblewrap cannot work here: {tried.stderr.decode().strip()}"
    try:
        if (count := counted(5)) is not None:
            count.close()
    except SandboxUnavailable as problem:
        return str(problem)
    return ""
