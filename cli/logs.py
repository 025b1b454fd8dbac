"""Logging: structured lines into the home's log file, never onto the terminal that shows progress."""

from __future__ import annotations

import logging
from pathlib import Path

import structlog

from cli.errors import CliError


def configure(path: Path) -> None:
    """Send the program's log (JSON, one event a line) to `path`. Raises CliError when it cannot be opened."""
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as problem:
        raise CliError(f"log {path} cannot be written: {problem.strerror}") from problem
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
