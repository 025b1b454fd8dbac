"""What was promised of a model, and how it stands on newer rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from agents.skills.devsecops.bundle import _expected
from agents.skills.evaluation.scores import ValueOutcome
from agents.skills.shapes import TARGET_COLUMN
from agents.skills.training import modelfile, search
from agents.skills.training.standing import Standing, standing

RANDOM = np.random.default_rng(5)


def stands(
    monkeypatch: pytest.MonkeyPatch, truth: Any, predicted: Any, promised: dict[str, Any] | None
) -> Standing | None:
    """A model that predicts `predicted`, of which `promised` was said."""
    package = SimpleNamespace(
        profile={"promised": promised}, files={"model.skops": b""}, features=None, scope=SimpleNamespace(classes=())
    )
    monkeypatch.setattr(modelfile, "loads_model", lambda name, raw: None)
    monkeypatch.setattr(search, "outcome_of", lambda *_: ValueOutcome(truth, predicted))
    monkeypatch.setattr("agents.skills.feature.transform.prepare_frame", lambda rows, features: rows)
    return standing(cast("Any", package), pd.DataFrame({TARGET_COLUMN: truth}), np.arange(len(truth)), 1)


def test_labels_that_follow_from_nothing_show_in_r2_before_they_show_in_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signal = RANDOM.normal(size=180)
    truth = signal + RANDOM.normal(size=180)
    noisy = truth.copy()
    part = np.flatnonzero(RANDOM.random(180) < 0.4)
    noisy[part] = noisy[RANDOM.permutation(part)]
    promised = {"metric": "mae", "higher_is_better": False, "value": 0.8, "se": 0.05}
    explained = {"explained": {"value": 0.5, "se": 0.04}}
    clean = stands(monkeypatch, truth, signal, promised | explained)
    assert clean is not None
    assert not clean.fallen
    fallen = stands(monkeypatch, noisy, signal, promised | explained)
    assert fallen is not None
    assert fallen.fallen
    assert fallen.metric == "r2"
    alone = stands(monkeypatch, noisy, signal, promised)
    assert alone is not None
    assert alone.metric == "mae"
    assert alone.errors < fallen.errors
    assert stands(monkeypatch, noisy, signal, None) is None


def test_what_is_expected_weighs_hold_out_and_folds_unless_they_contradict() -> None:
    held = {"value": 0.5, "se": 0.1}
    assert _expected(held, None) == pytest.approx(held)
    assert _expected(held, (0.6, 0.1)) == pytest.approx({"value": 0.55, "se": 0.1 / 2**0.5})
    assert _expected(held, (0.9, 0.1)) == pytest.approx(held), "more than 2.5 standard errors apart"
