"""A criterion passes when it is true and in no other case."""

from __future__ import annotations

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor.criteria import CriterionError, check_syntax, describe, evaluate, names
from schemas.values import CriterionResult

FACTS = {
    "metrics": {"recall": 0.93, "rows": 40.0},
    "ticket": {"risk": "low", "requester": "a.b"},
    "risk": {"veto": 0.0},
}


@pytest.mark.parametrize(
    ("expression", "passes"),
    [
        ("metrics.recall >= 0.9", True),
        ("metrics.recall >= 0.95", False),
        ('ticket.risk == "low" && metrics.rows > 30.0', True),
        ('ticket.risk == "high" || risk.veto == 0.0', True),
        ("metrics . recall > 0.5", True),
        ("metrics.rows / 2.0 == 20.0", True),
        ("true", True),
        ("false", False),
    ],
)
def test_it_says_what_is_so(expression: str, passes: bool) -> None:
    result = evaluate(expression, FACTS)
    assert (result.passed, result.error) == (passes, None)


@pytest.mark.parametrize(
    "expression",
    [
        "size(metrics) == 2",
        '"recall" in metrics && !("tier" in risk)',
        'metrics["recall"] > 0.5',
        "has(metrics.recall)",
        'ticket == {"risk": "low", "requester": "a.b"}',
        '[ticket, risk][0] == ticket && risk["veto"] == 0.0',
        '"metrics" == "metrics"',
    ],
)
def test_every_scope_it_speaks_of_is_handed_over_whole(expression: str) -> None:
    assert cel.evaluate(expression, FACTS) is True
    result = evaluate(expression, FACTS)
    assert (result.passed, result.error) == (True, None)


@pytest.mark.parametrize(
    ("expression", "missing"),
    [
        ("metrics.precision >= 0.9", "metrics.precision"),
        ("drift.score < 0.1", "drift.score"),
        ("true || metrics.precision > 0.0", "metrics.precision"),
        ("true || metrics . precision > 0.0", "metrics.precision"),
        ("true || metrics.Precision > 0.0", "metrics.Precision"),
        ("metrics.recall > 2.0 && drift.score < 0.1", "drift.score"),
        ("ticket.requester == '\\'' || metrics.precision > 0.0 || 'a' == 'a'", "metrics.precision"),
        ('r"\\" == "x" || true || metrics.precision > 0.0 || "" == ""', "metrics.precision"),
        ("'''it's''' == 'x' || true || metrics.precision > 0.0 || 'y' == 'y'", "metrics.precision"),
        ("has(metrics.precision) || true", "metrics.precision"),
    ],
)
def test_a_figure_nobody_measured_fails_by_its_name(expression: str, missing: str) -> None:
    result = evaluate(expression, FACTS)
    assert not result.passed
    assert result.error == f"{missing} was not measured"


def test_all_missing_figures_are_named() -> None:
    result = evaluate("a.b > 0.0 && metrics.recall > 0.0 && c.d > 0.0", FACTS)
    assert result.error == "a.b, c.d was not measured"
    assert result.measured == {"metrics.recall": 0.93}


def test_the_index_form_fails_as_well_when_the_figure_is_missing() -> None:
    result = evaluate('metrics["precision"] > 0.0', FACTS)
    assert not result.passed
    assert "precision" in (result.error or "")


@pytest.mark.parametrize(
    "expression",
    [
        'metrics.recall > "high"',
        "metrics.recall + 1 > 1.0",
        "1 / 0 == 0",
        "9223372036854775807 + 1 > 0",
        "[1][5] == 1",
        "nothing(1)",
        "unknown > 1.0",
        'double("x") > 1.0',
        'int("9999999999999999999999") > 0',
        "metrics.recall.more > 1.0",
        '{"a": true}["b"]',
        '{"": true}["x\\ny"]',
    ],
)
def test_what_cannot_be_evaluated_fails_and_says_so_in_one_line(expression: str) -> None:
    result = evaluate(expression, FACTS)
    assert not result.passed
    assert result.error is not None
    assert "\n" not in result.error
    assert result.error.startswith("cannot be evaluated: ")


@pytest.mark.parametrize("expression", ["metrics.recall", "ticket.risk", "1", '"yes"', "null", "[true]", "metrics"])
def test_what_is_no_yes_or_no_fails(expression: str) -> None:
    result = evaluate(expression, FACTS)
    assert not result.passed
    assert "not true or false" in (result.error or "")


@pytest.mark.parametrize("expression", ["", "metrics.recall >=", "(((", "a b", "metrics.recall >= 0.9 and true"])
def test_what_is_no_expression_is_refused_early_and_fails_late(expression: str) -> None:
    with pytest.raises(CriterionError, match="is not valid CEL"):
        check_syntax(expression)
    result = evaluate(expression.replace("metrics.recall", "1.0"), FACTS)
    assert not result.passed
    assert "is not valid CEL" in (result.error or "")


@pytest.mark.parametrize(
    "expression",
    [
        "[1, 2].all(x, x > 0)",
        "[1, 2] . exists (x, x > 0)",
        "[1, 2].exists_one(x, x > 0)",
        "size([1, 2].map(x, x)) == 2",
        "[1].filter(x, [1]. // a comment\n all(y, true)) == [1]",
        'r"\\".size() == 1 && [0].all(x, true) || "" == ""',
    ],
)
def test_loops_are_refused_for_they_may_take_for_ever(expression: str) -> None:
    with pytest.raises(CriterionError, match="loops over a list"):
        check_syntax(expression)
    assert not evaluate(expression, FACTS).passed


def test_names_are_read_once_each_and_not_from_strings_or_calls() -> None:
    found = names('a.b > 0.0 && c.d > a.b && ticket.requester != "e.f" && "x".startsWith("g.h") && \'i.j\' != ""')
    assert found == (("a", "b"), ("c", "d"), ("ticket", "requester"))


def test_dots_in_strings_and_numbers_are_no_figures() -> None:
    assert evaluate('ticket.requester == "a.b"', FACTS).passed
    assert evaluate('"say \\"risk.tier\\"" != ""', FACTS).passed
    assert evaluate("1.5e3 > 2.0", FACTS).passed


def test_the_result_shows_what_was_read() -> None:
    result = evaluate('metrics.recall > 0.5 && ticket.risk == "low"', FACTS)
    assert result.measured == {"metrics.recall": 0.93, "ticket.risk": "low"}


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (
            CriterionResult(expression="a.b > 1.0", passed=False, measured={"a.b": 0.123456, "c.d": "x"}),
            "a.b > 1.0 (measured a.b = 0.1235, c.d = x)",
        ),
        (CriterionResult(expression="true", passed=True), "true"),
        (CriterionResult(expression="a.b > 1.0", passed=False, error="a.b was not measured"),
         "a.b > 1.0 (a.b was not measured)"),
    ],
)  # fmt: skip
def test_one_line_for_people(result: CriterionResult, line: str) -> None:
    assert describe(result) == line


@given(st.text(alphabet="ab.+-*/<>=!&|?:()[]{}\"'\\ \n0123456789rux,", max_size=30), st.floats())
def test_no_expression_whatever_raises_or_passes_by_accident(expression: str, figure: float) -> None:
    result = evaluate(expression, {"a": {"b": figure}})
    assert result.expression == expression
    assert not (result.passed and result.error)
