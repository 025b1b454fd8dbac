"""The configuration of a NATS server of one's own: one account per tenant, one user per role. Public keys only.

An account is a world of its own: its subjects, JetStream streams, consumers and answers are invisible to every other
account, whatever its users ask for. The subject permissions within it are those of `bus.permissions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from bus.permissions import permissions

MAX_PAYLOAD = 4 * 1024 * 1024
"""Bytes of one message, headers included. Larger things are artifacts and travel by their digest."""

_MIB = 1024 * 1024
_MEMORY_PER_TENANT = 64 * _MIB
"""VT_TELEMETRY reserves half of it."""


def users(public_keys: Mapping[str, str], tenant: str) -> list[dict[str, Any]]:
    """The users of one tenant (`*`: all): each role's public key and what it may do."""
    found = []
    for role, key in public_keys.items():
        allowed = permissions(role, tenant)
        found.append(
            {
                "nkey": key,
                "permissions": {
                    "publish": {"allow": list(allowed.publish)},
                    "subscribe": {"allow": list(allowed.subscribe)},
                },
            }
        )
    return found


def jetstream(store_dir: PurePath, memory: int) -> dict[str, Any]:
    """The block `jetstream`; the server makes the directory `jetstream` below `store_dir`."""
    return {
        "store_dir": str(store_dir),
        "sync_interval": "always",  # else a power cut takes acknowledged messages of the last minutes
        "max_memory_store": memory,
    }


def tls_block(certificate: PurePath, key: PurePath, ca: PurePath | None = None) -> dict[str, Any]:
    """The block `tls`. With `ca` the server asks every client for a certificate which that CA has signed."""
    block: dict[str, Any] = {"cert_file": str(certificate), "key_file": str(key)}
    return block | ({"ca_file": str(ca), "verify": True} if ca is not None else {})


def server_configuration(
    tenants: Mapping[str, Mapping[str, str]],
    *,
    listen: str,
    store_dir: PurePath,
    tls: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A complete configuration for `tenants` (name to public key by role); as JSON, which the server reads as well as
    its own notation. It logs to standard error. Nobody connects without one of these keys."""
    return {
        "listen": listen,
        "max_payload": MAX_PAYLOAD,
        "jetstream": jetstream(store_dir, max(128 * _MIB, _MEMORY_PER_TENANT * len(tenants))),
        **({"tls": tls} if tls else {}),
        "accounts": {
            tenant: {"jetstream": "enabled", "users": users(keys, tenant)} for tenant, keys in tenants.items()
        },
    }
