"""The gateway as a process of its own: killed without warning, started again, and the only one that gets the key."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agents.llm import asking
from cli.components import run_gateway
from cli.errors import CliError
from cli.gateways import KEY_VARIABLE, model_key
from cli.settings import Settings, load
from cli.supervising import environment_of
from schemas import model_messages as msg
from tests.llm.rig import HELLO, floor
from tests.openai_server.server import KEY, OpenAIServer
from tests.openai_server.steps import Asked, Hangs, Says, Step

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def gateway_process(home: Path, endpoint: OpenAIServer) -> AsyncIterator[asyncio.subprocess.Process]:
    """`valuetrain gateway run`, serving."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VALUETRAIN_")}
    environment |= {
        "VALUETRAIN_MODEL_BASE_URL": endpoint.url,
        "VALUETRAIN_MODEL_NAME": "scripted-model",
        KEY_VARIABLE: KEY,
    }
    words = ("-m", "cli.main", "gateway", "run", "--home", str(home), "--json")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert b'"serving"' in await process.stdout.readuntil(b"}")
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_killed_in_the_middle_of_a_call_it_is_started_again_and_the_agent_gets_its_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ANSWER_SECONDS", 1.0)  # for how long an agent waits that asked the one that is killed
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(asked: Asked) -> Step:
        loop.call_soon_threadsafe(arrived.set)
        return (Says("one"), Hangs(), Says("two"))[len(endpoint.asked) - 1]

    async with floor(tmp_path) as here:
        with OpenAIServer(script) as endpoint:
            await here.start()
            model = await here.model(await here.claim(), away_seconds=60.0)
            async with gateway_process(here.home.path, endpoint) as process:
                assert (await model.reply(HELLO)).message.content == "one"
                arrived.clear()
                reply = asyncio.ensure_future(model.reply(HELLO))
                await arrived.wait()
                process.send_signal(signal.SIGKILL)
                assert await process.wait() == -signal.SIGKILL
            async with gateway_process(here.home.path, endpoint):
                assert (await reply).message.content == "two"
                again = await here.model(await here.claim())
                replies = [await again.reply(HELLO) for _ in range(2)]
            assert [(r.message.content, r.replayed) for r in replies] == [("one", True), ("two", True)]
            assert len(endpoint.asked) == 3
        first, lost, made = here.events(msg.ModelCallRequested)
        assert (first.replaces, lost.replaces, made.replaces) == ("", "", lost.call)
        assert list(here.state().calls) == [lost.call]
        here.verify()


def test_only_the_gateway_is_handed_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    for kind in ("conductor", "agent", "effects", "autopilot"):
        assert KEY not in environment_of(kind).values()
    assert environment_of("gateway")[KEY_VARIABLE] == KEY


def test_the_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    settings = Settings()
    assert KEY not in f"{settings!r} {settings} {settings.model_dump_json()}"
    assert model_key(settings) == KEY


def test_the_key_does_not_belong_into_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"model_key: {KEY}\n", "utf-8")
    with pytest.raises(CliError, match="must not hold model_key") as caught:
        load(config)
    assert KEY not in str(caught.value)


def test_a_key_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    settings = Settings(model_key_file=path)
    with pytest.raises(CliError, match="cannot be read"):
        model_key(settings)
    path.write_text(f"{KEY}\n", "utf-8")
    path.chmod(0o640)
    with pytest.raises(CliError, match="can be read by others"):
        model_key(settings)
    path.chmod(0o600)
    assert model_key(settings) == KEY
    path.write_text("two words\n", "utf-8")
    with pytest.raises(CliError, match="the key and nothing else"):
        model_key(settings)
    assert model_key(Settings()) is None


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"model_base_url": "http://127.0.0.1:1/v1"}, "belong together"),
        ({"model_name": "m"}, "belong together"),
        ({"model_base_url": "127.0.0.1:1", "model_name": "m"}, "must be like"),
        ({"model_base_url": "https://u:p@example.com/v1", "model_name": "m"}, "no user, password"),
        ({"model_base_url": "https://example.com/v1?key=x", "model_name": "m"}, "no user, password"),
        ({"model_base_url": "http://127.0.0.1:1/v1", "model_name": "a b"}, "pattern"),
    ],
)
def test_settings_that_do_not_fit(values: dict[str, str], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Settings(**values)  # type: ignore[arg-type]


def test_a_gateway_needs_a_model(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.yaml").write_text("nats_url: nats://127.0.0.1:1\n", "utf-8")
    with pytest.raises((CliError, ExceptionGroup)) as caught:
        run_gateway(home, True)
    assert "no model is set" in repr(caught.value)
