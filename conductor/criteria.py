"""Criteria: CEL expressions over the ticket and what was measured. Pure.

A criterion holds only when it evaluates to true. Whatever else comes out — a missing figure, a type error, a number
instead of a yes — counts as not met and says why: it fails closed.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.machinery import PathFinder
from typing import Any

from schemas.values import CriterionResult

_STRING = re.compile(
    r"""(?xs) \b[bB]?[rR] (?: \"{3}.*?\"{3} | '{3}.*?'{3} | "[^"]*" | '[^']*' )  # raw: a backslash is a character
        | \"{3}(?:\\.|[^\\])*?\"{3} | '{3}(?:\\.|[^\\])*?'{3} | "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*'"""
)
_DOTTED = re.compile(r"\b([A-Za-z_]\w*)\s*\.\s*([A-Za-z_]\w*)\b(?!\s*\()")
_MACRO = re.compile(r"\.(?:\s|//[^\n]*)*(all|exists|exists_one|existsOne|filter|map|transform\w*|sortBy)\s*\(")
"""Searched in strings too: a name that cannot hide is worth a string that cannot be written."""

Context = Mapping[str, Mapping[str, Any]]


class CriterionError(ValueError):
    """An expression that is not CEL."""


def _load_engine() -> Any:
    """The engine alone: importing the package also loads a terminal's line editor, a fifth of a command's start."""
    package = importlib.util.find_spec("cel")
    spec = None if package is None else PathFinder.find_spec("cel.cel", package.submodule_search_locations)
    if spec is None or spec.loader is None:
        return importlib.import_module("cel")
    if spec.name not in sys.modules:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[spec.name] = module
    return sys.modules[spec.name]


_cel = _load_engine()


@lru_cache(maxsize=4096)
def _compiled(expression: str) -> Any:
    if loop := _MACRO.search(expression):
        # Ten elements nested eight deep keep the one writer busy for a minute, and tickets are written by anybody.
        raise CriterionError(f"criterion {expression!r} loops over a list ({loop[1]}): compare figures instead")
    try:
        return _cel.compile(expression)
    except ValueError as problem:
        detail = str(problem).split("\n")[0]
        raise CriterionError(f"criterion {expression!r} is not valid CEL: {detail}") from problem


def check_syntax(expression: str) -> None:
    """Raises CriterionError when `expression` cannot be parsed."""
    _compiled(expression)


@lru_cache(maxsize=4096)
def names(expression: str) -> tuple[tuple[str, str], ...]:
    """The figures an expression reads, as (scope, name), in order and once each."""
    found = _DOTTED.findall(_STRING.sub('""', expression))
    return tuple(dict.fromkeys(found))


def evaluate(expression: str, context: Context) -> CriterionResult:
    """Hold `expression` against `context` (scope → name → value)."""
    read = names(expression)
    measured = {f"{s}.{n}": context[s][n] for s, n in read if n in context.get(s, {})}
    missing = [f"{s}.{n}" for s, n in read if n not in context.get(s, {})]
    if missing:
        what = f"{', '.join(missing)} was not measured"
        return CriterionResult(expression=expression, passed=False, measured=measured, error=what)
    try:
        # Handing a scope over costs many times what the comparison does, so only those go that it can speak of.
        outcome = _compiled(expression).execute({s: dict(context[s]) for s in context if s in expression})
    except CriterionError as problem:
        return CriterionResult(expression=expression, passed=False, measured=measured, error=str(problem))
    except (ArithmeticError, LookupError, TypeError, RuntimeError, ValueError) as problem:
        detail = (str(problem) or type(problem).__name__).splitlines()[0]
        what = f"cannot be evaluated: {detail} (figures are doubles: write 1.0, not 1)"
        return CriterionResult(expression=expression, passed=False, measured=measured, error=what)
    if not isinstance(outcome, bool):
        what = f"gives {outcome!r}, not true or false: compare it with something"
        return CriterionResult(expression=expression, passed=False, measured=measured, error=what)
    return CriterionResult(expression=expression, passed=outcome, measured=measured)


def describe(result: CriterionResult) -> str:
    """One line for people: `metrics.recall >= 0.95 (measured metrics.recall = 0.9302)`."""
    if result.error:
        return f"{result.expression} ({result.error})"
    shown = ", ".join(
        f"{name} = {value:.4g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in result.measured.items()
    )
    return f"{result.expression} (measured {shown})" if shown else result.expression
