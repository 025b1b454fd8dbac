"""The model gateway, put together from the settings; it alone is handed the key."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from bus.credentials import write_private
from bus.nats_bus import connect
from cli.errors import CliError
from cli.home import Home
from cli.joining import Server
from cli.settings import Settings
from schemas.ids import short_token
from schemas.values import Sender
from workspace.blobs import Blobs

if TYPE_CHECKING:
    from agents.llm.providers.port import Provider

GATEWAY = "gateway"
"""What the component is called, as a command and among what `up` runs."""

KEY_VARIABLE = "VALUETRAIN_MODEL_KEY"


def model_key(settings: Settings) -> str | None:
    """The endpoint's key, or None. Raises CliError for a file that others can read, or that holds none."""
    if settings.model_key is not None:
        return settings.model_key.get_secret_value().strip() or None
    path = settings.model_key_file
    if path is None:
        return None
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise CliError(f"model_key_file {path} can be read by others: chmod 600 it")
        key = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise CliError(f"model_key_file {path} cannot be read: {problem}") from problem
    if not key or len(key.split()) != 1:
        raise CliError(f"model_key_file {path} must hold the key and nothing else")
    return key


def provider_of(settings: Settings, key: str | None) -> Provider:
    """The way to the endpoint that the settings name. Raises CliError for a `model_class` that is none, ImportError
    without the extra `llm`, ValueError without an endpoint."""
    if settings.model_base_url is None:
        raise ValueError("no endpoint is named")
    if settings.model_class is None:
        from agents.llm.providers.openai_compatible import OpenAICompatible

        return OpenAICompatible(settings.model_base_url, key, settings.model_output_limit)
    from agents.llm.providers.langchain_chat import LangchainChat, chat_class

    try:
        make = chat_class(settings.model_class)
    except ValueError as problem:
        raise CliError(f"model_class: {problem}") from problem
    return LangchainChat(make, settings.model_class, settings.model_base_url, key)


def _name(directory: Path) -> str:
    """Kept over restarts: a call that this gateway no longer waits for is then known to be lost."""
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / "name"
    if not path.exists():
        write_private(path, f"gateway-{short_token(8)}\n")
    return path.read_text("utf-8").strip()


@asynccontextmanager
async def model_gateway(home: Home, settings: Settings, server: Server) -> AsyncIterator[None]:
    """The gateway while the context is open. Raises HomeBusy when another process asks models on this home, CliError
    without a model in the settings or the extra `llm`, BusError."""
    if settings.model_base_url is None or settings.model_name is None:
        raise CliError("no model is set: name model_base_url and model_name in config.yaml (see docs/llm.md)")
    try:
        from agents.llm.gateway import Gateway

        provider = provider_of(settings, model_key(settings))
    except ImportError as problem:
        raise CliError(
            "asking a language model needs the extra: pip install 'agenticops-value-train[llm]'"
        ) from problem
    with home.asking_models("a model gateway"):
        try:
            async with await connect(server.login(Sender.GATEWAY.value), name=GATEWAY) as bus:
                gateway = Gateway(
                    bus,
                    Blobs(home.blobs),
                    provider,
                    settings.model_name,
                    tenant=settings.tenant,
                    name=_name(home.gateway),
                )
                async with gateway.running():
                    yield
        finally:
            with anyio.CancelScope(shield=True):
                await provider.close()
