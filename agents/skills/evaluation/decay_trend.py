"""A metric over windows of time: its interval in each, its trend, and when it will reach a limit.

Whole groups are drawn with replacement from all rows, so that what one group says in several windows is said once; a
trend and an end of life are computed from the same draws as the intervals. Where the windows scatter more than their
rows explain (a season, a campaign), the trend's error is widened by that (Birge's ratio; R. T. Birge, Physical Review
40, 1932), and the 97.5 % point is Student's with two degrees of freedom less than there are windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import hypot
from typing import TYPE_CHECKING, Any

from agents.skills.evaluation.bootstrap import Interval, percentile_interval
from agents.skills.evaluation.scores import ClassOutcome, Outcome, ValueOutcome, statistics
from agents.skills.training.standing import FALL
from schemas.ticket import LOWER_IS_BETTER

if TYPE_CHECKING:
    from agents.skills.evaluation.scores import Floats, Integers

FEWEST_WINDOWS = 3
FEWEST_ROWS = 40
"""Rows a window has at least."""
FARTHEST = 3.0
"""Times are told only up to so many times the span of the rows behind their end: further on nothing supports them."""
_CELLS = 4_000_000


@dataclass(frozen=True)
class Window:
    """One window: its rows' places, from and to which time (in units of the time column, dates in days since 1970), its
    middle, the metric with its interval, and the gain over one constant answer on the same rows."""

    rows: Integers
    start: float
    end: float
    middle: float
    value: Interval
    gain: Interval


@dataclass(frozen=True)
class Crossing:
    """When the trend reaches a value: the time with its 95 % interval, infinite where the rows do not show one."""

    value: float
    at: float
    lower: float
    upper: float

    @property
    def shown(self) -> bool:
        """Whether it is near enough to be told."""
        return self.at != float("inf")


@dataclass(frozen=True)
class Decay:
    """Everything measured. `slope` is the metric's change for one unit of time, `ratio` Birge's (1: the rows explain
    the scatter). `decays`: the 95 % interval of the slope lies on the worse side altogether."""

    metric: str
    windows: tuple[Window, ...]
    slope: Interval
    ratio: float
    whole: Interval
    promised: tuple[float, float] | None
    errors: float | None
    """Standard errors between the promise and all later rows together; above 0: worse than promised."""
    limit: Crossing
    half: Crossing | None
    start: float
    fitted: tuple[float, float] = field(default=(0.0, 0.0))
    """The trend at the middle of the first and of the last window."""

    @property
    def decays(self) -> bool:
        """See the class."""
        return self.slope.lower > 0.0 if self.metric in LOWER_IS_BETTER else self.slope.upper < 0.0

    @property
    def fallen(self) -> bool:
        """Whether all later rows together are worse than promised, by more than chance (2.75 standard errors)."""
        return self.errors is not None and self.errors > FALL


def windows_of(times: Floats, most: int) -> list[Integers]:
    """At most `most` windows of about as many rows, in the order of time; rows of one time are in one window.

    Fewer where there are not FEWEST_ROWS for each; an empty list where there are not enough for FEWEST_WINDOWS.
    """
    import numpy as np

    order = np.argsort(times, kind="stable")
    number = min(most, len(times) // FEWEST_ROWS)
    if number < FEWEST_WINDOWS:
        return []
    ordered = times[order]
    changes = np.flatnonzero(np.diff(ordered)) + 1
    if not len(changes):
        return []
    wanted = np.arange(1, number) * len(times) / number
    cuts = sorted({int(changes[np.abs(changes - cut).argmin()]) for cut in wanted})
    parts = [part for part in np.split(order, cuts) if len(part)]
    merged: list[Any] = []
    for part in parts:
        if merged and len(merged[-1]) < FEWEST_ROWS:
            merged[-1] = np.concatenate([merged[-1], part])
        else:
            merged.append(part)
    if len(merged) > 1 and len(merged[-1]) < FEWEST_ROWS:
        last = merged.pop()
        merged[-1] = np.concatenate([merged[-1], last])
    return merged if len(merged) >= FEWEST_WINDOWS else []


def measure(
    outcome: Outcome,
    floor: Outcome,
    metric: str,
    times: Floats,
    groups: Integers,
    parts: Sequence[Integers],
    *,
    promised: tuple[float, float] | None,
    limit: float,
    chance: float,
    seed: int,
    resamples: int = 1000,
) -> Decay | None:
    """The metric of `outcome` over the windows `parts`; `floor` is a constant answer on the same rows.

    `promised` is a value and its standard error, `limit` the value the metric must keep, `chance` what a constant
    answer reaches. None when the metric is undefined in a window (no positive row).
    """
    import numpy as np
    from scipy.stats import t as student

    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    takes = [(outcome.take(part), floor.take(part)) for part in parts]
    stats = [(statistics(model)[metric], statistics(base)[metric]) for model, base in takes]
    values = np.array([float(model(np.ones((1, len(part))))[0]) for (model, _), part in zip(stats, parts, strict=True)])
    bases = np.array([float(base(np.ones((1, len(part))))[0]) for (_, base), part in zip(stats, parts, strict=True)])
    if not np.isfinite(values).all():
        return None
    everything = statistics(outcome)[metric]
    drawn, base_drawn, whole_drawn = [], [], []
    for weights in _draws(groups, resamples, seed):
        drawn.append(np.stack([model(weights[:, part]) for (model, _), part in zip(stats, parts, strict=True)], axis=1))
        base_drawn.append(
            np.stack([base(weights[:, part]) for (_, base), part in zip(stats, parts, strict=True)], axis=1)
        )
        whole_drawn.append(everything(weights))
    table, floors, whole_values = np.concatenate(drawn), np.concatenate(base_drawn), np.concatenate(whole_drawn)
    middles = np.array([float(times[part].mean()) for part in parts])
    windows = []
    for place, part in enumerate(parts):
        gains = sign * (table[:, place] - floors[:, place])
        windows.append(
            Window(
                part, float(times[part].min()), float(times[part].max()), float(middles[place]),
                percentile_interval(float(values[place]), table[:, place]),
                percentile_interval(float(sign * (values[place] - bases[place])), gains),
            )
        )  # fmt: skip
    errors = np.array([max(each.value.se, 1e-9) for each in windows])
    defined = table[np.isfinite(table).all(axis=1)]
    origin = float(middles[0])
    level, slope = _line(middles - origin, values[None, :], errors)
    levels, slopes = _line(middles - origin, defined, errors)
    scatter = float((((values - level[0] - slope[0] * (middles - origin)) / errors) ** 2).sum())
    ratio = max(1.0, (scatter / (len(parts) - 2)) ** 0.5)
    reach = float(student.ppf(0.975, len(parts) - 2))
    error = float(slopes.std(ddof=1)) * ratio
    trend = Interval(float(slope[0]), float(slope[0]) - reach * error, float(slope[0]) + reach * error, error)
    # Draws as wide as the interval just made: everything that follows from the trend has its uncertainty.
    wide = ratio * reach / 1.96
    far = (level[0] + wide * (levels - level[0]), slope[0] + wide * (slopes - slope[0]))
    found = float(everything(np.ones((1, len(times))))[0])
    whole = percentile_interval(found, whole_values)
    begin = promised[0] if promised else float(level[0])
    told = Decay(
        metric, tuple(windows), trend, ratio, whole, promised,
        None if promised is None else sign * (promised[0] - found) / max(hypot(whole.se, promised[1]), 1e-9),
        Crossing(limit, float("inf"), float("inf"), float("inf")), None, origin,
        (float(level[0]), float(level[0] + slope[0] * (middles[-1] - origin))),
    )  # fmt: skip
    last, span = float(times.max()), float(times.max() - times.min())

    def crossing(value: float) -> Crossing:
        if not told.decays:
            return Crossing(value, float("inf"), float("inf"), float("inf"))
        at = origin + _reaches(level, slope, value, sign)
        ends = np.quantile(origin + _reaches(far[0], far[1], value, sign), [0.025, 0.975], method="nearest")
        low, high = (float(end) for end in ends)
        farthest = last + FARTHEST * span
        return Crossing(value, *(end if end <= farthest else float("inf") for end in (float(at[0]), low, high)))

    half = chance + (begin - chance) / 2
    return Decay(
        **{**vars(told), "limit": crossing(limit), "half": crossing(half) if sign * (begin - chance) > 0 else None}
    )


def _reaches(level: Floats, slope: Floats, value: float, sign: float) -> Floats:
    """Time from the origin until the line is at `value`; infinite where it does not become worse."""
    import numpy as np

    worse = sign * slope < 0
    return np.where(worse, (value - level) / np.where(worse, slope, 1.0), np.inf)


def _line(times: Floats, values: Floats, errors: Floats) -> tuple[Floats, Floats]:
    """Level at time 0 and slope of the weighted least-squares line through each row of `values` (draws, windows)."""
    import numpy as np

    weights = 1 / errors**2
    mean_time = float((weights * times).sum() / weights.sum())
    spread = float((weights * (times - mean_time) ** 2).sum())
    means = (values * weights).sum(axis=1) / weights.sum()
    slopes = (values * weights * (times - mean_time)).sum(axis=1) / max(spread, 1e-300)
    return np.asarray(means - slopes * mean_time), np.asarray(slopes)


def _draws(groups: Integers, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each row is drawn, shape (some resamples, rows): whole groups with replacement."""
    import numpy as np

    _, codes = np.unique(groups, return_inverse=True)
    number = int(codes.max()) + 1
    generator = np.random.default_rng(seed)
    chunk = max(1, min(resamples, _CELLS // max(1, len(codes))))
    for done in range(0, resamples, chunk):
        drawn = generator.multinomial(number, np.full(number, 1 / number), size=min(chunk, resamples - done))
        yield drawn[:, codes].astype(np.float64)


def constant(outcome: Outcome, target: Any, classes: Sequence[str]) -> Outcome:
    """What one constant answer would have said on the same rows: the training rows' class shares, or their median."""
    import numpy as np

    rows = len(outcome.truth)
    if isinstance(outcome, ClassOutcome):
        shares = np.array([float(target["classes"].get(label, 0.0)) for label in classes])
        return ClassOutcome(outcome.truth, np.tile(shares / max(shares.sum(), 1e-12), (rows, 1)))
    return ValueOutcome(outcome.truth, np.full(rows, float(target["median"])))
