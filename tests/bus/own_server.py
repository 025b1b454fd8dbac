"""A nats-server of one's own: the real binary on the configuration that `server_configuration` gives."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bus.credentials import ensure_credentials
from bus.given import GivenServer
from bus.permissions import ROLES
from bus.port import Login, Tls
from bus.server import find_binary
from bus.server_config import server_configuration
from tests.conformance.bus_kit import DEADLINE


class OwnServer:
    """Runs while the context is open. Each tenant's logins lie in `directory/<tenant>`, as in a home of its own.

    `tls` is the configuration's block, `verify` the files its clients use.
    """

    def __init__(
        self,
        directory: Path,
        *tenants: str,
        tenant: str | None = None,
        tls: dict[str, Any] | None = None,
        verify: Tls | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.directory = directory
        self.tenants = [*tenants, *([tenant] if tenant else [])]
        self._tls = tls
        self._verify = verify
        self._host = host
        self._port = -1
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"{'tls' if self._tls else 'nats'}://{self._host}:{self._port}"

    def home(self, tenant: str) -> Path:
        """Where a tenant keeps its seeds."""
        return self.directory / tenant

    def given(self, tenant: str) -> GivenServer:
        """The server as a tenant sees it."""
        return GivenServer(self.url, self.home(tenant), self._verify)

    def login(self, role: str) -> Login:
        """Of the first tenant."""
        return self.given(self.tenants[0]).login(role)

    def configure(self) -> Path:
        """Write the configuration anew."""
        keys = {tenant: ensure_credentials(self.home(tenant), ROLES) for tenant in self.tenants}
        listen = f"127.0.0.1:{self._port}"
        config = server_configuration(keys, listen=listen, store_dir=self.directory / "store", tls=self._tls)
        path = self.directory / "own.conf"
        path.write_text(json.dumps(config))
        return path

    async def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        ports = self.directory / "ports"
        ports.mkdir(exist_ok=True)
        with (self.directory / "own.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(str(find_binary()), "-c", str(self.configure()), "--ports_file_dir", str(ports)),
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(DEADLINE):
            while (port := self._written(ports)) is None:
                assert self._process.returncode is None, (self.directory / "own.log").read_text()
                await asyncio.sleep(0.01)
        self._port = port

    def _written(self, ports: Path) -> int | None:
        for file in ports.glob(f"*_{self.pid}.ports"):
            try:
                return int(json.loads(file.read_text())["nats"][0].rpartition(":")[2])
            except ValueError:
                pass  # half written
        return None

    def reload(self) -> None:
        """Let it read its configuration again."""
        self.configure()
        os.kill(self.pid, signal.SIGHUP)

    async def kill(self) -> None:
        """It is gone, without warning."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()
