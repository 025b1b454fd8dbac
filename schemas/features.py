"""What a record knows of inputs over sessions: the shape in which `features.json` is handed to the Feature agent."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from schemas.history import Ending
from schemas.values import Sha256, Value

Finite = Annotated[float, Field(allow_inf_nan=False)]


class FeatureUse(Value):
    """One input in one session, with what was measured of it there; None or empty where nothing was."""

    session: str
    ticket: int
    ending: Ending
    map_sha256: Sha256
    """Digest of the session's `feature-map.json`: where the use stands in the record."""
    source: str
    """The data source's URI, as the session's `data-source.json` has it."""
    target: str
    metric: str
    definition: Sha256
    """Signature of the line of the feature map: equal definitions have equal ones in every session."""
    name: str
    kind: Literal["numeric", "categorical", "boolean", "datetime"]
    impute: Literal["median", "most_frequent", "none"]
    encode: Literal["scale", "one_hot", "ordinal", "parts", "none"]
    loss: Finite | None = None
    """What the metric loses when the input's values are shuffled, in the metric's unit; `se` its standard error."""
    se: Finite | None = None
    clear: bool | None = None
    most: Finite | None = None
    """The largest loss of any input of that session: what `loss` is held against."""
    row_us: Finite | None = None
    """Microseconds to compute it for a row."""
    row_bytes: int | None = None
    """Bytes of a row that reach the model."""
    tested: bool = False
    """Whether the leakage tests of that session looked at it."""
    suspects: tuple[str, ...] = ()
    """What they found: test, value and limit in words."""
    skewed: Finite | None = None
    """Share of rows, in [0, 1], whose value the delivered package prepared otherwise than training did."""


class FeatureRegistry(Value):
    """`features.json`: the inputs of a record's newest sessions, oldest session first, and when they were read.

    `left_out` has a sentence for each session whose artifacts cannot be read.
    """

    made: datetime
    uses: tuple[FeatureUse, ...]
    left_out: tuple[str, ...] = ()
