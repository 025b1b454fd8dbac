"""Imported in the fork server only: the modules of all shipped skills, so that a child need not find them again."""

from __future__ import annotations

from agents.discovery import shipped

shipped()
