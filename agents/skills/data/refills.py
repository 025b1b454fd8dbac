"""`synthetic:refills`: generated pharmacy refill histories whose best possible score is known.

No real refill data may be shipped, so this set is made up, and says so everywhere. Its use: since each row's true
probability of being late is known here, so is the score that no honest model can exceed except by luck
(`ORACLE_AUC`). A model that scores clearly above it has seen the labels.

One row is one patient's next refill; rows are independent. The log-odds of being more than 7 days late are the sum in
`_log_odds`; labels are drawn from them. A missing distance or copay adds nothing to the log-odds, so that the oracle
knows exactly what a model may know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

TARGET = "late_by_more_than_7_days"
ROWS = 4000
SEED = 33
ORACLE_AUC = 0.778
"""Expected ROC AUC of the true probabilities on the default set, to three decimals (a test recomputes it)."""

DESCRIPTION = (
    f"SYNTHETIC pharmacy refill histories, generated with seed {SEED}: one row a patient, rows independent. "
    f"Target `{TARGET}`. The oracle (true probabilities) reaches an expected ROC AUC of {ORACLE_AUC}; "
    "no honest model can do better except by luck."
)

SEASONS = ("winter", "spring", "summer", "autumn")
REMINDERS = ("none", "text", "call", "app")


def generate(rows: int = ROWS, seed: int = SEED) -> tuple[pd.DataFrame, Any]:
    """The set as a frame (rows, 10 columns with the 0/1 target last), and each row's true probability (rows,)."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age_years": np.clip(random.normal(58, 16, rows).round(), 18, 95).astype("int64"),
            "days_supply": random.choice([30, 60, 90], rows, p=[0.62, 0.13, 0.25]),
            "prior_late_count": np.minimum(random.poisson(random.gamma(1.2, 1.0, rows)), 12),
            "copay_usd": np.where(random.random(rows) < 0.02, np.nan, random.gamma(2.0, 9.0, rows).round(2)),
            "distance_km": np.where(random.random(rows) < 0.04, np.nan, random.lognormal(1.3, 0.9, rows).round(1)),
            "chronic": random.random(rows) < 0.6,
            "refill_number": 1 + random.poisson(4, rows),
            "season": random.choice(SEASONS, rows),
            "reminder": random.choice(REMINDERS, rows, p=[0.45, 0.3, 0.1, 0.15]),
        }
    )
    truth = 1.0 / (1.0 + np.exp(-_log_odds(frame)))
    frame[TARGET] = (random.random(rows) < truth).astype("int64")
    return frame, truth


def expected_auc(truth: Any) -> float:
    """The ROC AUC that the true probabilities (rows,) reach on average over all labels they could have produced.

    The chance that a random late row has a higher probability than a random punctual one, ties counting one half:
    sum over pairs of p_i (1 - p_j), for p_i > p_j, by the sum over all pairs. Probabilities must be distinct.
    """
    import numpy as np

    ranked = np.sort(np.asarray(truth, dtype=np.float64))
    punctual = 1.0 - ranked
    below = np.cumsum(punctual) - punctual / 2.0
    return float((ranked * below).sum() / (ranked.sum() * punctual.sum()))


def _log_odds(frame: pd.DataFrame) -> Any:
    """The published model: log-odds of a refill more than 7 days late, (rows,)."""
    import numpy as np

    copay = frame["copay_usd"].fillna(18.0)
    distance = frame["distance_km"].fillna(5.0).clip(upper=30.0)
    odds = (
        -1.34
        + 1.05 * (np.log1p(frame["prior_late_count"]) - 0.6)
        - 0.021 * (frame["age_years"] - 58)
        + 0.027 * (copay - 18.0)
        + 0.060 * (distance - 5.0)
        - 0.10 * (frame["refill_number"] - 5)
        - 0.65 * (frame["chronic"].astype("float64") - 0.6)
        + frame["days_supply"].map({30: 0.40, 60: -0.25, 90: -0.85})
        + frame["season"].map({"winter": 0.15, "spring": -0.20, "summer": 0.45, "autumn": -0.40})
        + frame["reminder"].map({"none": 0.45, "text": -0.20, "call": -0.35, "app": -0.50})
        + 0.55 * ((frame["age_years"] < 35) & (distance > 8.0))
    )
    return odds.to_numpy(dtype=np.float64)
