"""Criteria are judged when a pipeline loads: unknown figures, wrong types, and what comes to no yes or no."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conductor.criteria import evaluate
from conductor.criterion_types import LONGEST, Figures, problems
from schemas.figures import ALWAYS, CHOICES, MEASURED

FIGURES = Figures({"metrics.recall", "metrics.recall_lower", "baseline.recall", "data.rows", "training.cv_*"})
FACTS = {
    "metrics": {"recall": 0.9, "recall_lower": 0.8},
    "baseline": {"recall": 0.5},
    "data": {"rows": 40.0},
    "training": {"cv_mae": 1.0},
    "ticket": {"id": 3.0, "risk": "low", "task": "", "metric": "mae", "requester": "ann"},
    "costs": {"usd": 0.1, "wall_seconds": 3.0, "cpu_seconds": 2.0, "tokens": 0.0},
}


@pytest.mark.parametrize(
    "expression",
    [
        "metrics.recall >= 0.95",
        "metrics.recall >= 1",
        "metrics.recall - baseline.recall > 2.0 * metrics.recall_lower",
        'ticket.risk != "low" || data.rows >= 1.0',
        'ticket.risk in ["low", "medium"]',
        "!(costs.usd > 5.0) && -costs.usd <= 0.0",
        "data.rows > 10.0 ? metrics.recall > 0.5 : metrics.recall > 0.9",
        "training.cv_mae < 2.0",
        "has(metrics.recall)",
        "size(ticket.requester) > 0 && ticket.requester.startsWith('a')",
        "int(data.rows) % 2 == 0",
        "double(1) < data.rows // enough",
        "true",
        r"'it\'s' != ticket.requester && r'\' != ticket.requester",
        "ticket.task == '' || ticket.task == \"regression\"",
    ],
)
def test_what_is_right_can_be_evaluated(expression: str) -> None:
    assert problems(expression, FIGURES) == ()
    assert evaluate(expression, FACTS).error is None


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        (
            "metrics.recal >= 0.9",
            "reads metrics.recal, which nothing measures up to this phase; did you mean 'metrics.",
        ),
        ("drift.score < 0.1", "reads drift.score, which nothing measures up to this phase; there are figures of base"),
        ("true || metrics.recal >= 0.9", "reads metrics.recal"),
        ("metrics.cv_mae > 1.0", "reads metrics.cv_mae"),
        ("metrics > 1.0", "reads 'metrics', which is no figure: name one of its figures, such as metrics.NAME"),
        ("recall > 1.0", "reads 'recall', which is no figure"),
        ('metrics["recall"] > 0.5', "reads a figure as metrics[…]: write metrics.NAME"),
        ("metrics.recall.more > 1.0", "asks for `.more` of a double"),
        ("metrics.recall", "comes to a double, not to true or false"),
        ("ticket.risk", "comes to a string, not to true or false"),
        ("metrics.recall + 1 > 1.0", "calculates double + int: figures are doubles: write 1.0, not 1"),
        ("data.rows % 2.0 == 0.0", "calculates double % double: use numbers of one type"),
        ("ticket.risk - 'l' == 'ow'", "calculates string - string"),
        ("metrics.recall > 'high'", "compares a double with a string (>)"),
        ("ticket.risk == 1.0", "compares a string with a double (==)"),
        ("true || ticket.risk == 1.0", "compares a string with a double (==)"),
        ('ticket.risk == "hgh"', "compares ticket.risk with 'hgh', which it never is: it is one of 'high', 'low', 'm"),
        ("metrics.recall && true", "joins a double with `&&`"),
        ("!data.rows", "joins a double with `!`"),
        ("data.rows ? true : false", "joins a double with `?`"),
        ("-ticket.risk == 'x'", "takes the negative of a string"),
        ("data.rows in [1.0] && 'a' in data.rows", "looks for something `in` a double"),
        ("max(data.rows, 1.0) > 0.5", "calls max(), which criteria do not have; known are double, has, int"),
        ("math.abs(data.rows) > 0.5", "calls math.abs(), which criteria do not have"),
        ("ticket.risk.lowerAscii() == 'low'", "calls `.lowerAscii()`, which criteria do not have"),
        ("data.rows.startsWith('1')", "calls `.startsWith()` wrongly"),
        ("size(data.rows) > 1", "calls size() with a double"),
        ("size(ticket.risk, 1) > 1", "gives size() 2 values"),
        ("{'a': 1} == {'a': 1}", "in a way that criteria do not take"),
        ("data.rows >", "is not valid CEL"),
        ("[1, 2].all(x, x > 0)", "loops over a list"),
        (" || ".join(["data.rows > 1.0"] * 200), f"is longer than {LONGEST} characters"),
        ("(" * 90 + "true" + ")" * 90, "criterion"),
    ],
)
def test_what_is_wrong_is_said(expression: str, said: str) -> None:
    found = problems(expression, FIGURES)
    if said == "criterion":  # deep, but as CEL takes it: no traceback is what counts
        return
    assert any(said in problem for problem in found), found
    assert all("\n" not in problem for problem in found)


def test_all_that_is_wrong_is_said() -> None:
    found = problems("metrics.recal > 'x' && ticket.risk == 1.0 && data.rows + 1 > 2.0 && b.c > 1.0", FIGURES)
    assert len(found) == 4


LEAVES = ["metrics.recall", "data.rows", "ticket.risk", "ticket.id", "1.5", "2", "3u", "'low'", "true", "null", "[1.0]"]
SIGNS = ["==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "&&", "||", "in"]


@pytest.mark.parametrize("sign", SIGNS)
def test_it_never_accepts_what_cannot_be_evaluated(sign: str) -> None:
    """Every pair of kinds on both sides of every sign: what is accepted comes to yes or no, whatever its kinds."""
    for left, right in product(LEAVES, LEAVES):
        for expression in (f"{left} {sign} {right}", f"({left} {sign} {right}) == ({left} {sign} {right})"):
            if not problems(expression, FIGURES):
                assert evaluate(expression, FACTS).error is None, expression


@settings(max_examples=100, deadline=None)
@given(st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(SIGNS), inner)
    | st.builds("!{}".format, inner) | st.builds("({} ? {} : {})".format, inner, inner, inner),
    max_leaves=8,
))  # fmt: skip
def test_nested_expressions_that_are_accepted_can_be_evaluated(expression: str) -> None:
    if not problems(expression, FIGURES):
        error = evaluate(expression, FACTS).error
        assert error is None or "overflow" in error or "zero" in error, (expression, error)


@settings(deadline=None)
@given(st.text(alphabet="ab.+-*/<>=!&|?:()[]{}\"'\\ \n0123456789rux,", max_size=30))
def test_no_text_whatever_raises(expression: str) -> None:
    assert all(problem for problem in problems(expression, FIGURES))


def test_the_figures_have_sound_names() -> None:
    assert set(CHOICES) <= set(ALWAYS)
    for figures in MEASURED.values():
        assert len(figures) == len(set(figures))
        assert all(name.count(".") == 1 for name in figures)
