"""Which of two models that share the requests evenly is wrong more often: a test that may stop at any moment.

Each request goes to one of the two with chance one half. Twice the outcome, signed by who answered, has the
difference of the two shares of wrong answers as its mean; betting a small part of one's capital on it each time makes a
test martingale for "the difference is not below zero" and one for "not above" (Waudby-Smith and Ramdas 2024, JRSS B
86:1-27).
"""

from __future__ import annotations

from math import exp, log

_BETS = tuple(0.02 * 1.35**index for index in range(11))
"""Shares of the capital, 0.02 to 0.40; below one half, since an outcome is at most 2."""


class Duel:
    """Wrong answers of champion and challenger, and the `winner` as soon as there is one."""

    def __init__(self, alpha: float) -> None:
        """`alpha` is the chance of naming a winner that is no better, for each of the two."""
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha lies in (0, 1), not {alpha}")
        self.alpha = alpha
        self.asked = {"champion": 0, "challenger": 0}
        self.wrong = {"champion": 0, "challenger": 0}
        self.winner = ""
        """`champion`, `challenger`, or nothing while neither is surely better. The first stays."""
        self._logs = {"champion": [0.0] * len(_BETS), "challenger": [0.0] * len(_BETS)}

    def see(self, challenger: bool, wrong: bool) -> None:
        """One more answer, of a request that went to either with chance one half."""
        arm = "challenger" if challenger else "champion"
        self.asked[arm] += 1
        self.wrong[arm] += wrong
        if not wrong:
            return
        for better, logs in self._logs.items():
            gain = -2.0 if better == arm else 2.0
            for index, bet in enumerate(_BETS):
                logs[index] += log(1.0 + bet * gain)
            if not self.winner and self.evidence(better) >= 1.0 / self.alpha:
                self.winner = better

    def evidence(self, better: str) -> float:
        """That `better` is wrong less often than the other: 1 at the start, at least 1/alpha is enough."""
        return sum(exp(min(each, 700.0)) for each in self._logs[better]) / len(_BETS)

    @property
    def words(self) -> str:
        """Both shares in a sentence."""
        parts = [f"{arm} {self.wrong[arm]} of {self.asked[arm]} wrong" for arm in ("challenger", "champion")]
        return ", ".join(parts)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "asked": dict(self.asked), "wrong": dict(self.wrong), "winner": self.winner or "none",
            "evidence": {arm: round(min(self.evidence(arm), 1e9), 4) for arm in self._logs},
            "enough": round(1.0 / self.alpha, 1),
        }  # fmt: skip
