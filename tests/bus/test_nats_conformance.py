"""The port's promises, kept by NATS."""

from __future__ import annotations

from tests.conformance.bus import BusConformance


class TestNatsBus(BusConformance):
    """Runs the suite on a real server."""
