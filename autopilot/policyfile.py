"""`policy.yaml`: who may approve what, where data may come from, how much runs at once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autopilot.plainyaml import MAX_BYTES, Problem, Unreadable, problems_of, read
from schemas.policy import Policy

REMEDIES = {
    "approvers": "write a list, for example `approvers: [{name: alice, up_to_risk: medium}]`",
    "operators": "write a list of names, for example `operators: [alice, bob]`",
    "separation_of_duties": "write `separation_of_duties: true` or `false`",
    "data_roots": "write a list of directories, for example `data_roots: [data]`",
    "max_data_bytes": "write a number of bytes above zero, for example `max_data_bytes: 200000000`",
    "max_risk": "write `max_risk: low`, `medium` or `high`",
    "wip": "write a whole number from 1, for example `wip: 2`",
    "max_failures": "write a whole number from 1, for example `max_failures: 2`",
    "usd_per_cpu_hour": "write US dollars, for example `usd_per_cpu_hour: 0.05`",
    "escalate_to": "write a list of approvers' names, for example `escalate_to: [alice]`",
    "max_consecutive_failures": "write a whole number from 1, for example `max_consecutive_failures: 3`",
    "label_permission": "write `label_permission: triage`, or `read`, `write`, `maintain`, `admin`",
    "wip_per_repository": "write a whole number from 1, or leave the line out",
    "max_open_pull_requests": "write a whole number from 1, or leave the line out",
    "signing_key": "name a file, or leave the line out",
    "repository_roots": "write a list of directories, for example `repository_roots: [../services]`",
    "max_pushed_bytes": "write a number of bytes above zero, for example `max_pushed_bytes: 20000000`",
    "admins": "write a list of names, for example `admins: [alice]`",
    "accounts": "write a list, for example `accounts: [{name: carol, github: 583231, slack: U024BE7LH}]`",
    "sandbox_hosts": "write a list of names with ports, for example `sandbox_hosts: [pypi.example:443]`",
    "models": "name prices and limits, for example `models: {prices: {gpt-5-mini: {input: 0.25, output: 2}}}`",
    "test_command": "write one command, for example `test_command: python -m pytest`",
    "scan_command": "write one command with {sarif}, for example `scan_command: semgrep scan --sarif --output {sarif}`",
}


class PolicyError(ValueError):
    """A policy file that cannot be used, so that nothing may run under it. `problems` says why, line by line."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__(f"{path}: " + " · ".join(str(problem) for problem in problems))


def load_policy(path: Path) -> tuple[Policy, str]:
    """The policy in the file, and its version: the SHA-256 of its meaning (comments and order of lines do not count).

    A missing or empty file is the default policy, which names no approver: then nobody can decide a gate that asks for
    a person (see `advice`). Raises PolicyError; a policy that cannot be read never falls back to a weaker one.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raw = b""
    except OSError as problem:
        why = Problem("file", f"cannot be read ({problem.strerror})", "check the path and who may read it")
        raise PolicyError(path, [why]) from problem
    return parse_policy(raw, path)


def parse_policy(raw: bytes, path: Path) -> tuple[Policy, str]:
    """The policy in the bytes of a file, as `load_policy`; `path` names it in errors. Raises PolicyError."""
    if len(raw) > MAX_BYTES:
        raise PolicyError(path, [Problem("file", f"is larger than {MAX_BYTES // 1000} kB", "a policy is a short file")])
    try:
        document = read(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as problem:
        why = Problem("file", f"is not UTF-8 text ({problem.reason})", "save it as UTF-8")
        raise PolicyError(path, [why]) from problem
    except Unreadable as problem:
        raise PolicyError(path, [problem.problem]) from problem
    data = {name: _friendly(name, value) for name, value in document.data.items() if value is not None}
    try:
        policy = Policy.model_validate(data)
    except ValidationError as error:
        problems = problems_of(error, document, Policy, REMEDIES)
        raise PolicyError(path, sorted(problems, key=lambda p: p.line or 0)) from error
    names = [approver.name for approver in policy.approvers]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        line = document.line(("approvers",))
        why = Problem("approvers", f"names {', '.join(doubled)} twice", "write each person once", line)
        raise PolicyError(path, [why])
    return policy, version_of(policy)


def version_of(policy: Policy) -> str:
    """SHA-256 of the policy's canonical JSON, in hexadecimal: gates bind to it."""
    canonical = json.dumps(policy.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def advice(policy: Policy, path: Path) -> list[str]:
    """Sentences about what the policy allows but its author may not have meant."""
    if not policy.approvers:
        return [
            f"{path} names no approver, so nobody can decide a gate that asks for a person; "
            "add `approvers: [{name: …}]` before you drive tickets above low risk"
        ]
    return []


def _friendly(name: str, value: Any) -> Any:
    """A single value for a list of one, and a bare name for an approver without bounds."""
    lists = (
        "approvers", "operators", "data_roots", "escalate_to", "repository_roots", "admins", "accounts",
        "sandbox_hosts",
    )  # fmt: skip
    if name in lists and isinstance(value, str | dict):
        value = [value]
    if name == "approvers" and isinstance(value, list):
        value = [{"name": item} if isinstance(item, str) else _person(item) for item in value]
    if name == "accounts" and isinstance(value, list):
        value = [_person(item) for item in value]
    return value


def _person(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    lists = ("phases", "os_users", "paths", "github", "slack")
    kept = {key: value for key, value in item.items() if value is not None}
    return {key: [value] if key in lists and isinstance(value, str) else value for key, value in kept.items()}
