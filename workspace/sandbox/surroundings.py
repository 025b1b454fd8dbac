"""What a contained command sees besides its own files: where programs lie, its environment, how its limits begin."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from workspace.sandbox.port import Limits, SandboxUnavailable

PROXY_PORT = 3128
"""Where the proxy listens, on the loopback interface that a run has for itself."""
CERTIFICATES = ("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted")
"""Whom the system trusts to name servers: needed for HTTPS, and no secret."""
SYSTEM_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "mime.types")
"""What of `/etc` programs need to run."""
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
if order["way"] is not None:
    import socket
    listener = socket.create_server(("127.0.0.1", order["port"]))
    with socket.socket(fileno=order["way"]) as way:
        socket.send_fds(way, [b"!"], [listener.fileno()])
    listener.close()
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


def proxy_variables() -> dict[str, str]:
    """How programs find the proxy. What listens inside is asked without it."""
    proxy = f"http://127.0.0.1:{PROXY_PORT}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    inside = "localhost,127.0.0.1,::1"
    return {**dict.fromkeys(names, proxy), "NO_PROXY": inside, "no_proxy": inside}


def beginning(
    command: Sequence[str], limits: Limits, mark: int, *, count_processes: bool, way: int | None = None
) -> list[str]:
    """The command behind a small program that sets the limits on itself, says on descriptor `mark` that the sandbox
    stands, and becomes the command. Limits set inside the sandbox's user namespace count only what runs in it. `way` is
    the descriptor on which the proxy waits for the socket it shall listen on, if there is one."""
    resources = {
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_DATA": limits.memory_bytes,  # not RLIMIT_AS: runtimes reserve far more than they use
        "RLIMIT_NOFILE": 1024,
    }
    if count_processes:
        resources["RLIMIT_NPROC"] = limits.processes
    order = json.dumps({"limits": resources, "mark": mark, "way": way, "port": PROXY_PORT})
    return [sys.executable, "-I", "-S", "-c", _BEGIN, order, *command]


def program_of(name: str, subject: str, missing: str, install: str) -> str:
    """Where the program `name` lies on the system's own path, which no setting changes.

    Raises SandboxUnavailable on another system than Linux (`subject` begins the sentence) and where it is `missing`.
    """
    if sys.platform != "linux":
        raise SandboxUnavailable(
            f"{subject} on Linux, and this is {sys.platform}",
            "drive tickets that change code on a Linux machine, or in a virtual one",
        )
    program = shutil.which(name, path=os.pathsep.join(SYSTEM_PATH))
    if program is None:
        raise SandboxUnavailable(f"{missing}, and commands are not run uncontained", install)
    return program
