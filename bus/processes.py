"""Looking at and ending a server process, ours or one a crash left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

PROC = Path("/proc")

# The server must die with the process that started it, also when that one is killed with SIGKILL and can clean up
# nothing. Linux offers this (PR_SET_PDEATHSIG = 1), but a process has to ask for itself: this program asks and then
# becomes the server. It must ask before it looks at its parent: if the parent died in between, nobody would tell.
# Caveat of prctl(2): the signal comes when the *thread* that started us ends, so a server must be started from a
# thread that outlives it; an event loop's thread does, since the server lives within a context of that loop.
# Without prctl (macOS) the server stays, and the next start on the same directory ends it (`EmbeddedServer`).
_LAUNCHER = """
import os, signal, sys
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
except (ImportError, OSError, AttributeError):
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that started the server is gone")
try:
    os.execv(sys.argv[2], sys.argv[2:])
except OSError as problem:
    sys.exit(f"cannot execute {sys.argv[2]}: {problem.strerror}")
"""


def tied_to_parent(python: str, program: list[str]) -> list[str]:
    """The command that runs `program` (its first item a path) as a child that dies with this process, by way of the
    interpreter `python`."""
    # -I and -S: nothing from the user's environment or site-packages runs, and starting takes 10 ms less.
    return [python, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *program]


def command_line(pid: int) -> str:
    """The arguments of a running process, joined by spaces; empty when there is none (or only its zombie)."""
    if PROC.is_dir():
        try:
            return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            return ""
    shown = subprocess.run(
        ["ps", "-ww", "-o", "stat=,command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, command = shown.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else command.strip()


async def end_process(pid: int, marker: str, patience: float = 5.0) -> None:
    """End the process `pid` whose command line contains `marker`: SIGTERM, after `patience` seconds SIGKILL.

    Looks at the command line again before each signal, since a pid can be given to somebody else meanwhile. Returns
    when it is gone; raises PermissionError when it belongs to another user.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGKILL):
        if marker not in command_line(pid):
            return
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        until = loop.time() + patience
        while marker in command_line(pid) and loop.time() < until:  # noqa: ASYNC110 - not our child to wait on
            await asyncio.sleep(0.01)
