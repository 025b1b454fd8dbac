"""A test that may be looked at after every request without crying wolf more often for it.

For a stream of good and bad outcomes and the hypothesis "at most `limit` of them are bad", the average over worse
shares q of the likelihood ratio q against `limit` is a test martingale: by Ville's inequality it ever exceeds 1/alpha
with a chance of at most alpha while the hypothesis holds (Ramdas et al. 2023, Statistical Science 38:576-601).
"""

from __future__ import annotations

from math import exp, log

_GRID = 40


class Watch:
    """One signal: `bad` of `seen` outcomes, the `evidence` against "at most `limit`", and whether it is `breached`."""

    def __init__(self, name: str, limit: float, alpha: float) -> None:
        """`limit` is the share of bad outcomes that is borne, in (0, 1); `alpha` the chance of a false breach."""
        if not 0.0 < limit < 1.0 or not 0.0 < alpha < 1.0:
            raise ValueError(f"limit and alpha lie in (0, 1), not {limit} and {alpha}")
        self.name, self.limit, self.alpha = name, limit, alpha
        self.seen = self.bad = 0
        shares = [limit + (1.0 - limit) * (index + 0.5) / _GRID for index in range(_GRID)]
        self._steps = [(log(q / limit), log((1.0 - q) / (1.0 - limit))) for q in shares]

    def see(self, bad: bool) -> None:
        """One more outcome."""
        self.seen += 1
        self.bad += bad

    @property
    def evidence(self) -> float:
        """The test martingale's value; 1 at the start, large when more are bad than may be."""
        good = self.seen - self.bad
        terms = [self.bad * up + good * down for up, down in self._steps]
        largest = max(terms)
        if largest > 700.0:
            return exp(700.0)
        return sum(exp(term) for term in terms) / len(terms)

    @property
    def breached(self) -> bool:
        """Whether the hypothesis is given up."""
        return self.evidence >= 1.0 / self.alpha

    def as_dict(self) -> dict[str, float | int | str | bool]:
        """For JSON."""
        return {
            "signal": self.name, "limit": self.limit, "seen": self.seen, "bad": self.bad,
            "evidence": round(min(self.evidence, 1e9), 4), "breach_at": round(1.0 / self.alpha, 1),
            "breached": self.breached,
        }  # fmt: skip
