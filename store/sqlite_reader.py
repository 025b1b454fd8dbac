"""A process that reads a stream from a SQLite record and checks its links, for `store.sqlite_ahead`.

Run as a file by itself, and of the standard library alone: it starts in some hundredths of a second. It says nothing
about what is wrong: where it does not go on, whoever asked reads for itself.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from array import array
from hashlib import sha256
from struct import Struct
from typing import Any, BinaryIO

FRAME = Struct("<IIQ")
"""Of some events: how many, bytes of all ids (UTF-8, a line feed between two), bytes of the events as stored. Then come
the ids, the length of each event (four bytes, this machine's order), the hashes (32 bytes each), the events."""

LENGTHS = "I"

_MAPPED = 2**40
_ROWS = """SELECT sequence, id, raw, hash FROM events
    WHERE tenant = ? AND kind = ? AND stream = ? AND sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?"""


def main(question: BinaryIO, answer: BinaryIO) -> None:
    """Answer one question, a JSON object: `record` (its URI), `stream` (tenant, kind, name), `after` (a sequence),
    `hash` (of that event, hexadecimal), `last` (sequence), `page` (events at once). Raises sqlite3.Error, and OSError
    when nobody listens."""
    asked: dict[str, Any] = json.load(question)
    after, previous = asked["after"], bytes.fromhex(asked["hash"])
    db = sqlite3.connect(asked["record"], uri=True, isolation_level=None)
    # Faster, but a disk that fails kills the process that reads this way: which does no harm here.
    db.execute(f"PRAGMA mmap_size={_MAPPED}")
    while rows := db.execute(_ROWS, (*asked["stream"], after, asked["last"], asked["page"])).fetchall():
        sequences, ids, raws, hashes = zip(*rows, strict=True)
        if sequences != tuple(range(after + 1, after + 1 + len(rows))):
            return
        for raw, hash_ in zip(raws, hashes, strict=True):
            if sha256(previous + raw).digest() != hash_:
                return
            previous = hash_
        after = sequences[-1]
        names, bodies = "\n".join(ids).encode(), b"".join(raws)
        frame = FRAME.pack(len(rows), len(names), len(bodies))
        answer.write(b"".join((frame, names, array(LENGTHS, map(len, raws)).tobytes(), *hashes, bodies)))
        answer.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
