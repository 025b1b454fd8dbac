"""The guard that keeps tests from asking a model outside this machine."""

from __future__ import annotations

import openai
import pytest

from agents.llm.providers.openai_compatible import OpenAICompatible
from schemas.model_calls import Message, Prompt
from tests.outside import OutsideBlocked, is_loopback


@pytest.mark.parametrize("host", ["api.example.com", "192.0.2.1", "127.0.0.1.example.com", "localhost.example.com"])
async def test_other_machines_are_blocked(host: str) -> None:
    assert not is_loopback(host)
    provider = OpenAICompatible(f"http://{host}/v1", "k")
    with pytest.raises(OutsideBlocked, match="a test asks"):
        await provider.complete(Prompt(messages=(Message(role="user", content="x"),)), "m", 5)
    await provider.close()


def test_so_is_the_sdk_itself() -> None:
    with (
        openai.OpenAI(base_url="http://api.example.com/v1", api_key="k", max_retries=0) as client,
        pytest.raises(OutsideBlocked),
    ):
        client.models.list()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_is_not(host: str) -> None:
    assert is_loopback(host)
