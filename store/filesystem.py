"""Is this place fit for a SQLite record? WAL needs shared memory and locks that network file systems do not honour."""

from __future__ import annotations

import re
from pathlib import Path

from store.port import StoreError

MOUNTS = Path("/proc/mounts")
"""Where Linux lists mounts; absent elsewhere, and then nothing is refused."""

_KERNEL = ("9p", "afs", "beegfs", "ceph", "cifs", "davfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs")
_WINDOWS = ("smb", "smb2", "smb3", "smbfs")
_FUSE = ("ceph-fuse", "davfs2", "glusterfs", "rclone", "s3fs", "smbnetfs", "sshfs")
NETWORK = frozenset((*_KERNEL, *_WINDOWS, *(f"fuse.{name}" for name in _FUSE)))


def file_system(path: Path) -> tuple[str, str] | None:
    """Mount point and type of the file system that holds `path` (which need not exist); None when unknown."""
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:
        return None
    resolved = path.resolve()
    found: tuple[str, str] | None = None
    for line in lines:
        _device, point, kind, *_rest = line.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point)  # a space is written \040
        if not resolved.is_relative_to(point):
            continue
        # Mounts are listed oldest first: of two on the same point the later one is seen.
        if found is None or len(point) >= len(found[0]):
            found = (point, kind)
    return found


def refuse_network_file_system(path: Path) -> None:
    """Raises StoreError naming path and type when `path` lies on a network file system."""
    found = file_system(path)
    if found is None or found[1] not in NETWORK:
        return
    if found == ("/", "9p"):
        return  # some container sandboxes present their own root disk this way, and lock it properly
    raise StoreError(
        f"the record {path} would lie on a network file system ({found[1]}, mounted at {found[0]}), where SQLite "
        "cannot keep it safe: choose a local disk, or use PostgreSQL"
    )
