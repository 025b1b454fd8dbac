"""One nkey per role: the server knows the public keys, each process gets the seed of its own role and no other."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import nkeys

from bus.port import BusError, Login

SEEDS = "credentials"


def seed_path(directory: Path, role: str) -> Path:
    """Where a role's seed lies below the server's directory."""
    return directory / SEEDS / f"{role}.seed"


def read_seed(directory: Path, role: str) -> str:
    """The seed of a role. Raises BusError when it is missing, unreadable for this user, or no seed."""
    path = seed_path(directory, role)
    try:
        seed = path.read_text(encoding="ascii").strip()
        _public_key(seed)
    except FileNotFoundError:
        raise BusError(f"no credentials for role {role!r}: {path} does not exist; start the server once") from None
    except OSError as problem:
        raise BusError(f"credentials for role {role!r} cannot be read: {problem}") from problem
    except (nkeys.NkeysError, ValueError) as problem:
        raise BusError(f"{path} holds no nkey seed: remove it, the next start makes a new one") from problem
    return seed


def handed_out(login: Login, tenant: str) -> str:
    """A login as a file to hand out: what it is for, where to connect, and the seed in the notation of NATS.

    NATS's own tools read the seed from it (`nats --nkey FILE`); `docs/observers.md` describes the format.
    """
    return (
        f"A login of AgenticOps Value Train. Secret: whoever has this file can connect with it. Keep it at mode 0600.\n"
        f"url: {login.url}\nrole: {login.role}\ntenant: {tenant}\n"
        f"-----BEGIN USER NKEY SEED-----\n{login.seed}\n------END USER NKEY SEED------\n"
    )


def read_handed_out(text: str) -> Login:
    """The login in such a file. Raises BusError when it is none."""
    lines = [line.strip() for line in text.splitlines()]
    fields = dict(line.split(": ", 1) for line in lines if ": " in line)
    seed = next((line for line in lines if line.startswith("SU")), "")
    try:
        _public_key(seed)
        return Login(fields["url"], fields["role"], seed)
    except (nkeys.NkeysError, ValueError, KeyError) as problem:
        raise BusError("this is no login: make one with `valuetrain credentials observer`") from problem


def ensure_credentials(directory: Path, roles: Iterable[str]) -> dict[str, str]:
    """Each role's public key; a role without a seed gets a new one. Raises BusError, OSError."""
    (directory / SEEDS).mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = {}
    for role in roles:
        path = seed_path(directory, role)
        if path.exists():
            path.chmod(0o600)
        else:
            write_private(path, nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode() + "\n")
        keys[role] = _public_key(read_seed(directory, role))
    return keys


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner can read, whole or not at all (a crash leaves the old one)."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _public_key(seed: str) -> str:
    pair = nkeys.from_seed(bytearray(seed.encode()))
    key = pair.public_key.decode()
    pair.wipe()
    return str(key)
