"""Imports the validator of CycloneDX documents, and puts off the one costly thing it brings along.

For the format `iri`, jsonschema imports a package that compiles a grammar while it is imported: two seconds of CPU,
more than all the rest of a warm start, and nothing in our documents has that format. The check stays: the first value
that has it pays for the grammar.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

_GRAMMAR = "rfc3987_syntax"


def _is_valid_syntax(term: str, value: str) -> bool:
    return bool(importlib.import_module(_GRAMMAR).is_valid_syntax(term, value))


def _import_jsonschema() -> None:
    if "jsonschema" in sys.modules or _GRAMMAR in sys.modules or importlib.util.find_spec(_GRAMMAR) is None:
        return
    stand_in = ModuleType(_GRAMMAR)
    stand_in.is_valid_syntax = _is_valid_syntax  # type: ignore[attr-defined]
    sys.modules[_GRAMMAR] = stand_in
    try:
        importlib.import_module("jsonschema")
    finally:
        del sys.modules[_GRAMMAR]


_import_jsonschema()

from cyclonedx.validation.json import JsonStrictValidator as JsonStrictValidator  # noqa: E402
