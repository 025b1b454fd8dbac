"""The ticket: one backlog item, the same fields whatever backlog it came from."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from schemas.values import RiskLevel, Snapshot, Task, Value, later

CLASSIFICATION_METRICS = ("roc_auc", "average_precision", "accuracy", "balanced_accuracy", "f1", "recall", "precision")
REGRESSION_METRICS = ("mae", "rmse", "r2")
LOWER_IS_BETTER = frozenset({"mae", "rmse"})

SEARCH_SHARE = 0.25
"""Of a ticket's minutes, what the search for a model may take at most."""

_DATA = re.compile(r"^(?P<scheme>[a-z][a-z0-9+-]*):(?P<rest>.+)$")


class Budget(Value):
    """Upper limits for one ticket: US dollars and minutes of skill time. Reaching one is terminal."""

    usd: Annotated[float, Field(gt=0, le=1e9)] = 5.0
    minutes: Annotated[float, Field(gt=0, le=1e6)] = 10.0
    search_seconds: Annotated[float, Field(gt=0, le=1e6)] | None = later(None)
    """CPU seconds the search for a model may take, at most a quarter of `minutes`; None: by the size of the table."""

    @model_validator(mode="after")
    def _search_leaves_time(self) -> Budget:
        if self.search_seconds is not None and self.search_seconds > 60 * self.minutes * SEARCH_SHARE:
            raise ValueError(
                f"search_seconds is {self.search_seconds:g}, more than a quarter of the {self.minutes:g} minutes: "
                f"allow at least {self.search_seconds / 60 / SEARCH_SHARE:g} minutes, or search for less"
            )
        return self


class Checkout(Value):
    """Where a change starts: the repository's directory and the commit, as the drive found them when it took the
    ticket."""

    repository: str
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]


class Ticket(Value):
    """A backlog item as `docs/tickets.md` describes it. Free text (`body`) informs and never carries authority."""

    id: Annotated[int, Field(ge=1, lt=2**53)]
    title: Annotated[str, Field(min_length=1, max_length=300)]
    labels: tuple[str, ...] = ()
    pipeline: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")] = "ml-delivery"
    data: str | None = None
    target: str | None = None
    task: Task | None = None
    metric: str | None = None
    groups: str | None = None
    time: str | None = None
    acceptance: tuple[str, ...] = ()
    risk: RiskLevel = RiskLevel.LOW
    blocked_by: tuple[int, ...] = ()
    budget: Budget = Budget()
    requester: str | None = None
    assignee: str | None = None
    model: str | None = later(None)
    """The model in use, which a retraining starts from: a `model-package.zip` below the backlog or an allowed root."""
    package: str | None = later(None)
    """The package to release: a delivery's `model-package.zip` below the backlog or an allowed root, with its signed
    provenance beside it."""
    state: Literal["open", "closed"] = "open"
    locked: bool = False
    created: datetime | None = None
    body: str = ""
    change: str | None = later(None)
    """A patch (unified diff) below the backlog folder: the change itself, where no planner writes it."""
    repository: str | None = later(None)
    """The git repository the change is for, below one of the policy's `repository_roots`."""
    acceptance_tests: tuple[str, ...] = later(())
    """Test files below the backlog folder that must pass on the changed code; whoever builds does not see them."""
    sensitive: tuple[str, ...] = later(())
    """Columns that make groups of people, between whom the model's figures are compared."""
    reuse: bool = later(True)
    """Whether what earlier sessions on the same data found of its columns counts for the choice of inputs."""
    checkout: Checkout | None = later(None)
    """Set by the drive, never by the author."""
    origin: Annotated[str, Field(pattern=r"^github:[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$")] | None = later(None)
    """The backlog it came from, where its outcome is told: `github:OWNER/REPO`. Set by the source, never by the
    author."""
    requester_id: Annotated[int, Field(ge=1)] | None = later(None)
    """The requester's numeric user id at the origin, which outlives a change of name. Set by the source."""
    labeller_id: Annotated[int, Field(ge=1)] | None = later(None)
    """The numeric user id of who set the label by which Auto-Pilot takes the ticket. Set by the source."""

    snapshot: Snapshot | None = later(None)
    """The rows of `source:NAME/ITEM`, as the session got them. Set by the conductor, never by the author."""

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str | None) -> str | None:
        known = CLASSIFICATION_METRICS + REGRESSION_METRICS
        if metric is not None and metric not in known:
            raise ValueError(f"unknown metric {metric!r}; one of {', '.join(known)}")
        return metric

    @field_validator("created")
    @classmethod
    def _aware(cls, created: datetime | None) -> datetime | None:
        if created is not None and created.tzinfo is None:
            raise ValueError("needs a time zone, for example 2026-11-01T09:00:00Z")
        return created

    @model_validator(mode="after")
    def _metric_fits_task(self) -> Ticket:
        if self.metric and self.task:
            fits = CLASSIFICATION_METRICS if self.task is Task.CLASSIFICATION else REGRESSION_METRICS
            if self.metric not in fits:
                raise ValueError(f"metric {self.metric!r} is not for {self.task.value}; one of {', '.join(fits)}")
        if self.id in self.blocked_by:
            raise ValueError(f"ticket {self.id} is blocked by itself")
        return self

    @property
    def data_scheme(self) -> str:
        """`sklearn`, `statsmodels`, `synthetic`, `sql`, `source` …, or `file` for a path."""
        match = _DATA.match(self.data or "")
        return match["scheme"] if match else "file"

    @property
    def slug(self) -> str:
        """The title as at most 40 characters of lower-case words joined by hyphens."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")[:40].strip("-") or "ticket"
