"""Imported by agents and their fork servers: the light skills take the place of the real ones, which train models."""

from __future__ import annotations

from pathlib import Path

import agents.skills

agents.skills.__path__[:] = [str(Path(__file__).parent / "light")]
