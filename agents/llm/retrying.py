"""Trying again: only what was free, by the endpoint's own hints, and never beyond the call's limit."""

from __future__ import annotations

import anyio

from agents.llm.providers.port import Completion, Provider, ProviderError
from schemas.model_calls import Prompt

TRIES = 4
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
"""Seconds between tries when the endpoint gives no hint: they double."""


async def ask(provider: Provider, prompt: Prompt, model: str, output_tokens: int, seconds: float) -> Completion:
    """One reply within `seconds`, waiting and trying again included. Raises ProviderError, whose `reason` says how
    often it was tried."""
    began = anyio.current_time()
    for tried in range(1, TRIES + 1):
        left = seconds - (anyio.current_time() - began)
        try:
            with anyio.fail_after(left):
                return await provider.complete(prompt, model, output_tokens)
        except TimeoutError:
            what = f"the endpoint gave no whole reply within {seconds:g} s, all the time this call has"
            raise ProviderError("unavailable", what, free=False) from None
        except ProviderError as problem:
            if not problem.again or tried == TRIES:
                raise _after(problem, tried) from None
            pause = min(FIRST_PAUSE * 2 ** (tried - 1), LONGEST_PAUSE) if problem.after is None else problem.after
            left = seconds - (anyio.current_time() - began)
            if pause >= left:
                hint = f"it may be asked again in {pause:g} s, and this call has {left:.1f} s left"
                raise _after(problem, tried, hint) from None
            await anyio.sleep(pause)
    raise AssertionError("unreachable")


def _after(problem: ProviderError, tried: int, hint: str = "") -> ProviderError:
    times = f" (tried {tried} times)" if tried > 1 else ""
    reason = f"{problem.reason}{times}" + (f"; {hint}" if hint else "")
    return ProviderError(problem.kind, reason, free=problem.free)
