"""Running a project's own tests in the sandbox, and reading what they came to."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from agents.skill import InputError
from agents.skills.change.junit import ReportError, read_junit
from agents.skills.change.shapes import TestRun
from workspace.sandbox.port import NO_NETWORK, Limits, Network, Sandbox, SandboxUnavailable

MOST_NAMED = 10
PLACE = "{junit}"
"""In a test command: where it shall write its JUnit report. pytest is told anyway, through its environment."""


def run_tests(
    sandbox: Sandbox,
    command: tuple[str, ...],
    tree: Path,
    scratch: Path,
    seconds: float,
    *,
    only: tuple[str, ...] = (),
    network: Network = NO_NETWORK,
) -> TestRun:
    """Run the tests of the project in `tree` (only the files `only`, if any are named), with what `network` lets them
    reach.

    `scratch` is a directory for the report, made anew. What the tests do is in the result; InputError is raised where
    they cannot be contained.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    report = scratch / "junit.xml"
    words = [word.replace(PLACE, str(report)) for word in command] + list(only)
    variables: Mapping[str, str] = {"PYTEST_ADDOPTS": f"--junitxml={report} -p no:cacheprovider"}
    try:
        result = sandbox.run(
            words,
            cwd=tree,
            writable=(tree, scratch),
            limits=Limits(seconds=seconds),
            environment=variables,
            network=network,
        )
    except SandboxUnavailable as problem:
        raise InputError(problem.problem, problem.remedy) from problem
    error = ""
    outcomes = {}
    try:
        outcomes = read_junit(report)
    except ReportError as problem:
        error = f"{' '.join(command)}: {result.summary}, and {problem}: {_end(result.output)}"
    if not error and result.stopped:
        error = f"{' '.join(command)}: {result.summary}"
    if not error and result.exit_code not in (0, 1, 5) and "failed" not in outcomes.values():
        error = f"{' '.join(command)}: {result.summary}, though no test failed: {_end(result.output)}"
    if not error and result.refused:
        error = f"{' '.join(command)}: {result.summary}"
    return TestRun(
        command=command,
        outcomes=dict(sorted(outcomes.items())),
        seconds=round(result.seconds, 2),
        exit_code=result.exit_code,
        contained=result.contained,
        error=error,
        contacts=tuple(str(contact) for contact in result.contacts),
    )


def contacts_of(run: TestRun, which: str) -> tuple[str, ...]:
    """What whoever decides should know of a run that used the network, or tried to."""
    if not run.contacts:
        return ()
    more = f"; and {len(run.contacts) - MOST_NAMED} more" if len(run.contacts) > MOST_NAMED else ""
    return (f"the tests {which} used the network: {'; '.join(run.contacts[:MOST_NAMED])}{more}",)


def _end(output: str) -> str:
    """The last lines of what a command printed, on one."""
    return " ".join(output.split())[-300:] or "it printed nothing"
