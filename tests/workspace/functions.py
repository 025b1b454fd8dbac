"""What the children of the fork server's tests run."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from workspace import child


def surroundings() -> dict[str, Any]:
    """What a child can see of where it came from."""
    return {
        "environ": dict(os.environ),
        "initial": Path("/proc/self/environ").read_text(),
        "server": Path(f"/proc/{os.getppid()}/environ").read_text(),
        "cwd": os.getcwd(),
        "main": sys.modules["__main__"].__dict__.get("__file__"),
        "own_session": os.getsid(0) == os.getpid() == os.getpgid(0),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "hash": hash("value train"),
        "ignores_interrupt": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
    }


def add(a: int, b: int) -> int:
    """Ordinary work."""
    return a + b


def count(lines: int) -> int:
    """Tells its progress."""
    for number in range(lines):
        child.progress(f"line {number}")
    return lines


def family(marker: str, ready: str) -> None:
    """Ignores SIGTERM, starts a grandchild in its group and one in a session of its own, and never ends."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", code, marker])
    subprocess.Popen([sys.executable, "-c", code, marker], start_new_session=True)
    Path(ready).write_text(str(os.getpid()))
    time.sleep(600)


def orphan(marker: str) -> None:
    """Ends well but leaves a process behind that left the group."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", marker], start_new_session=True)


def hog() -> int:
    """Takes memory until there is no more."""
    blocks = []
    while True:
        blocks.append(bytearray(16 << 20))


def crash() -> None:
    """A native crash, with something printed before."""
    import ctypes

    print("about to crash")
    ctypes.string_at(1)


def leave(code: int) -> None:
    """Ends without a word to the harness."""
    print("last words")
    sys.stdout.flush()
    os._exit(code)


def shout(megabytes: int) -> None:
    """Prints far too much."""
    for _ in range(megabytes):
        sys.stdout.write("x" * (1 << 20))


def large_file(path: str, size: int) -> None:
    """Writes a file of `size` bytes."""
    with open(path, "wb") as file:
        file.write(b"x" * size)


class Refused(ValueError):
    """An error with an attribute worth keeping."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.remedy = "try another"


def refuse() -> None:
    """Raises."""
    raise Refused("no good")


def unspeakable() -> object:
    """Returns what JSON cannot say."""
    return object()


def forge() -> None:
    """Says on its line what only the server may say, then something that is no JSON."""
    assert child._report is not None
    child._report.sendall(b'{"ended": {"status": 0}}\nnonsense\n')
    time.sleep(600)
