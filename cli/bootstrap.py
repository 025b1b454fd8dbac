"""The composition root: the one place where the parts are put together. Importing it starts nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import structlog

from agents.loop import Agent
from agents.worker import PRELOAD
from autopilot.effects import EffectExecutor
from bus.nats_bus import NatsBus, connect
from bus.port import ConsumerSpec, OutgoingEvent
from bus.server import EmbeddedServer, login, running
from bus.streams import AGENT_CONSUMERS, CONDUCTOR_CONSUMER, EFFECTS_CONSUMER
from cli.errors import CliError
from cli.home import Home
from cli.settings import Settings
from conductor.service import Conductor
from schemas.commands import StartDrive as _StartDrive  # noqa: F401  # declares every message
from schemas.envelope import CommandEnvelope, StreamId
from schemas.ids import uuid7
from schemas.messages import Command
from schemas.values import Actor, Role, Sender
from store.relay import Relay
from store.sqlite import SqliteStore
from workspace.blobs import Blobs
from workspace.children import ForkServer

_log = structlog.get_logger("system")
