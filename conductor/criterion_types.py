"""Type-checking criteria when a pipeline is loaded: which figures an expression reads, and whether the types fit. Pure.

CEL finds a wrong type only when the expression is evaluated, and not even then if `||` got its answer elsewhere. What
is taken here is the part of CEL that criteria need: figures, numbers, texts, lists, comparisons, sums and conditions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from conductor.criteria import CriterionError, check_syntax
from conductor.yamlfile import misspelt
from schemas.figures import ALWAYS, CHOICES

LONGEST = 2000
"""Characters a criterion may have: far more than anybody can judge."""

_SKIPPED = re.compile(r"(?:\s|//[^\n]*)*")
_TOKEN = re.compile(
    r"""(?xs)
      (?P<string> [bB]?[rR] (?: \"{3}.*?\"{3} | '{3}.*?'{3} | "[^"]*" | '[^']*' )
        | [bB]? (?: \"{3}(?:\\.|[^\\])*?\"{3} | '{3}(?:\\.|[^\\])*?'{3} | "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' ) )
    | (?P<number> 0[xX][0-9a-fA-F]+[uU]? | (?:\d+\.\d+|\.\d+)(?:[eE][+-]?\d+)? | \d+[eE][+-]?\d+ | \d+[uU]? )
    | (?P<name> [A-Za-z_]\w* )
    | (?P<sign> \|\| | && | == | != | <= | >= | [-+*/%!<>?:.,()\[\]{}] | . )"""
)
_NUMBERS = frozenset({"double", "int", "uint"})
_ORDERED = frozenset({"string", "bool", "bytes"})
_METHODS = {"startsWith": 1, "endsWith": 1, "contains": 1, "matches": 1, "size": 0}
_FUNCTIONS = ("double", "has", "int", "size", "string", "uint")
_WORDS = {"true": "bool", "false": "bool", "null": "null"}


@dataclass(frozen=True, slots=True)
class _Typed:
    """What an expression comes to. `any` is what cannot be known, or was wrong already."""

    kind: str
    figure: str = ""
    text: str | None = None


_Part = Callable[[], _Typed]
_ANY, _BOOL = _Typed("any"), _Typed("bool")


@dataclass(slots=True)
class Figures:
    """The figures a criterion may read: names, or their beginnings with a `*`."""

    measured: set[str] = field(default_factory=set)

    def add(self, names: Iterable[str]) -> None:
        """From here on these are measured."""
        self.measured.update(names)

    def kind(self, name: str) -> str | None:
        """`double`, `string`, or None for a figure nobody measures."""
        if name in ALWAYS:
            return ALWAYS[name]
        known = name in self.measured or any(m[-1] == "*" and name.startswith(m[:-1]) for m in self.measured)
        return "double" if known else None

    def unknown(self, name: str) -> str:
        """Why `name` cannot be read, and what to write."""
        scope = name.partition(".")[0]
        all_known = sorted({*ALWAYS, *self.measured})
        same = [known for known in all_known if known.startswith(f"{scope}.")]
        if not same:
            groups = ", ".join(sorted({known.partition(".")[0] for known in all_known}))
            return f"reads {name}, which nothing measures up to this phase; there are figures of {groups}"
        shown = (
            same if len(same) <= 12 else [known for known in same if not known.endswith(("_lower", "_upper", "_se"))]
        )
        return f"reads {name}, which nothing measures up to this phase; {misspelt(name, shown)}"


def problems(expression: str, figures: Figures) -> tuple[str, ...]:
    """Everything wrong with `expression`, one sentence each; empty when it can be evaluated to yes or no."""
    if len(expression) > LONGEST:
        return (f"criterion is longer than {LONGEST} characters: write several shorter ones",)
    try:
        check_syntax(expression)
    except CriterionError as problem:
        return (f"{problem}; write a condition such as `metrics.recall >= 0.9`",)
    checker = _Checker(expression, figures)
    try:
        outcome = checker.whole()
    except _NotTaken as problem:
        return (f"criterion {expression!r} {problem}",)
    except RecursionError:
        return (f"criterion {expression[:60]!r}… is nested too deeply: write several shorter ones",)
    if outcome.kind not in ("bool", "any"):
        checker.wrong.append(f"comes to a {outcome.kind}, not to true or false: compare it with something")
    return tuple(f"criterion {expression!r} {wrong}" for wrong in dict.fromkeys(checker.wrong))


class _NotTaken(Exception):
    """CEL that criteria have no use for."""


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    at = 0
    while match := _TOKEN.match(expression, skipped := _SKIPPED.match(expression, at).end()):  # type: ignore[union-attr]
        yield match.lastgroup or "", match[0]
        at = match.end()
    yield "end", expression[skipped:]


class _Checker:
    """Reads tokens by the grammar of CEL, loosest binding first; `wrong` collects what does not fit."""

    def __init__(self, expression: str, figures: Figures) -> None:
        self._tokens = list(_tokens(expression))
        self._at = 0
        self._figures = figures
        self.wrong: list[str] = []

    def whole(self) -> _Typed:
        found = self._condition()
        if self._tokens[self._at][0] != "end":
            self._refuse()
        return found

    def _next(self) -> str:
        return self._tokens[self._at][1] if self._tokens[self._at][0] in ("sign", "name") else ""

    def _take(self, *signs: str) -> str:
        found = self._next()
        if found not in signs:
            return ""
        self._at += 1
        return found

    def _must(self, sign: str) -> None:
        if not self._take(sign):
            self._refuse()

    def _refuse(self) -> NoReturn:
        raise _NotTaken(
            f"uses {self._tokens[self._at][1]!r} in a way that criteria do not take: compare figures with "
            "`==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, and join the comparisons with `&&` and `||`"
        )

    def _condition(self) -> _Typed:
        asked = self._either()
        if not self._take("?"):
            return asked
        self._yes_or_no(asked, "?")
        one = self._either()
        self._must(":")
        other = self._condition()
        if one.kind != other.kind and "any" not in (one.kind, other.kind):
            self.wrong.append(f"gives a {one.kind} or a {other.kind} (?:): both must be of one type")
        return _Typed(one.kind) if one.kind == other.kind else _ANY

    def _either(self) -> _Typed:
        return self._joined("||", lambda: self._joined("&&", self._compared))

    def _joined(self, sign: str, part: _Part) -> _Typed:
        left = part()
        while self._take(sign):
            self._yes_or_no(left, sign)
            self._yes_or_no(part(), sign)
            left = _BOOL
        return left

    def _compared(self) -> _Typed:
        left = self._sum()
        while sign := self._take("==", "!=", "<=", ">=", "<", ">", "in"):
            right = self._sum()
            if sign == "in":
                if right.kind not in ("list", "map", "any"):
                    self.wrong.append(f'looks for something `in` a {right.kind}: write a list, such as `["low"]`')
            else:
                self._comparable(left, sign, right)
            left = _BOOL
        return left

    def _comparable(self, left: _Typed, sign: str, right: _Typed) -> None:
        kinds = {left.kind, right.kind}
        if "any" in kinds or kinds <= _NUMBERS:
            return
        equality = sign in ("==", "!=")
        if len(kinds) == 1 and (equality or kinds <= _ORDERED):
            self._possible(left, right)
            self._possible(right, left)
        elif not (equality and "null" in kinds):
            self.wrong.append(f"compares a {left.kind} with a {right.kind} ({sign}): both sides must be of one type")

    def _possible(self, figure: _Typed, other: _Typed) -> None:
        choices = CHOICES.get(figure.figure)
        if choices is not None and other.text is not None and other.text not in choices:
            listed = ", ".join(repr(choice) for choice in sorted(choices))
            self.wrong.append(f"compares {figure.figure} with {other.text!r}, which it never is: it is one of {listed}")

    def _sum(self) -> _Typed:
        return self._calculated(("+", "-"), lambda: self._calculated(("*", "/", "%"), self._signed))

    def _calculated(self, signs: tuple[str, ...], part: _Part) -> _Typed:
        left = part()
        while sign := self._take(*signs):
            left = self._result(left, sign, part())
        return left

    def _result(self, left: _Typed, sign: str, right: _Typed) -> _Typed:
        kinds = {left.kind, right.kind}
        if "any" in kinds:
            return _ANY
        fits = {"int", "uint"} if sign == "%" else {*_NUMBERS, *(("string", "bytes", "list") if sign == "+" else ())}
        if len(kinds) == 1 and kinds <= fits:
            return _Typed(left.kind)
        hint = (
            "figures are doubles: write 1.0, not 1" if kinds <= _NUMBERS and sign != "%" else "use numbers of one type"
        )
        self.wrong.append(f"calculates {left.kind} {sign} {right.kind}: {hint}")
        return _ANY

    def _signed(self) -> _Typed:
        if self._take("!"):
            self._yes_or_no(self._signed(), "!")
            return _BOOL
        if self._take("-"):
            found = self._signed()
            if found.kind not in ("double", "int", "any"):
                self.wrong.append(f"takes the negative of a {found.kind}: use a number")
            return _Typed(found.kind)
        return self._member()

    def _member(self) -> _Typed:
        found = self._primary()
        while sign := self._take(".", "["):
            if sign == "[":
                self._condition()
                self._must("]")
                if found.kind not in ("list", "map", "any"):
                    self.wrong.append(f"looks into a {found.kind} with `[…]`: only lists have places")
                found = _ANY
                continue
            name = self._name()
            if not self._take("("):
                self.wrong.append(
                    f"asks for `.{name}` of a {found.kind}: figures have two names, such as metrics.recall"
                )
                found = _ANY
                continue
            found = self._method(found, name, self._list(")"))
        return found

    def _name(self) -> str:
        kind, name = self._tokens[self._at]
        if kind != "name":
            self._refuse()
        self._at += 1
        return name

    def _method(self, of: _Typed, name: str, given: list[_Typed]) -> _Typed:
        if name not in _METHODS:
            self.wrong.append(f"calls `.{name}()`, which criteria do not have; {misspelt(name, _METHODS)}")
            return _ANY
        wanted = ("string", "list", "map", "bytes", "any") if name == "size" else ("string", "any")
        if of.kind not in wanted or any(g.kind not in ("string", "any") for g in given) or len(given) != _METHODS[name]:
            self.wrong.append(
                f"calls `.{name}()` wrongly: it is for a text" + ("" if name == "size" else " and takes one")
            )
        return _Typed("int") if name == "size" else _BOOL

    def _list(self, end: str) -> list[_Typed]:
        found: list[_Typed] = []
        while not self._take(end):
            found.append(self._condition())
            if not self._take(","):
                self._must(end)
                break
        return found

    def _primary(self) -> _Typed:
        kind, text = self._tokens[self._at]
        if kind == "string":
            self._at += 1
            return _Typed("bytes") if text[0] in "bB" or text[:2] in ("rb", "rB", "Rb", "RB") else _literal(text)
        if kind == "number":
            self._at += 1
            if text[-1] in "uU":
                return _Typed("uint")
            return _Typed("int" if text.isdigit() or text[:2] in ("0x", "0X") else "double")
        if self._take("("):
            found = self._condition()
            self._must(")")
            return found
        if self._take("["):
            self._list("]")
            return _Typed("list")
        if kind == "name":
            return self._named(self._name())
        self._refuse()

    def _named(self, name: str) -> _Typed:
        if name in _WORDS:
            return _Typed(_WORDS[name])
        if self._take("("):
            return self._call(name, self._list(")"))
        if self._next() == "[":
            self.wrong.append(f"reads a figure as {name}[…]: write {name}.NAME, so that a missing one is noticed")
            return _ANY
        if not self._take("."):
            hint = f"name one of its figures, such as {name}.NAME"
            self.wrong.append(f"reads {name!r}, which is no figure: {hint}")
            return _ANY
        part = self._name()
        figure = f"{name}.{part}"
        if self._next() == "(":
            self.wrong.append(f"calls {figure}(), which criteria do not have; functions are {', '.join(_FUNCTIONS)}")
            self._take("(")
            self._list(")")
            return _ANY
        type_ = self._figures.kind(figure)
        if type_ is None:
            self.wrong.append(self._figures.unknown(figure))
            return _ANY
        return _Typed(type_, figure)

    def _call(self, name: str, given: list[_Typed]) -> _Typed:
        if name not in _FUNCTIONS:
            self.wrong.append(f"calls {name}(), which criteria do not have; {misspelt(name, _FUNCTIONS)}")
            return _ANY
        if len(given) != 1:
            self.wrong.append(f"gives {name}() {len(given)} values: it takes one")
            return _ANY
        kind = given[0].kind
        if name == "has":
            return _BOOL
        fits = ("string", "list", "map", "bytes") if name == "size" else (*_NUMBERS, "string")
        if kind not in (*fits, "any"):
            self.wrong.append(f"calls {name}() with a {kind}: it takes {' or '.join(fits)}")
        return _Typed("int" if name == "size" else name)

    def _yes_or_no(self, found: _Typed, sign: str) -> None:
        if found.kind not in ("bool", "any"):
            self.wrong.append(f"joins a {found.kind} with `{sign}`: compare it with something first")


def _literal(text: str) -> _Typed:
    """A text; its value too where it is plain enough to be compared."""
    inside = text[1:-1]
    plain = text[0] in "\"'" and "\\" not in text and not text.startswith(('"""', "'''"))
    return _Typed("string", text=inside if plain else None)
