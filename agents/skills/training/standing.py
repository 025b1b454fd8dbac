"""How the model in use does on newer rows, beside what was promised of it when it was delivered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import hypot
from typing import TYPE_CHECKING, Any

from agents.skills.evaluation.bootstrap import resample
from agents.skills.evaluation.scores import Outcome, score, statistics
from agents.skills.shapes import TARGET_COLUMN

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from agents.skills.training.inuse import Package

FALL = 2.75
"""Standard errors below its promise from which the model in use has fallen."""

RESAMPLES = 200


@dataclass(frozen=True)
class Standing:
    """The metric promised and found, each with its standard error, and how many of them lie between (worse: above 0).

    `fallen` says that it is more than FALL: the newer labels do not follow from the newer columns as they did.
    """

    metric: str
    promised: float
    promised_se: float
    found: float
    found_se: float
    errors: float
    fallen: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """For people."""
        return (
            f"the model in use reaches {self.metric} {self.found:.4g} on the newer rows; {self.promised:.4g} was "
            f"promised, {self.errors:.1f} standard errors more"
        )


def standing(package: Package, train: pd.DataFrame, groups: NDArray[Any], seed: int) -> Standing | None:
    """The model in use on the newer training rows (features and `__target__`), which belong to `groups` (rows,); None
    when the package, of a time before promises were kept in it, does not say what to expect, or the metric is undefined
    on these rows. Where more than one metric was promised, the one that has fallen most."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    from agents.skills.feature.transform import prepare_frame
    from agents.skills.training.modelfile import loads_model
    from agents.skills.training.search import outcome_of

    promised = package.profile.get("promised")
    if not promised:
        return None
    model = loads_model("model.skops of the model in use", package.files["model.skops"])
    target = train[TARGET_COLUMN]
    truth = target.astype(str).to_numpy() if package.scope.classes else target.to_numpy(dtype=np.float64)
    with threadpool_limits(limits=1):
        outcome = outcome_of(model, prepare_frame(train, package.features), truth, package.scope.classes)
    promises = [(str(promised["metric"]), bool(promised["higher_is_better"]), promised)]
    if explained := promised.get("explained"):
        promises.append(("r2", True, explained))
    found = [_beside(outcome, metric, promise, groups, seed, higher=higher) for metric, higher, promise in promises]
    return max((each for each in found if each is not None), key=lambda each: each.errors, default=None)


def _beside(
    outcome: Outcome, metric: str, promise: Mapping[str, float], groups: NDArray[Any], seed: int, *, higher: bool
) -> Standing | None:
    """One metric on the newer rows beside its promise; whole groups are resampled."""
    import numpy as np

    found = score(outcome, metric)
    parts = {metric: statistics(outcome)[metric]}
    error = float(np.nanstd(resample(parts, len(outcome.truth), RESAMPLES, seed, groups=groups)[metric]))
    if not (np.isfinite(found) and np.isfinite(error)):
        return None
    worse = (promise["value"] - found) * (1 if higher else -1)
    errors = worse / max(hypot(error, promise["se"]), 1e-9)
    return Standing(metric, float(promise["value"]), float(promise["se"]), found, error, errors, errors > FALL)
