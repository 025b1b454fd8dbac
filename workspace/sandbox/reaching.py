"""Which hosts a contained command may reach: those that are listed, and by a name only addresses of the public network.

A name is looked up once, by us, and the address that was checked is the one that is connected to. An address that is
not public (loopback, private, link-local, shared, multicast) is reached only if it is listed itself, with its port.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterable

import anyio
from anyio.abc import SocketStream

from schemas.hosts import parse_host

CONNECT_SECONDS = 10.0
_UNICAST = ipaddress.ip_network("2000::/3")
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
_URL = re.compile(r"http://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?(?P<path>/.*)?", re.I | re.A)


class Refused(Exception):
    """The host may not be reached."""


class Unreachable(Exception):
    """The host may be reached, and does not answer."""


def target_of(url: str) -> tuple[str, int, str]:
    """Host, port and path of the URL in a request to a proxy. Raises ValueError for what is no plain `http` URL."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(f"{url[:100]!r} is no URL of a host by http")
    host, port = parse_host(f"{found['host']}:{found['port'] or 80}")
    return host, port, found["path"] or "/"


def is_public(address: str) -> bool:
    """Whether it is an address of the public network, and so is the one it holds if it is a translated one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if not ip.is_global or ip.is_multicast:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return True
    if ip in _TRANSLATED:
        return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
    held = (ip.sixtofour, *(ip.teredo or ()))
    return ip in _UNICAST and all(each is None or is_public(str(each)) for each in held)


class Reach:
    """The hosts of one list."""

    def __init__(self, hosts: Iterable[str]) -> None:
        """Raises ValueError for a host that cannot be read."""
        self._listed = frozenset(parse_host(host) for host in hosts)

    async def connect(self, host: str, port: int) -> SocketStream:
        """A connection to the host. Raises Refused and Unreachable."""
        if (host, port) not in self._listed:
            raise Refused("the policy's `sandbox_hosts` do not list it")
        addresses = await _addresses(host, port)
        for address in addresses:
            if (address, port) not in self._listed and not is_public(address):
                why = f"it has the address {address}, which is not public: `sandbox_hosts` must list that, too"
                raise Refused(why)
        why = ""
        for address in addresses:
            try:
                with anyio.fail_after(CONNECT_SECONDS):
                    return await anyio.connect_tcp(address, port)
            except TimeoutError:
                why = f"no answer from {address} in {CONNECT_SECONDS:.0f} s"
            except OSError as problem:
                cause = problem.__cause__ if isinstance(problem.__cause__, OSError) else problem
                why = f"{address}: {os.strerror(cause.errno) if cause.errno else cause}"
        raise Unreachable(why or "it has no address")


async def _addresses(host: str, port: int) -> list[str]:
    """What the host's name leads to, each once; an address leads to itself."""
    try:
        with anyio.fail_after(CONNECT_SECONDS):
            found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError as problem:
        raise Unreachable(f"its name was not resolved in {CONNECT_SECONDS:.0f} s") from problem
    except (OSError, UnicodeError) as problem:
        raise Unreachable(f"its name does not resolve: {getattr(problem, 'strerror', None) or problem}") from problem
    return list(dict.fromkeys(str(ipaddress.ip_address(str(place[0]).partition("%")[0])) for *_, place in found))
