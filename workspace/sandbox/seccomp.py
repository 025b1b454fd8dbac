"""Which system calls a container may make: those the engine allows anyway, without new namespaces and mounts, and with
sockets of the usual families only."""

from __future__ import annotations

import json
import platform
from typing import Any

_ALLOW, _ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
_NEW_USER = 0x10000000
_FAMILIES = (1, 2, 10, 16)
"""Unix, version 4, version 6, netlink. Others (a virtual machine's line to its host) know no network namespaces."""
_TAKEN = frozenset(
    ("unshare", "setns", "mount", "mount_setattr", "move_mount", "open_tree", "fsopen", "fsmount", "fsconfig", "fspick",
     "umount", "umount2", "pivot_root", "chroot", "clone", "clone3", "socket")
)  # fmt: skip


def narrowed(profile: str) -> str:
    """The engine's profile with less in it. Raises ValueError for one that cannot be read, or allows what it does not
    name."""
    document: dict[str, Any] = json.loads(profile)
    if document.get("defaultAction") != _ERRNO:
        raise ValueError(f"it allows what it does not name ({document.get('defaultAction')})")
    kept = []
    for rule in document["syscalls"]:
        if names := [name for name in rule["names"] if name not in _TAKEN]:
            kept.append({**rule, "names": names})
    flags = 1 if platform.machine().startswith("s390") else 0
    added = [
        _rule("clone", _ALLOW, flags, _NEW_USER, "SCMP_CMP_MASKED_EQ"),
        {"names": ["clone3"], "action": _ERRNO, "errnoRet": 38},  # its flags cannot be seen; libraries then use clone
        *(_rule("socket", _ALLOW, 0, family, "SCMP_CMP_EQ") for family in _FAMILIES),
    ]
    return json.dumps({**document, "syscalls": [*kept, *added]})


def _rule(name: str, action: str, index: int, value: int, operator: str) -> dict[str, Any]:
    return {
        "names": [name],
        "action": action,
        "args": [{"index": index, "value": value, "valueTwo": 0, "op": operator}],
    }
