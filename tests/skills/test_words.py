"""What documents call metrics and models, and how many digits a figure gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.skills.evaluation.text import estimate, like, number
from agents.skills.words import METRICS, called, counted, metric_meaning, metric_name, model_name, why_this_model
from schemas.ticket import CLASSIFICATION_METRICS, REGRESSION_METRICS


@pytest.mark.parametrize(
    ("value", "lower", "upper", "shown"),
    [
        (1.0, 0.9627, 1.0, "1.000 [0.963, 1.000]"),
        (46.25, 38.996, 54.09, "46.2 [39.0, 54.1]"),
        (17.117, 6.701, 27.57, "17 [7, 28]"),
        (412_345.0, 401_000.0, 424_000.0, "412,000 [401,000, 424,000]"),
        (-0.01349, -0.09841, -4.6e-05, "-0.013 [-0.098, 0.000]"),
        (0.5, 0.5, 0.5, "0.5"),
        (1.0, float("nan"), 2.0, "1 [nan, 2]"),
    ],
)
def test_a_figure_has_as_many_digits_as_its_interval_bears_out(
    value: float, lower: float, upper: float, shown: str
) -> None:
    assert estimate(value, lower, upper) == shown


finite = st.floats(-1e9, 1e9, allow_nan=False)


@given(finite, finite, finite)
def test_rounding_moves_no_figure_by_more_than_a_tenth_of_the_interval(
    first: float, second: float, third: float
) -> None:
    lower, value, upper = sorted((first, second, third))
    if (upper - lower) / 2 == 0:  # also of two figures as close as floating point has them next to zero
        assert estimate(value, lower, upper) == number(value)
        return
    shown = [
        float(part.strip("[]").replace(",", "")) for part in estimate(value, lower, upper).replace(", ", " ").split()
    ]
    assert shown[1] <= shown[0] <= shown[2]
    allowed = max((upper - lower) / 10, 1e-3 * max(abs(lower), abs(upper)), 1e-8)
    assert all(abs(one - other) <= allowed for one, other in zip(shown, (value, lower, upper), strict=True))


def test_figures_side_by_side_have_the_same_digits() -> None:
    assert like(0.5, {"value": 1.0, "lower": 0.9627, "upper": 1.0}) == "0.500"


def test_large_figures_are_read_in_thousands() -> None:
    assert (number(4254.0), number(1234.56), number(999.96)) == ("4,254", "1,234.6", "1000")


@pytest.mark.parametrize("metric", [*CLASSIFICATION_METRICS, *REGRESSION_METRICS])
def test_every_metric_a_ticket_may_name_has_words(metric: str) -> None:
    assert metric in METRICS
    assert metric_name(metric)
    assert metric_meaning(metric)


def test_models_are_called_what_they_are() -> None:
    assert model_name("linear (default)", classification=True) == "logistic regression (default settings)"
    assert model_name("linear (tuned)", classification=False) == "ridge regression (tuned)"
    assert model_name("voting (linear + random_forest)") == "average of linear model and random forest"
    assert model_name("linear_discriminant") == "linear_discriminant", "a plugin's name stays as it is"


def test_the_choice_is_told_without_short_names() -> None:
    told = why_this_model(
        "random_forest (tuned)",
        "random_forest (tuned) chosen: random_forest (tuned) is clearly better than linear (default) (paired gain "
        "+0.0312 [+0.0105, +0.0519]); hist_gradient_boosting (default) is not clearly better than random_forest "
        "(tuned) (paired gain -0.0066 [-0.0205, +0.0073])",
        classification=True,
    )
    assert told == (
        "clearly better than logistic regression (default settings) in cross-validation; no more complex candidate is "
        "clearly better (gain over it on the same rows, with 95 % interval: gradient-boosted trees (default settings) "
        "-0.007 [-0.021, 0.007])"
    )
    other = "linear: kind and settings are those of the model in use; nothing was searched"
    assert why_this_model("linear", other, classification=True).startswith("logistic regression: kind and")


def test_counts_are_in_the_right_number() -> None:
    assert (counted(1, "row"), counted(0, "row"), counted(1200, "row")) == ("1 row", "0 rows", "1,200 rows")
    assert counted(2, "criterion", "criteria") == "2 criteria"
    assert called([[71, 1], [2, 40]], ("no", "yes")).startswith(
        "of 42 rows that are `yes`, 40 are called so and 2 missed; of 72 other rows, 1 is called `yes` wrongly"
    )
