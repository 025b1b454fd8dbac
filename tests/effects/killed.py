"""Run as a module: carries out every effect, killed with SIGKILL right after each single write, until nothing is left.

A child of this process does each try; this process has no threads, so it may fork. Prints how often a child was killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from autopilot.at_origin import OriginEffects
from autopilot.board import SessionRow
from forge.client import GitHub
from forge.credentials import Token
from schemas.session import EffectRequested
from schemas.values import EffectKind, Posted
from tests.effects.conftest import row_of
from workspace.pushing import Remote


def _die_after(cls: type, name: str) -> None:
    real = getattr(cls, name)

    def killed(*arguments: Any, **options: Any) -> NoReturn:
        real(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    setattr(cls, name, killed)


def carry_out(address: str, token: str, row: SessionRow, kind: EffectKind, posted: Posted, target: str) -> Posted:
    """One try."""
    effects = OriginEffects(lambda name: GitHub(name, base_url=address, credentials=Token(token)), lambda: (row,))
    effect = EffectRequested(
        effect=f"{row.id}.{kind}.1", kind=kind, phase="plan-it", attempt=1, posted=posted, target=target
    )
    return effects.carry_out(effect, row)


def main(address: str, token: str, clone: str, base: str, target: str, kinds: str) -> None:
    row = row_of(1, "abcde", Path(clone), base)
    kills: dict[str, int] = {}
    known = Posted()
    for kind in kinds.split(","):
        while True:
            child = os.fork()
            if child == 0:
                for cls, name in ((GitHub, "send"), (Remote, "_push")):
                    _die_after(cls, name)
                carry_out(address, token, row, kind, known, target)  # type: ignore[arg-type]
                os._exit(0)
            _, status = os.waitpid(child, 0)
            if os.WIFEXITED(status):
                assert os.WEXITSTATUS(status) == 0, f"{kind} failed"
                break
            assert os.WTERMSIG(status) == signal.SIGKILL
            kills[kind] = kills.get(kind, 0) + 1
            assert kills[kind] < 12, f"{kind} does the same again and again"
        done = carry_out(address, token, row, kind, known, target)  # type: ignore[arg-type]
        if kind == "publish":
            known = done
    print(json.dumps(kills))


if __name__ == "__main__":
    main(*sys.argv[1:])
