"""A real Ray cluster of one node on loopback, for tests: started and ended as one process group."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from workspace.child import DEATH_SIGNAL, prctl

TRIES, SECONDS = 4, 120.0
PORTS = (
    "port", "node-manager-port", "object-manager-port", "dashboard-agent-grpc-port", "dashboard-agent-listen-port",
    "metrics-export-port", "runtime-env-agent-port",
)  # fmt: skip


class RayCluster:
    """`address` is that of its head; `processes` are the ids of all that belongs to it."""

    def __init__(self) -> None:
        """Start it; again if Ray gives up on itself, as it does when its agents take more than 15 s on a busy machine.

        Raises RuntimeError with what Ray said.
        """
        for _ in range(TRIES):
            # short, since it holds sockets, whose paths are bounded
            self.directory = Path(tempfile.mkdtemp(prefix="vt-ray"))
            try:
                if self._started():
                    return
            except BaseException:
                self.stop()
                raise
            said = self.log.read_text("utf-8", errors="replace")[-1500:]
            self.stop()
        raise RuntimeError(f"no Ray cluster after {TRIES} tries: {said}")

    def _started(self) -> bool:
        lean = self.directory / "lean"
        lean.mkdir()
        # jsonschema's check of IRIs builds a grammar for three seconds in every process that Ray starts; none needs it
        (lean / "rfc3987_syntax.py").write_text("raise ImportError('left out')\n")
        ports = dict(zip(PORTS, _free(len(PORTS)), strict=True))
        self.address = f"127.0.0.1:{ports['port']}"
        self.log = self.directory / "out.txt"
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--node-ip-address=127.0.0.1",
            "--num-cpus=2", "--object-store-memory=80000000", "--include-dashboard=false", "--disable-usage-stats",
            f"--temp-dir={self.directory}", *(f"--{name}={port}" for name, port in ports.items()),
        ]  # fmt: skip
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.directory), "PYTHONPATH": str(lean),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback stays loopback
        }  # fmt: skip
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_with_us,
            )  # fmt: skip
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            if "Ray runtime started" in self.log.read_text("utf-8", errors="replace"):
                return True
            time.sleep(0.1)
        return False

    @property
    def processes(self) -> list[int]:
        """All processes of its session, which is also their group."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.process.pid:
                found.append(int(path.parent.name))
        return found

    def workers(self) -> list[int]:
        """The processes that compute or wait to."""
        return [pid for pid in self.processes if _title(pid).startswith("ray::") and "Agent" not in _title(pid)]

    def busy(self) -> list[int]:
        """The workers that compute right now."""
        return [pid for pid in self.workers() if _title(pid).startswith("ray::predict")]

    def listening(self) -> set[str]:
        """The addresses at which its processes wait for connections, as the kernel writes them (hexadecimal)."""
        owned = {_target(link) for pid in self.processes for link in _descriptors(pid)}
        found = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in owned:
                    found.add(fields[1].partition(":")[0])
        return found

    def stop(self) -> None:
        """End every process of it, and remove what it left."""
        if hasattr(self, "process"):
            for number in (signal.SIGTERM, signal.SIGKILL):
                for pid in self.processes:
                    try:
                        os.kill(pid, number)
                    except ProcessLookupError:
                        pass
                deadline = time.monotonic() + 10
                while self.processes and time.monotonic() < deadline:
                    self.process.poll()
                    time.sleep(0.05)
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()


def _with_us() -> None:
    """It ends when the tests do, however they end."""
    prctl(DEATH_SIGNAL, signal.SIGTERM)


def _descriptors(pid: int) -> list[str]:
    try:
        return [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _free(count: int) -> list[int]:
    """As many free ports of loopback."""
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return ports
