"""Policy: who may approve what, where data may come from, how much runs at once. Read from `policy.yaml`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.values import PhaseName, RiskLevel, Value, later


class Approver(Value):
    """A person who may decide gates.

    `phases` and `up_to_risk` bound what they may decide. `os_users` lists the operating-system accounts that may speak
    as this person on the command line; empty means every account that can open the home directory.
    `phases`, `up_to_risk` and `paths` make an owner by phase, risk tier and path.
    """

    name: Annotated[str, Field(min_length=1, max_length=128)]
    phases: tuple[PhaseName, ...] = ()
    up_to_risk: RiskLevel = RiskLevel.HIGH
    os_users: tuple[str, ...] = ()
    paths: tuple[str, ...] = later(())
    """Globs (`*` also matches `/`) that must cover every file a change touches, or else the ticket's `data`; empty
    means every ticket."""


class Policy(Value):
    """What the operators of this installation allow. `version` changes with the content and gates bind to it."""

    approvers: tuple[Approver, ...] = ()
    operators: tuple[str, ...] = ()
    """Names that may roll back, retry and abort besides the approvers."""
    separation_of_duties: bool = True
    """The requester of a ticket may not approve its gates."""
    data_roots: tuple[str, ...] = ()
    """Directories besides the backlog whose files tickets may name; relative ones are relative to the repository."""
    max_data_bytes: Annotated[int, Field(gt=0)] = 200_000_000
    """Largest data file a ticket may name, in bytes."""
    max_risk: RiskLevel = RiskLevel.HIGH
    """Tickets above this risk are passed over."""
    wip: Annotated[int, Field(ge=1)] = 2
    """How many sessions a drive works on at once; one waiting at a human gate does not count."""
    max_failures: Annotated[int, Field(ge=1)] = 2
    """A ticket that failed this often since its last edit is passed over."""
    usd_per_cpu_hour: Annotated[float, Field(ge=0, le=1000)] = 0.05
    """What an hour of one CPU core costs, for the cost figures."""
    signing_key: str | None = None
    """File with the ed25519 key that signs packages; by default one is made in the home directory."""
    escalate_to: tuple[str, ...] = later(())
    """Approvers who get a gate that expired undecided, whatever phases they are named for."""
    repository_roots: tuple[str, ...] = later(())
    """Directories below which a ticket may name a git repository to change; relative ones are relative to the drive's
    repository, which needs no root."""
    test_command: str | None = later(None)
    """How the tests of this repository are run; read from the base commit of the repository that is changed."""
    max_consecutive_failures: Annotated[int, Field(ge=1)] | None = later(None)
    """When so many sessions of a drive in a row end blocked, it takes no more tickets."""

    label_permission: Literal["read", "triage", "write", "maintain", "admin"] = later("triage")
    """What whoever labels an issue for Auto-Pilot must at least be allowed to do in its repository."""
    wip_per_repository: Annotated[int, Field(ge=1)] | None = later(None)
    """How many sessions may work on one repository at once, over all drives of the record."""
    max_open_pull_requests: Annotated[int, Field(ge=1)] | None = later(None)
    """How many pull requests of its own Auto-Pilot may have open in a repository; at that many it takes no ticket."""
    max_pushed_bytes: Annotated[int, Field(gt=0)] = later(20_000_000)
    """Largest file that is pushed to a forge, in bytes."""

    @model_validator(mode="after")
    def _escalation_goes_to_approvers(self) -> Self:
        if strangers := sorted(set(self.escalate_to) - {a.name for a in self.approvers}):
            raise ValueError(f"`escalate_to` names {', '.join(strangers)}, who is no approver: list them there too")
        return self
