"""Ports for servers that are started later, or again on the same port."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL = 32768
"""Where the range begins from which Linux takes a port for whoever connects or does not ask for one."""


def free_port() -> int:
    """A port of the loopback address that nobody listens at now, and that no connection will take by chance.

    The kernel gives ports of its own range to every connection that is made, of whatever test: one that a server has
    just left may be gone when it comes again. Below that range only those have a port who ask for it by number.
    """
    try:
        first = int(_RANGE.read_text().split()[0])
    except OSError:
        first = _USUAL
    source = random.SystemRandom()
    while True:
        port = source.randrange(max(1024, first - 20_000), first)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
