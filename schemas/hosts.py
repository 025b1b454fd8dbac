"""Hosts as the policy names them: `NAME:PORT`, `ADDRESS:PORT`, `[ADDRESS]:PORT`."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator

_SHAPE = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[a-z0-9_.-]+)):(?P<port>[0-9]{1,5})", re.ASCII)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


def parse_host(text: str) -> tuple[str, int]:
    """The host (a name in lower case without a dot at its end, or an address as it is usually written) and the port.

    Raises ValueError for anything else, other ways to write an address (`127.1`, `0x7f000001`) included.
    """
    found = _SHAPE.fullmatch(text.lower())
    if found is None:
        raise ValueError(f"{text!r} is no host with a port: write NAME:PORT, for example pypi.example:443")
    port = int(found["port"])
    if not 0 < port < 65536:
        raise ValueError(f"{text!r} has no port between 1 and 65535")
    if found["six"] is not None:
        return str(_address(ipaddress.IPv6Address, found["six"], text)), port
    name = found["name"].removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):  # resolvers take such a name for an address
        return str(_address(ipaddress.IPv4Address, name, text)), port
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{text!r} has no name of a host: letters, digits, - and dots, no patterns")
    return name, port


def host_text(host: str, port: int) -> str:
    """The same as text."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(
    kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address], address: str, text: str
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return kind(address)
    except ValueError as problem:
        raise ValueError(f"{text!r} has no address as it is usually written") from problem


def _usual(text: str) -> str:
    return host_text(*parse_host(text))


Host = Annotated[str, AfterValidator(_usual)]
"""A host and its port, in the usual form."""
