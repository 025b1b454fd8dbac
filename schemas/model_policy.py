"""Which language models may be asked, what they cost, and how much of them may be used."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas.values import MOST, Value

ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}$")]
"""A model as its endpoint calls it: `gpt-5-mini`, `qwen3-coder:30b`, `meta-llama/Llama-3.3-70B-Instruct`."""

Dollars = Annotated[float, Field(ge=0, le=1_000_000)]

MILLION = 1_000_000


class ModelPrice(Value):
    """US dollars for a million tokens. An endpoint of one's own costs 0, and that has to be said: a model without a
    price is not asked."""

    input: Dollars
    output: Dollars
    cached: Dollars | None = None
    """For tokens of the prompt that the provider had in its cache; left out, they cost what others do."""

    def usd(self, input_tokens: int, output_tokens: int, cached: int = 0) -> float:
        """What so many tokens cost; `cached` are part of `input_tokens`."""
        known = min(cached, input_tokens)
        rate = self.input if self.cached is None else self.cached
        return ((input_tokens - known) * self.input + known * rate + output_tokens * self.output) / MILLION

    def most(self, input_tokens: int, output_tokens: int) -> float:
        """The most that so many tokens can cost."""
        dearest = self.input if self.cached is None else max(self.input, self.cached)
        return (input_tokens * dearest + output_tokens * self.output) / MILLION


class ModelLimit(Value):
    """How much may be used, in tokens (of prompts and replies), US dollars and seconds of waiting; what is left out has
    no limit."""

    tokens: Annotated[int, Field(gt=0, le=MOST)] | None = None
    usd: Dollars | None = None
    seconds: Annotated[float, Field(gt=0, le=MOST)] | None = None


class ModelSpend(Value):
    """What was used: tokens, US dollars, seconds. Calls that were never recorded count with their upper bound."""

    tokens: Annotated[int, Field(ge=0, le=MOST)] = 0
    usd: Annotated[float, Field(ge=0, le=MOST)] = 0.0
    seconds: Annotated[float, Field(ge=0, le=MOST)] = 0.0

    def plus(self, other: ModelSpend) -> ModelSpend:
        """The sum of both, or the largest figure there is."""
        return ModelSpend(
            tokens=min(self.tokens + other.tokens, MOST),
            usd=min(self.usd + other.usd, MOST),
            seconds=min(self.seconds + other.seconds, MOST),
        )


class ModelPolicy(Value):
    """The policy's `models`: without it no model is asked."""

    prices: dict[ModelName, ModelPrice] = {}
    """The models that may be asked; all others are refused."""
    output_tokens: Annotated[int, Field(gt=0, le=MILLION)] = 4096
    """The most tokens of one reply."""
    call: ModelLimit = ModelLimit(seconds=300.0)
    attempt: ModelLimit = ModelLimit()
    ticket: ModelLimit = ModelLimit()
    """Beside the ticket's own `budget`, which holds as well."""
    day: ModelLimit = ModelLimit()
    """All sessions of one day (UTC) together."""
