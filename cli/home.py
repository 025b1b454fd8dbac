"""The home directory: where one installation keeps its record, bus, artifacts, keys and worktrees."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cli.errors import CliError
from cli.settings import load

IGNORE = """\
# the train's own files; what people edit is kept in git
*
!.gitignore
!config.yaml
!policy.yaml
!sources.yaml
!pipelines/
!pipelines/**
!skills/
!skills/**
"""


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below the home directory."""

    path: Path

    @property
    def record(self) -> Path:
        """The SQLite database with every event."""
        return self.path / "record.db"

    @property
    def bus(self) -> Path:
        """The embedded NATS server's configuration, credentials and JetStream files."""
        return self.path / "bus"

    @property
    def blobs(self) -> Path:
        """Artifacts by SHA-256."""
        return self.path / "blobs"

    @property
    def attempts(self) -> Path:
        """Working directories of attempts; those of failed ones are kept."""
        return self.path / "attempts"

    @property
    def worktrees(self) -> Path:
        """Git worktrees of open sessions."""
        return self.path / "worktrees"

    @property
    def policy(self) -> Path:
        """Who may approve what."""
        return self.path / "policy.yaml"

    @property
    def sources(self) -> Path:
        """The databases and buckets that tickets may name."""
        return self.path / "sources.yaml"

    @property
    def config(self) -> Path:
        """Settings."""
        return self.path / "config.yaml"

    @property
    def pipelines(self) -> Path:
        """The user's own pipelines; they come before the shipped ones."""
        return self.path / "pipelines"

    @property
    def key(self) -> Path:
        """The ed25519 key that signs packages."""
        return self.path / "keys" / "signing.pem"

    @property
    def registry(self) -> Path:
        """The database of the model registry, unless the settings name another one."""
        return self.path / "registry.db"

    @property
    def registry_uri(self) -> str:
        """The model registry in the home: an MLflow store in SQLite."""
        return f"sqlite:///{self.registry.absolute()}"

    def registry_at(self, setting: str | None) -> str:
        """The registry that the setting `registry_uri` means: this home's unless it names another."""
        return self.registry_uri if setting in (None, "home") else str(setting)

    @property
    def record_key(self) -> Path:
        """The ed25519 key that signs the record's checkpoints and bundles; its public half lies beside it (`.pub`)."""
        return self.path / "keys" / "record.pem"

    @property
    def record_public_keys(self) -> list[Path]:
        """The public halves of this home's record keys, the retired ones (`record-….pem.pub`) included."""
        return sorted(self.record_key.parent.glob("record*.pem.pub"))

    @property
    def components(self) -> Path:
        """What `valuetrain up` runs: each component's name, process and state."""
        return self.path / "components.json"

    @property
    def gateway(self) -> Path:
        """What the model gateway keeps: its name, by which the conductor knows its lost calls."""
        return self.path / "gateway"

    @property
    def chatops(self) -> Path:
        """How far comments were heard, and what was posted to Slack."""
        return self.path / "chatops"

    @property
    def log(self) -> Path:
        """What went wrong inside, for a bug report."""
        return self.path / "valuetrain.log"

    def prepare(self) -> None:
        """Make the directory (mode 0700) and keep its contents out of git. Raises CliError naming path and reason."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            ignore = self.path / ".gitignore"
            if not ignore.exists():
                ignore.write_text(IGNORE, "utf-8")
        except OSError as problem:
            raise CliError(
                f"home {self.path} cannot be used: {problem.strerror}; choose another with --home"
            ) from problem

    def existing(self) -> Home:
        """Itself, if something was ever recorded here, or elsewhere by its settings. Raises CliError otherwise."""
        if not self.record.exists() and load(self.config).store_url is None:
            raise CliError(f"nothing is recorded in {self.path} yet; start with `valuetrain drive`, or give --home")
        return self

    def locked(self, purpose: str) -> contextlib.AbstractContextManager[None]:
        """Hold the home for one composition: a drive with all its parts, or `valuetrain up` with its components.

        The lock goes with the process, however it ends. Raises HomeBusy naming the holder.
        """
        return self._hold("lock", purpose)

    def holder(self) -> str:
        """Who has the home `locked`; empty when nobody has."""
        try:
            handle = os.open(self.path / "lock", os.O_RDONLY)
        except OSError:
            return ""
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return ""
        except BlockingIOError:
            return os.read(handle, 200).decode("utf-8", "replace").strip()
        finally:
            os.close(handle)

    def recording(self, purpose: str) -> contextlib.AbstractContextManager[None]:
        """Be the one process that writes a record in SQLite. As `locked`."""
        return self._hold("record.lock", purpose)

    def executing(self, purpose: str) -> contextlib.AbstractContextManager[None]:
        """Be the one process that writes to git and signs. As `locked`."""
        return self._hold("effects.lock", purpose)

    def asking_models(self, purpose: str) -> contextlib.AbstractContextManager[None]:
        """Be the one process that asks language models. As `locked`."""
        return self._hold("gateway.lock", purpose)

    def talking(self, purpose: str) -> contextlib.AbstractContextManager[None]:
        """Be the one process that hears people's commands on this home. As `locked`."""
        return self._hold("chatops.lock", purpose)

    @contextlib.contextmanager
    def _hold(self, name: str, purpose: str) -> Iterator[None]:
        self.prepare()
        handle = os.open(self.path / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(handle, 200).decode("utf-8", "replace").strip() or "another valuetrain"
                raise HomeBusy(holder, self.path) from None
            os.ftruncate(handle, 0)
            os.write(handle, f"{purpose} (process {os.getpid()})".encode())
            yield
        finally:
            os.close(handle)


class HomeBusy(CliError):
    """Another process works on this home."""

    def __init__(self, holder: str, path: Path) -> None:
        self.holder = holder
        super().__init__(f"{holder} is using {path}; wait for it, or give another --home")
