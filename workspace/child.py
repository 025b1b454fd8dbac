"""The child's side of a run, from the fork to its last line: own session, limits, directories, log; then the function.

Standard library only, like `workspace.zygote`, which forks into `become`.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import io
import json
import os
import resource
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

DEATH_SIGNAL, NAME, SUBREAPER, NO_NEW_PRIVILEGES = 1, 15, 36, 38  # prctl(2)
_report: socket.socket | None = None


def progress(message: str) -> None:
    """Called inside a child: tells the caller one line of progress. Outside of a child it does nothing."""
    if _report is not None:
        say(_report, {"progress": str(message)[:500]})


def become(report: socket.socket, output: int, order: dict[str, Any]) -> NoReturn:
    """What a fork turns into: cut off from its origin, limited, then the request is run and its result reported."""
    global _report
    zygote = os.getppid()
    code = 70  # EX_SOFTWARE
    try:
        os.setsid()
        prctl(DEATH_SIGNAL, signal.SIGKILL)
        prctl(SUBREAPER, 1)
        prctl(NO_NEW_PRIVILEGES, 1)
        prctl(NAME, b"vt-skill")
        if os.getppid() != zygote:
            os._exit(code)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(line_buffering=True)  # so that a crash does not swallow what led to it
        faulthandler.enable(file=2)
        os.umask(0o077)
        os.chdir(order["cwd"])
        os.environ["HOME"] = os.environ["TMPDIR"] = order["scratch"]
        tempfile.tempdir = None
        _limit(order)
        _report = report
        say(report, _carry_out(report))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _limit(order: dict[str, Any]) -> None:
    """Backstops for what the zygote cannot see; the clock is watched outside."""
    cpu = int(order["seconds"] * (os.cpu_count() or 1)) + 5
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 1024, resource.RLIMIT_CPU: cpu}
    limits[resource.RLIMIT_FSIZE] = order["file_bytes"]
    if order["memory_bytes"]:
        limits[resource.RLIMIT_DATA] = order["memory_bytes"]  # not RLIMIT_AS: libraries reserve far more than they use
    for which, value in limits.items():
        hard = resource.getrlimit(which)[1]
        resource.setrlimit(which, (value, value) if hard == resource.RLIM_INFINITY else (min(value, hard),) * 2)


def _carry_out(report: socket.socket) -> dict[str, Any]:
    """Run the requested function; its value, or what it raised, as JSON."""
    try:
        with report.makefile("rb") as stream:
            name, arguments = json.loads(stream.readline())
        module, _, attribute = name.partition(":")
        function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        value = function(**arguments)
        json.dumps(value, allow_nan=False)
        return {"value": value}
    except MemoryError as problem:
        return {"memory": str(problem)}
    except BaseException as problem:
        plain = {k: v for k, v in vars(problem).items() if isinstance(v, str | int | float | bool)}
        return {
            "raised": {
                "type": _name(type(problem)),
                "bases": [_name(base) for base in type(problem).__mro__[1:-1]],
                "message": str(problem),
                "details": plain,
                "traceback": traceback.format_exc()[-20_000:],
            }
        }


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def say(to: socket.socket, message: dict[str, Any]) -> None:
    """Write one JSON line; a listener that is gone is no trouble of ours."""
    with contextlib.suppress(OSError):
        to.sendall(json.dumps(message).encode() + b"\n")


def prctl(option: int, value: int | bytes) -> None:
    """Linux's prctl(2) with one argument; elsewhere nothing."""
    if sys.platform == "linux":
        argument = value if isinstance(value, bytes) else ctypes.c_ulong(value)
        ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)
