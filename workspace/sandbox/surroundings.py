"""What a contained command sees besides its own files: where programs lie, its environment, how its limits begin."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from workspace.sandbox.port import Limits

SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin")

_BEGIN = """
import json, os, resource, sys
order = json.loads(sys.argv[1])
for name, value in order["limits"].items():
    which = getattr(resource, name, None)
    if which is not None:
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))
os.write(order["mark"], b"!")
os.close(order["mark"])
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as problem:
    print(f"{sys.argv[2]} cannot be started: {problem.strerror}", file=sys.stderr)
    sys.exit(127)
"""


def python_places() -> tuple[Path, ...]:
    """The directories our own Python needs: its environment, what that was made from, and where links lead."""
    links = [Path(sys.prefix), Path(sys.base_prefix), Path(os.path.realpath(sys.executable)).parent.parent]
    return tuple(dict.fromkeys(place for link in links for place in (link, link.resolve())))


def environment_of(environments: Iterable[Path], home: str, more: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a command: nothing of ours is in it."""
    programs = [os.fspath(place / "bin") for place in (*environments, Path(sys.prefix))]
    return {
        "PATH": os.pathsep.join((*programs, *SYSTEM_PATH)),
        "HOME": home,
        "TMPDIR": home,
        "USER": "sandbox",
        "LOGNAME": "sandbox",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        **more,
    }


def beginning(command: Sequence[str], limits: Limits, mark: int, *, count_processes: bool) -> list[str]:
    """The command behind a small program that sets the limits on itself, says on descriptor `mark` that the sandbox
    stands, and becomes the command. Limits set inside the sandbox's user namespace count only what runs in it."""
    resources = {
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_DATA": limits.memory_bytes,  # not RLIMIT_AS: runtimes reserve far more than they use
        "RLIMIT_NOFILE": 1024,
    }
    if count_processes:
        resources["RLIMIT_NPROC"] = limits.processes
    order = json.dumps({"limits": resources, "mark": mark})
    return [sys.executable, "-I", "-S", "-c", _BEGIN, order, *command]
