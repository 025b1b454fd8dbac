"""What holds for every test."""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import structlog
from coverage import Coverage, multiproc
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests import durations
from tests.durations import longest_first
from tests.outside import blocked

# As skills run in their processes: two test workers with a thread for each core would wait for each other. Read when
# the libraries are loaded, so it stands before any test imports them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# How long an example takes says what else the machine does, and no test asserts a time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

MEASURED = frozenset({"schemas", "store", "bus", "conductor", "golden", "audit"})
"""Folders of tests under which coverage counts: each of the four packages has its own tests there. Tracing others'
processes would double what they cost and prove nothing about those tests."""

PACKAGES = ("schemas", "store", "bus", "conductor")
"""What is measured."""

UNMEASURED = ("hypothesis", "untraced")
"""Marks of tests that repeat themselves many times: tracing makes them three times as slow, and the lines they reach
are to be reached by plain tests as well."""

TOGETHER = frozenset({"skills", "chaos"})
"""Folders whose modules each prepare something costly: a module's tests stay on one worker, or two would prepare it."""

SHARING = {
    "test_feature_leakage": "prepared", "test_feature_pipeline": "prepared",
    "test_release": "delivered", "test_retrain": "delivered",
}  # fmt: skip
"""Modules of those folders that use a fixture of the session in common, with the name of what they share."""

COUNTS = "counts"
"""The property under which a test says what it counted; a list of lines, shown at the end of the run."""


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """A command that a test runs in this process opens its log for good; the next test has its own again."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()


def _folder(item: pytest.Item) -> str:
    return _folder_of(item.path)


@functools.cache
def _folder_of(path: Path) -> str:
    return path.relative_to(Path(__file__).parent).parts[0]


def unit(node: str) -> str:
    """What stays on one worker with the test of this node id, which is the test itself if it stands alone."""
    path = PurePosixPath(node.partition("::")[0])
    return SHARING.get(path.stem, path.stem) if path.parts[1] in TOGETHER else node


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    if len({item.path for item in items}) > 1:
        items[:] = longest_first([(item.nodeid, unit(item.nodeid), item) for item in items], durations.read())


class Together(LoadScopeScheduling):
    """Sends a unit as a whole to one worker.

    The plugin's own scheduler for groups knows them by node ids that it has changed, which pytest 9.2 ignores: then
    each test is a group of its own, and nothing says so (pytest-xdist issue 1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together | None:
    """Ours for `--dist loadgroup`; the plugin's own ones for all others."""
    return Together(config, log) if config.getvalue("dist") == "loadgroup" else None


class Tracing:
    """Stops measuring coverage, also of child processes, around tests that are not about what is measured.

    In a worker two measure: the one that coverage begins in each new Python process, of which the worker is one, and
    that of pytest-cov. Both are stopped, and the second one alone is begun again.
    """

    def __init__(self) -> None:
        self._stopped: Coverage | None = None
        self._environment: dict[str, str] = {}
        self._bootstrap: Any = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> Iterator[None]:
        """Untraced: collecting imports hundreds of modules, and of those only the measured ones count."""
        if Coverage.current() is not None and not session.config.pluginmanager.has_plugin("dsession"):
            for package in PACKAGES:
                for found in pkgutil.walk_packages([str(session.config.rootpath / package)], f"{package}."):
                    if ".migrations" not in found.name:  # scripts that Alembic runs
                        importlib.import_module(found.name)
            self.stop()
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """With the fixtures of the test, of whatever scope."""
        if _folder(item) in MEASURED and not any(item.get_closest_marker(name) for name in UNMEASURED):
            self.resume()
        else:
            self.stop()
        return (yield)

    def stop(self) -> None:
        """No more tracing, here, in new processes and in forks of `multiprocessing`."""
        latest = Coverage.current()
        while (running := Coverage.current()) is not None:
            running.stop()
        if latest is not None and self._stopped is None:
            self._environment = {name: value for name, value in os.environ.items() if name.startswith("COV")}
            for name in self._environment:
                del os.environ[name]
            self._bootstrap = BaseProcess._bootstrap  # type: ignore[attr-defined]
            BaseProcess._bootstrap = multiproc.original_bootstrap  # type: ignore[attr-defined]
            self._stopped = latest

    def resume(self) -> None:
        """As before."""
        if self._stopped is not None:
            os.environ.update(self._environment)
            BaseProcess._bootstrap = self._bootstrap  # type: ignore[attr-defined]
            self._stopped.start()
            self._stopped = None


def pytest_configure(config: pytest.Config) -> None:
    """Only the run's own process, or each worker, traces tests."""
    config.pluginmanager.register(Tracing(), "tracing")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests counted, also when they ran in other processes."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    lines = [line for report in reports for name, said in report.user_properties if name == COUNTS for line in said]
    if lines:
        terminalreporter.section("counts")
        for line in lines:
            terminalreporter.write_line(line)


# Before any test imports them.
pytest.register_assert_rewrite("tests.conformance.store", "tests.conformance.store_machine")


@pytest.fixture(autouse=True, scope="session")
def nothing_outside_is_asked() -> Iterator[None]:
    """Model requests, and all others by the same HTTP clients, stay on this machine."""
    with blocked():
        yield
