"""The frozen thresholds, and whether the code still has them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parent / "frozen.yaml"


@dataclass(frozen=True)
class Frozen:
    """What was fixed, and when, before the held-out seeds were run."""

    date: str
    development: tuple[int, ...]
    held_out: tuple[int, ...]
    held_out_sets: tuple[str, ...]
    thresholds: dict[str, float]

    @property
    def changed(self) -> list[str]:
        """Thresholds that the code has otherwise, in words; empty when all are as they were."""
        found = []
        for name, value in self.thresholds.items():
            module, _, constant = name.partition(":")
            now = getattr(importlib.import_module(module), constant, None)
            if now != value:
                found.append(f"{name} was {value:g}, is {now}")
        return found


def read() -> Frozen:
    """The file beside this module."""
    told: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
    return Frozen(
        date=str(told["frozen"]),
        development=tuple(told["development"]["seeds"]),
        held_out=tuple(told["held_out"]["seeds"]),
        held_out_sets=tuple(told["held_out"]["sets"]),
        thresholds={name: float(value) for name, value in told["thresholds"].items()},
    )
