"""One nkey per role: the server knows the public keys, each process gets the seed of its own role and no other."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import nkeys

from bus.port import BusError, Login

SEEDS = "credentials"
_PUBLIC = re.compile(r"U[A-Z2-7]{55}")


def seed_path(directory: Path, role: str) -> Path:
    """Where a role's seed lies below the server's directory."""
    return directory / SEEDS / f"{role}.seed"


def read_seed(directory: Path, role: str, remedy: str = "start the server once") -> str:
    """The seed of a role. Raises BusError when it is missing (`remedy` says what to do), unreadable for this user, or
    no seed."""
    path = seed_path(directory, role)
    try:
        return seed_in(path)
    except FileNotFoundError:
        raise BusError(f"no credentials for role {role!r}: {path} does not exist; {remedy}") from None
    except OSError as problem:
        raise BusError(f"credentials for role {role!r} cannot be read: {problem}") from problem


def seed_in(path: Path) -> str:
    """The seed in a file. Raises OSError, and BusError when it holds none."""
    try:
        seed = path.read_text(encoding="ascii").strip()
        public_key(seed)
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
        public_key(seed)
        return Login(fields["url"], fields["role"], seed)
    except (nkeys.NkeysError, ValueError, KeyError) as problem:
        raise BusError("this is no login: make one with `valuetrain credentials observer`") from problem


def tenant_directory(directory: Path, tenant: str) -> Path:
    """Where the logins of another tenant of the same server are made, to be moved into that tenant's own home."""
    return directory / "tenants" / tenant


def ensure_credentials(directory: Path, roles: Iterable[str]) -> dict[str, str]:
    """Each role's public key; a role without a seed gets a new one. Raises BusError, OSError."""
    (directory / SEEDS).mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = {}
    for role in roles:
        path = seed_path(directory, role)
        if path.exists():
            path.chmod(0o600)
        else:
            write_private(path, _new_seed() + "\n")
        keys[role] = public_key(read_seed(directory, role))
    return keys


def ensure_public_keys(directory: Path, roles: Iterable[str], *, elsewhere: bool = False) -> dict[str, str]:
    """As `ensure_credentials`; the public halves are also written beside the seeds (`<role>.pub`).

    With `elsewhere` a public half alone is enough: its seed was moved to where it is used, or was never here. Raises
    BusError, OSError.
    """
    keys: dict[str, str] = {}
    for role in roles:
        public = directory / SEEDS / f"{role}.pub"
        if elsewhere and public.exists() and not seed_path(directory, role).exists():
            keys[role] = public.read_text(encoding="ascii", errors="replace").strip()
            if not _PUBLIC.fullmatch(keys[role]):
                raise BusError(f"{public} holds no public nkey of a user: put the right one there, or remove it")
        else:
            keys |= ensure_credentials(directory, [role])
            write_private(public, keys[role] + "\n", 0o644)
    return keys


def new_seed(directory: Path, role: str) -> tuple[str, str]:
    """Give a role another seed; its public key before and after. Raises BusError when it had none, OSError."""
    before = public_key(read_seed(directory, role, "there is nothing to replace"))
    seed = _new_seed()
    write_private(seed_path(directory, role), seed + "\n")
    return before, public_key(seed)


def _new_seed() -> str:
    return str(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode())


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file only its owner can read (or as `mode` says), whole or not at all (a crash leaves the old one)."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def public_key(seed: str) -> str:
    """The public half of a seed: what a server is told. Raises NkeysError, ValueError."""
    pair = nkeys.from_seed(bytearray(seed.encode()))
    key = pair.public_key.decode()
    pair.wipe()
    return str(key)
