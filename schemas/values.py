"""Value types shared by every message: small, frozen, and free of behaviour that needs the outside."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class Value(BaseModel):
    """Base of every value type: immutable, and closed so that a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def later(default: Any) -> Any:
    """The default of a field that came after records were made.

    While the field has its default it is left out of the canonical bytes, so what was recorded before it came stays
    byte for byte what it was: digests still fit and recorded decisions are still made alike.
    """
    return Field(default=default, exclude_if=lambda value: value == default)


class Role(StrEnum):
    """The seven agents of the Value Train."""

    LEAD = "lead"
    DATA = "data"
    FEATURE = "feature"
    TRAINING = "training"
    DEVSECOPS = "devsecops"
    EVALUATION = "evaluation"
    RISK = "risk"


class Sender(StrEnum):
    """Who may put a command on the bus besides the agents.

    The last token of a command's subject is the sender (one of these, or an agent's `Role`). The NATS server lets a
    login publish only under its own token, so the token is identity and not a claim.
    """

    AUTOPILOT = "autopilot"
    OPERATOR = "operator"
    CHATOPS = "chatops"
    CONDUCTOR = "conductor"
    GATEWAY = "gateway"


class Mode(StrEnum):
    """A bounded working context: which skills are allowed in a phase."""

    INTAKE = "intake"
    DISCOVER = "discover"
    SCOPE = "scope"
    DESIGN = "design"
    BUILD = "build"
    EVALUATE = "evaluate"
    DELIVER = "deliver"
    OPERATE = "operate"
    IMPROVE = "improve"


class Task(StrEnum):
    """What kind of model a ticket asks for."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class RiskLevel(StrEnum):
    """A ticket's risk, as its author or the Risk agent sees it; ordered low < medium < high."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @property
    def rank(self) -> int:
        """0 for low, 1 for medium, 2 for high."""
        return ("low", "medium", "high").index(self.value)


class Priority(StrEnum):
    """How urgent a ticket or session is; the labels of the same names mean the same."""

    NOW = "now"
    NEXT = "next"
    FUTURE = "future"


class FailureClass(StrEnum):
    """Why an attempt failed, which decides what happens next.

    `transient`: retried with backoff. `agent`: one fresh attempt, then the session blocks. `limit`: terminal (budget or
    time used up). `policy`: a person has to decide. `input`: what the ticket names cannot be used (data, target,
    criterion); retrying the same input is pointless, so the session blocks until a person edits the ticket.
    """

    TRANSIENT = "transient"
    AGENT = "agent"
    LIMIT = "limit"
    POLICY = "policy"
    INPUT = "input"


PhaseName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,40}$")]
"""A phase's name: lower case, digits and hyphens, so that it can be a subject token and a folder name."""

StreamName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
"""The name of an event stream (a session's or drive's id): one NATS subject token and one safe file name."""

Tenant = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Scope = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class Actor(Value):
    """Who caused a message, and how we know.

    `name` is what policies speak about. `channel` is where the identity was verified (`cli`, `bus`, `github` …) and
    `verified_as` what that channel verified (an operating-system user, a bus login, a numeric user id).
    """

    name: Annotated[str, Field(min_length=1, max_length=128)]
    channel: str
    verified_as: str


ArtifactName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""An artifact's name: one safe file name."""

SIGNATURE = ".dsse.json"
"""What the effect executor appends to an artifact's name for its signature; nobody else may use it."""


TAKEN_AWAY = "taken_away"
"""The code of the refusal to a claim by the holder the attempt was just taken away from: the claim may be made again,
by another replica at once."""


class ArtifactRef(Value):
    """A file a phase produced, addressed by the SHA-256 of its bytes. `size` is in bytes."""

    name: ArtifactName
    sha256: Sha256
    size: Annotated[int, Field(ge=0)]
    media_type: str = "application/octet-stream"
    sealed: bool = False
    """Sealed artifacts (hold-out labels) are staged only for skills of the harness and never committed to git."""
    paths: tuple[str, ...] = later(())
    """The repository's files that it was found to change, for a review of a change: approvers by path own these."""


class Registered(Value):
    """A version of a model in the registry, which `effect` made, and its alias.

    `before` is the version the alias pointed to when the effect came, `current` the one it points to now; "" is none.
    `version` is "" while it is not known whether the effect was carried out, and when it was not.
    """

    effect: str
    model: str
    version: str
    alias: str
    before: str = ""
    current: str = ""


class Posted(Value):
    """What an effect did at the ticket's origin, or what of that the next one needs to know.

    `claim` is the commit that the ticket's claim stands on, `taken_by` who else holds it ("" when we do). `pull` is the
    pull request's number, `comment` the status comment's id, `url` where people find it. `round` counts the pull
    requests that were taken back before. `note` is one line for people: what was found otherwise than expected.
    """

    claim: Annotated[str, Field(max_length=64)] = ""
    taken_by: Annotated[str, Field(max_length=300)] = ""
    pull: Annotated[int, Field(ge=0)] = 0
    comment: Annotated[int, Field(ge=0)] = 0
    url: Annotated[str, Field(max_length=500)] = ""
    round: Annotated[int, Field(ge=0)] = 0
    note: Annotated[str, Field(max_length=500)] = ""


class Snapshot(Value):
    """Rows of a named source as they were when somebody read them: a stored file, addressed by its digest.

    `source` and `item` are the names in `sources.yaml`. `size` is in bytes, `taken` when reading ended. `version` is
    what an object store calls the object it gave; "" where there is no such thing.
    """

    source: Annotated[str, Field(max_length=64)]
    item: Annotated[str, Field(max_length=64)]
    kind: Literal["sql", "s3"]
    format: Literal["parquet", "csv"]
    sha256: Sha256
    size: Annotated[int, Field(ge=0)]
    rows: Annotated[int, Field(ge=0)]
    taken: AwareDatetime
    version: Annotated[str, Field(max_length=200)] = ""

    @property
    def artifact(self) -> ArtifactRef:
        """The stored file. Sealed: it holds the labels of rows that become the hold-out."""
        media = "application/vnd.apache.parquet" if self.format == "parquet" else "text/csv"
        name = f"source-snapshot.{self.format}"
        return ArtifactRef(name=name, sha256=self.sha256, size=self.size, media_type=media, sealed=True)


class TickedItem(Value):
    """A checklist item an attempt fulfilled, and the evidence for it (one line, naming an artifact or a figure)."""

    item: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,60}$")]
    evidence: str


class Measurement(Value):
    """One measured number: `metrics.recall` is scope `metrics`, name `recall`."""

    scope: Scope
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    value: float


MOST = 10**15
"""More than any figure of usage can be; sums stop here, so that no report makes a sum infinite."""


class Usage(Value):
    """What an attempt used. Seconds of wall clock and of CPU, peak resident memory in bytes, tokens, US dollars."""

    wall_seconds: Annotated[float, Field(ge=0, le=MOST)] = 0.0
    cpu_seconds: Annotated[float, Field(ge=0, le=MOST)] = 0.0
    peak_rss_bytes: Annotated[int, Field(ge=0, le=MOST)] = 0
    tokens: Annotated[int, Field(ge=0, le=MOST)] = 0
    usd: Annotated[float, Field(ge=0, le=MOST)] = 0.0

    def plus(self, other: Usage) -> Usage:
        """The sum of both; peak memory is the larger of the two, since attempts do not overlap."""
        return Usage(
            wall_seconds=min(self.wall_seconds + other.wall_seconds, MOST),
            cpu_seconds=min(self.cpu_seconds + other.cpu_seconds, MOST),
            peak_rss_bytes=max(self.peak_rss_bytes, other.peak_rss_bytes),
            tokens=min(self.tokens + other.tokens, MOST),
            usd=min(self.usd + other.usd, MOST),
        )


class CriterionResult(Value):
    """One criterion, what it came to, and the measured values it read (`{"metrics.recall": 0.93}`)."""

    expression: str
    passed: bool
    measured: dict[str, float | str | bool] = {}
    error: str | None = None


class Approval(Value):
    """One person's yes to a gate."""

    by: Actor
    reason: str = ""


Reaction = Literal["eyes", "+1", "-1", "confused"]
"""How a comment is acknowledged: done, refused, not understood; `eyes` where there is only something to say."""

GateKind = Literal["automatic", "human"]
RepeatKind = Literal["iterate", "pivot"]
OriginKind = Literal["claim", "publish", "announce", "ready", "finish", "withdraw", "release"]
"""What the effect executor does at the forge a ticket came from (`Ticket.origin`): take the ticket, push and open the
pull request, write the status comment, end the draft, say that it is done; and back: close the pull request and delete
the branch, give the ticket back."""
ASIDE: frozenset[str] = frozenset({"claim", "announce", "ready", "finish", "release", "branch", "fetch"})
"""Those about the session as a whole, not about one phase's work: going back to an earlier phase withdraws none."""
EffectKind = Literal["commit", "sign", "restore", "register", "unregister", "branch", "fetch"] | OriginKind
"""What the effect executor does outside the record."""
