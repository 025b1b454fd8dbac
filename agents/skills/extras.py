"""Libraries that only some installations have: named by the extra that brings them, never imported by anything else."""

from __future__ import annotations

import importlib
from typing import Any

from agents.skill import InputError


def needed(module: str, extra: str, purpose: str) -> Any:
    """The module, imported. Raises InputError that names the extra, if it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as problem:
        if (problem.name or "").partition(".")[0] != module.partition(".")[0]:
            raise  # it is there, and something of its own is not: that needs its trace, not another installation
        raise InputError(
            f"{purpose} needs {module.partition('.')[0]}, which is not installed",
            f"install the extra: pip install 'agenticops-value-train[{extra}]'",
        ) from problem
