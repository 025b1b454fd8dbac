"""What goes wrong, on purpose: limits, errors, dropped connections, slowness."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["primary", "secondary", "error", "drop_before", "drop_after", "slow"]


@dataclass(slots=True)
class Fault:
    """The next `times` requests that fit go wrong.

    `primary`: the hourly limit is used up until `seconds` from now (`x-ratelimit-reset`). `secondary`: too many at
    once, `retry-after: seconds`. `error`: status 5xx, nothing done. `drop_before` and `drop_after`: the connection is
    cut without an answer, before or after the work was done. `slow`: answered after `seconds`.
    """

    kind: Kind
    verb: str = ".*"
    path: str = ".*"
    times: int = 1
    seconds: float = 1.0
    status: int = 0
    happened: int = field(default=0, init=False)

    def fits(self, verb: str, path: str) -> bool:
        """Whether it is this request's turn to go wrong."""
        return (
            self.happened < self.times
            and re.fullmatch(self.verb, verb, re.IGNORECASE) is not None
            and re.search(self.path, path) is not None
        )
