"""Policy: who may approve what, where data may come from, how much runs at once. Read from `policy.yaml`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.hosts import Host
from schemas.model_policy import ModelPolicy
from schemas.values import PhaseName, RiskLevel, Value, later

GithubId = Annotated[int, Field(ge=1, lt=2**53)]
"""A GitHub account's numeric user id: unlike its login it never changes hands."""

SlackId = Annotated[str, Field(pattern=r"^[UW][A-Z0-9]{2,20}$")]
"""A Slack user's id, as "Copy member ID" gives it."""


class Account(Value):
    """The accounts of an operator or admin who is no approver, by the channel that verifies them."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    os_users: tuple[str, ...] = ()
    github: tuple[GithubId, ...] = ()
    slack: tuple[SlackId, ...] = ()


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
    github: tuple[GithubId, ...] = later(())
    """The GitHub accounts that may speak as this person in comments; empty means none."""
    slack: tuple[SlackId, ...] = later(())
    """The Slack users that may speak as this person; empty means none."""


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
    scan_command: str | None = later(None)
    """How the code of this repository is scanned; writes SARIF 2.1.0 to `{sarif}`; read from the base commit, too."""
    max_consecutive_failures: Annotated[int, Field(ge=1)] | None = later(None)
    """When so many sessions of a drive in a row end blocked, it takes no more tickets."""
    admins: tuple[str, ...] = later(())
    """Names that may override a gate, with a reason; never one of a ticket they requested or released themselves."""
    accounts: tuple[Account, ...] = later(())
    """Accounts of operators and admins who are no approvers; an approver's stand with the approver."""

    label_permission: Literal["read", "triage", "write", "maintain", "admin"] = later("triage")
    """What whoever labels an issue for Auto-Pilot must at least be allowed to do in its repository."""
    wip_per_repository: Annotated[int, Field(ge=1)] | None = later(None)
    """How many sessions may work on one repository at once, over all drives of the record."""
    max_open_pull_requests: Annotated[int, Field(ge=1)] | None = later(None)
    """How many pull requests of its own Auto-Pilot may have open in a repository; at that many it takes no ticket."""
    max_pushed_bytes: Annotated[int, Field(gt=0)] = later(20_000_000)
    """Largest file that is pushed to a forge, in bytes."""
    models: ModelPolicy | None = later(None)
    """Which language models may be asked, and how much; None asks none."""
    sandbox_hosts: Annotated[tuple[Host, ...], Field(max_length=100)] = later(())
    """What contained commands may reach of the network, by HTTP and HTTPS only; empty is nothing at all."""

    @model_validator(mode="after")
    def _escalation_goes_to_approvers(self) -> Self:
        if strangers := sorted(set(self.escalate_to) - {a.name for a in self.approvers}):
            raise ValueError(f"`escalate_to` names {', '.join(strangers)}, who is no approver: list them there too")
        return self

    @model_validator(mode="after")
    def _an_account_is_one_persons(self) -> Self:
        approvers = {approver.name for approver in self.approvers}
        if doubled := sorted({account.name for account in self.accounts} & approvers):
            raise ValueError(f"`accounts` names {', '.join(doubled)}, who is an approver: write the accounts there")
        owners: dict[int | str, str] = {}
        for person in self.people:
            accounts: tuple[int | str, ...] = (*person.github, *person.slack)
            for account in accounts:
                if (other := owners.setdefault(account, person.name)) != person.name:
                    raise ValueError(f"`accounts` and approvers give {account} to both {other} and {person.name}")
        return self

    @property
    def people(self) -> tuple[Approver | Account, ...]:
        """Everybody whose accounts the policy knows."""
        return (*self.approvers, *self.accounts)

    def person(self, name: str) -> Approver | Account | None:
        """The person called exactly so, if the policy knows any accounts of theirs."""
        return next((person for person in self.people if person.name == name), None)

    def owner_of(self, account: int | str) -> str | None:
        """Whose account a GitHub user id (a number) or a Slack user id (a text) is."""
        owners = (p.name for p in self.people if account in (p.github if isinstance(account, int) else p.slack))
        return next(owners, None)
