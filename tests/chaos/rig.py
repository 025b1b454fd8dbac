"""A run: a home, a repository, and real processes around them, each started again whenever it ends."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from bus.server import running
from cli.home import Home
from cli.opening import open_store
from cli.settings import Settings
from store.port import Store, StoreError
from tests.chaos.child import LEADER, MARKS
from tests.chaos.warm import warm
from tests.chaos.workload import ROLES
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 240.0
"""Seconds after which something that should happen has not."""

BETWEEN = 0.1
"""Seconds between the end of a component and its next start."""


Begin = Callable[[list[str], IO[str]], "subprocess.Popen[str]"]
"""Starts a component's process with these further options; its errors go into the file."""


class Component:
    """One process, supervised: it is started again when it ends, until `stop`.

    `plans` are extra options for the first starts, one each until it was reached: where that incarnation is to die.
    """

    def __init__(self, name: str, begin: Begin, log: Path, plans: list[str]) -> None:
        self.name = name
        self.starts = 0
        self.ends: list[int] = []
        self._begin = begin
        self._log = log
        self._plans = plans
        self._process: subprocess.Popen[str] | None = None
        self._up = threading.Event()
        self._wanted = threading.Event()
        self._changing = threading.Lock()
        self._thread = threading.Thread(target=self._supervise, name=name, daemon=True)

    def start(self) -> None:
        """Begin; does not wait."""
        self._wanted.set()
        self._thread = threading.Thread(target=self._supervise, name=self.name, daemon=True)
        self._thread.start()

    def ready(self, seconds: float = PATIENCE) -> None:
        """Wait until it works. Raises AssertionError with the end of its log when it does not."""
        if not self._up.wait(seconds):
            raise AssertionError(f"{self.name} was not ready in {seconds} s: {self.tail()}")

    def wait(self, seconds: float) -> int:
        """Wait for one that ends by itself; its exit code. Raises AssertionError when it does not."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise AssertionError(f"{self.name} did not end in {seconds} s: {self.tail()}")
        return self.ends[-1]

    @property
    def alive(self) -> bool:
        """Whether it is supervised or runs."""
        return self._thread.is_alive()

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to the process if it is up; whether it was."""
        with self._changing:
            process = self._process
            if process is None or process.poll() is not None or not self._up.is_set():
                return False
            if number == signal.SIGKILL:
                self._up.clear()
            process.send_signal(number)
            return True

    def limit(self, kind: int, most: int) -> None:
        """Set the process's soft limit (`resource.RLIMIT_…`)."""
        with self._changing, contextlib.suppress(ProcessLookupError):  # a new one has no such limit
            assert self._process is not None
            resource.prlimit(self._process.pid, kind, (most, resource.prlimit(self._process.pid, kind)[1]))

    def dismiss(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Tell it to end for good; does not wait."""
        self._wanted.clear()
        with self._changing:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it for good."""
        self.dismiss(number)
        self._thread.join(10)
        if self._thread.is_alive() and self._process is not None:
            self._process.kill()
            self._thread.join()

    def tail(self) -> str:
        """The end of what it said."""
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else "it said nothing"

    def _supervise(self) -> None:
        while self._wanted.is_set():
            with self._log.open("a") as log:
                self._run_once(log)
            if self.ends[-1] == 0 and self.name == "senders":
                return
            time.sleep(BETWEEN)

    def _run_once(self, log: IO[str]) -> None:
        plan = self._plans[0].split() if self._plans else []
        with self._changing:
            if not self._wanted.is_set():
                return
            self._process = process = self._begin(plan, log)
            self.starts += 1
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            if line == "ready\n" or "is serving" in line:
                self._up.set()
        process.wait()
        process.stdout.close()
        self._up.clear()
        self.ends.append(process.returncode)
        if plan and process.returncode == -signal.SIGKILL:
            self._plans.pop(0)


@dataclass
class Rig:
    """A home and its components. `plans` maps a component's name to where its incarnations die."""

    folder: Path
    sessions: int
    store_url: str | None = None
    conductors: int = 1
    plans: dict[str, list[str]] = field(default_factory=dict)
    broken: str = ""
    ack_wait: float = 2.0
    """Seconds until what a dead process held is delivered again; 0: as the product has it."""
    idle: float = 0.0
    """Seconds until a silent leader is replaced (PostgreSQL); 0: as the product has it."""
    forked: bool = False
    """Whether components are forked from a process that has imported everything, or started from nothing."""
    counts: Counter[str] = field(default_factory=Counter)
    components: dict[str, Component] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.home.prepare()
        self.evidence.mkdir(exist_ok=True)
        self.began = time.monotonic()
        self.port = free_port()
        self._make_repository()
        self._reader: Store | None = None

    @property
    def home(self) -> Home:
        """The home directory."""
        return Home(self.folder / "home")

    @property
    def repository(self) -> Path:
        """The user's repository."""
        return self.folder / "repository"

    @property
    def evidence(self) -> Path:
        """What the processes saw."""
        return self.folder / "evidence"

    def _make_repository(self) -> None:
        self.repository.mkdir()
        who = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
        for words in (
            ("init", "--quiet", "--initial-branch=main"),
            (*who, "commit", "--quiet", "--allow-empty", "-mS"),
        ):
            self.git(*words)
        content = {
            "repository": str(self.repository),
            "base_commit": self.git("rev-parse", "HEAD").strip(),
            "signing_key": str(self.folder.parent / "signing.pem"),
        }
        (self.evidence / "workload.json").write_text(json.dumps(content))

    def git(self, *words: str) -> str:
        """Run git in the repository."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        command = ["git", *words]
        return subprocess.run(
            command, cwd=self.repository, env=environment, check=True, capture_output=True, text=True
        ).stdout

    def add(self, name: str) -> Component:
        """A component, not started."""
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("VALUETRAIN_", "GIT_", "COV"))}
        environment = kept | {
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "VALUETRAIN_NATS_URL": f"nats://127.0.0.1:{self.port}",
        }
        if self.store_url:
            environment["VALUETRAIN_STORE_URL"] = self.store_url
        words = [name, "--home", str(self.home.path), "--sessions", str(self.sessions), "--port", str(self.port)]
        words += ["--break", self.broken] if self.broken else []

        def begin(plan: list[str], log: IO[str]) -> subprocess.Popen[str]:
            if self.forked:  # in this folder: its command line does not name it (`left_over`)
                return warm(self.ack_wait, self.idle).start([*words, *plan], self.folder, environment, log)
            waits = ["--ack-wait", str(self.ack_wait), "--idle", str(self.idle)]
            return subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.child", *words, *waits, *plan],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

        component = Component(name, begin, self.evidence / f"{name}.log", self.plans.get(name, []))
        self.components[name] = component
        return component

    def start(self) -> None:
        """Start everything, and the senders at last."""
        names = ["observer", *(f"conductor-{n + 1}" for n in range(self.conductors)), "effects"]
        self.add("nats").start()
        self.components["nats"].ready()  # it makes the logins
        for name in (*names, *(f"agent-{role}" for role in ROLES), "senders"):
            self.add(name).start()

    def kill(self, name: str) -> bool:
        """kill -9 a component, or the server itself (`nats-server`); whether there was something to kill."""
        if name == "nats-server":
            info = running(self.home.bus)
            done = info is not None
            if info is not None:
                os.kill(info.pid, signal.SIGKILL)
        else:
            done = self.components[name].send(signal.SIGKILL)
        return done

    @contextlib.contextmanager
    def suspended(self, name: str) -> Iterator[None]:
        """SIGSTOP a component, or the server itself, for the length of the block."""
        if name == "nats-server":
            until = time.monotonic() + PATIENCE
            while (info := running(self.home.bus)) is None:  # it was just killed, and comes again
                assert time.monotonic() < until, "the server did not come up to be suspended"
                time.sleep(0.05)
            os.kill(info.pid, signal.SIGSTOP)
            self.counts["suspended nats-server"] += 1
            yield
            with contextlib.suppress(ProcessLookupError):
                os.kill(info.pid, signal.SIGCONT)
            return
        assert self.components[name].send(signal.SIGSTOP)
        self.counts[f"suspended {name}"] += 1
        yield
        self.components[name].send(signal.SIGCONT)

    def take_streams_away(self, empty: bool = False) -> None:
        """Have the server lose its disk while it is down; `empty`: all of its directory, as if it were replaced."""
        nats = self.components["nats"]
        nats.stop(signal.SIGKILL)
        if empty:
            seeds = {path: path.read_bytes() for path in (self.home.bus / "credentials").iterdir()}
            shutil.rmtree(self.home.bus)
            (self.home.bus / "credentials").mkdir(parents=True, mode=0o700)
            for path, seed in seeds.items():  # the logins are the home's, wherever the server comes from
                path.write_bytes(seed)
                path.chmod(0o600)
        else:
            shutil.rmtree(self.home.bus / "jetstream")
        self.counts["streams taken away"] += 1
        nats.start()

    def position(self) -> int:
        """How far the record has come; 0 while it cannot be read."""
        try:
            if self._reader is None:
                self._reader = open_store(self.home, Settings(store_url=self.store_url), read_only=True)  # type: ignore[arg-type]
            return self._reader.last_position()
        except StoreError:
            return 0

    def reach(self, position: int, seconds: float = PATIENCE) -> None:
        """Wait until the record has come to `position`. Raises AssertionError."""
        until = time.monotonic() + seconds
        while self.position() < position:
            if time.monotonic() > until:
                raise AssertionError(f"the record stands at {self.position()} and not at {position} after {seconds} s")
            time.sleep(0.05)

    def leader(self) -> str:
        """The conductor that relays, as far as was heard."""
        path = self.evidence / LEADER
        heard = path.read_text() if path.exists() else ""
        return heard if heard in self.components else "conductor-1"

    def blown(self) -> Counter[str]:
        """Named crash points that were reached, and how often."""
        path = self.evidence / MARKS
        return Counter(path.read_text().split()) if path.exists() else Counter()

    def finish(self, seconds: float = PATIENCE) -> None:
        """Wait until the senders say that all is done."""
        self.components["senders"].wait(seconds)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End all components, the server last."""
        others = [component for name, component in reversed(self.components.items()) if name != "nats"]
        for component in others:
            component.dismiss(number)
        for component in others:
            component.stop(number)
        self.components["nats"].stop()
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def left_over(self) -> list[str]:
        """Processes that name this run's folder, or work in it."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    place = os.readlink(entry / "cwd")
                except OSError:
                    continue
                if f"{self.folder}/" in f"{line} {place}/":
                    found.append(f"{entry.name}: {line}")
        return found
