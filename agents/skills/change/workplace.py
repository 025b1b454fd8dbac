"""What the skills of a code change work on: the ticket's files, the repository at its base, and the sandbox."""

from __future__ import annotations

import hashlib
import os
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from agents.skill import InputError, SkillContext
from agents.skills.change.shapes import TicketFile
from schemas.ticket import Checkout
from workspace.checkout import CleanCheckout
from workspace.git import GitError
from workspace.sandbox.local import WARNING
from workspace.sandbox.opening import open_sandbox
from workspace.sandbox.port import BUBBLEWRAP, Network, Sandbox, SandboxUnavailable

LARGEST_PATCH = 5_000_000
"""Bytes of a patch a ticket brings."""
LARGEST_TEST = 500_000
DEFAULT_COMMAND = ("python", "-m", "pytest")
SCAN_PLACE = "{sarif}"
COMMANDS = frozenset({"test_command", "scan_command"})
_EXAMPLES = {"test_command": "python -m pytest", "scan_command": f"semgrep scan --sarif --output {SCAN_PLACE}"}
_POLICY, _PROJECT = ".valuetrain/policy.yaml", "pyproject.toml"


def checkout_of(context: SkillContext) -> Checkout:
    """Where the change starts. Raises InputError when the session was started without a repository."""
    if context.ticket.checkout is None:
        raise InputError(
            "the session was started without a repository to change",
            "use a pipeline with a phase that has `apply`, and drive again",
        )
    return context.ticket.checkout


def clean_checkout(context: SkillContext, name: str) -> CleanCheckout:
    """The files of the base commit in a new directory of this skill's own. Raises InputError."""
    place = checkout_of(context)
    try:
        return CleanCheckout.create(Path(place.repository), place.commit, context.out.parent / name)
    except GitError as problem:
        raise InputError(problem.problem, problem.remedy) from problem


def sandbox_of(context: SkillContext) -> tuple[Sandbox, tuple[str, ...]]:
    """The installation's sandbox, and what a reviewer should know about it. Raises InputError where there is none."""
    return sandbox_from(context.facts)


def network_of(context: SkillContext) -> Network:
    """What the project's own tests may reach: the policy's hosts."""
    return Network(tuple(context.facts.get("sandbox_hosts") or ()))


def sandbox_from(facts: Mapping[str, Any]) -> tuple[Sandbox, tuple[str, ...]]:
    """The same from the facts alone."""
    named = str(facts.get("sandbox_environments") or "")
    environments = [Path(part) for part in named.split(os.pathsep) if part]
    try:
        sandbox = open_sandbox(str(facts.get("sandbox") or BUBBLEWRAP), environments)
    except SandboxUnavailable as problem:
        raise InputError(problem.problem, problem.remedy) from problem
    return sandbox, () if sandbox.contained else (WARNING,)


def ticket_file(name: str, field: str, roots: Sequence[Path], largest: int) -> tuple[TicketFile, bytes]:
    """A file the ticket's `field` names, below the first of `roots` (the backlog). Raises InputError."""
    if not roots:
        raise InputError(f"`{field}` {name!r} cannot be read: there is no backlog folder", "drive a folder of tickets")
    root = roots[0].resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise InputError(f"`{field}` {name!r} leads out of the backlog folder", "put the file below it")
    if not path.is_file():
        raise InputError(f"`{field}` {name!r} is no file below the backlog folder", "put it there, or correct the name")
    if path.stat().st_size > largest:
        raise InputError(f"`{field}` {name!r} has more than {largest:,} bytes", "make it smaller")
    data = path.read_bytes()
    if not data.strip():
        raise InputError(f"`{field}` {name!r} is empty", "write it, or leave the line out")
    return TicketFile(name=path.relative_to(root).as_posix(), sha256=hashlib.sha256(data).hexdigest()), data


def test_command(base: CleanCheckout) -> tuple[tuple[str, ...], str]:
    """How the project's tests are run, and where that is said: its base commit, never the ticket. Raises InputError."""
    said, origin = _said(base, "test_command")
    return (DEFAULT_COMMAND, "default") if said is None else (_words(said, "test_command", origin), origin)


def scan_command(base: CleanCheckout) -> tuple[str, ...]:
    """How the project's code is scanned, said in the same places; empty where nothing is. Raises InputError."""
    said, origin = _said(base, "scan_command")
    if said is None:
        return ()
    words = _words(said, "scan_command", origin)
    if not any(SCAN_PLACE in word for word in words):
        raise InputError(
            f"`scan_command` in {origin} does not say where its report goes",
            f"write {SCAN_PLACE} where it takes the file for SARIF 2.1.0, for example scanner --output {SCAN_PLACE}",
        )
    return words


def _said(base: CleanCheckout, name: str) -> tuple[object, str]:
    """The command `name` as the base commit has it, unread (None: not there), and where it stands."""
    said: object = None
    origin = ""
    if (text := base.read(_POLICY, base=True)) is not None:
        origin = _POLICY
        try:
            said = (yaml.safe_load(text) or {}).get(name)
        except (yaml.YAMLError, AttributeError) as problem:
            raise InputError(f"{_POLICY} of the base commit cannot be read: {problem}", "correct it there") from problem
    if said is None and (text := base.read(_PROJECT, base=True)) is not None:
        origin = _PROJECT
        try:
            table = tomllib.loads(text).get("tool", {}).get("valuetrain", {})
        except tomllib.TOMLDecodeError as problem:
            raise InputError(f"{_PROJECT} of the base commit is no TOML: {problem}", "correct it there") from problem
        if unknown := sorted(set(table) - COMMANDS):
            raise InputError(
                f"[tool.valuetrain] has {', '.join(unknown)}", "it may hold `test_command` and `scan_command` only"
            )
        said = table.get(name)
    return said, origin


def _words(said: object, name: str, origin: str) -> tuple[str, ...]:
    try:
        command = tuple(shlex.split(said)) if isinstance(said, str) else ()
    except ValueError:
        command = ()
    if not command:
        raise InputError(f"`{name}` in {origin} is {said!r}", f"write one command, for example {_EXAMPLES[name]}")
    return command
