"""When a model goes round in circles. Pure: what it did is given as digests, the answer is a sentence or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

SAME = 3
"""The same call with the same observation, so often in a row."""
ERRORS = 5
"""Calls in a row that failed or were refused."""
TALK = 3
"""Replies in a row that called no tool."""
TURNS = 3
"""Rounds of two things that take turns (A B A B A B)."""


@dataclass(slots=True)
class Circles:
    """What was seen so far of one conversation."""

    _steps: list[tuple[str, str]] = field(default_factory=list)
    _errors: int = 0
    _talk: int = 0

    def acted(self, call: str, observation: str, *, error: bool) -> str:
        """A tool was called (`call`: name and arguments) and gave `observation`. Why this is a circle, or nothing."""
        self._talk = 0
        self._errors = self._errors + 1 if error else 0
        self._steps = [*self._steps, (call, observation)][-2 * TURNS :]
        last = self._steps[-SAME:]
        if len(last) == SAME and len(set(last)) == 1:
            return f"the same call gave the same observation {SAME} times in a row"
        if self._errors >= ERRORS:
            return f"{ERRORS} calls in a row failed"
        if len(self._steps) == 2 * TURNS and self._steps[0] != self._steps[1]:
            one, other = self._steps[0], self._steps[1]
            if self._steps == [one, other] * TURNS:
                return f"two calls took turns {TURNS} times, each with the same observation"
        return ""

    def talked(self) -> str:
        """A reply called no tool. Why this is a circle, or nothing."""
        self._talk += 1
        return f"{TALK} replies in a row called no tool" if self._talk >= TALK else ""
