"""Reading a long stream on two cores: another process reads it and checks the links, this one makes events of it.

What comes back is the very bytes that were checked. Whether the other process came to the end, met something bad, or
died, is all the same: from where it stopped the record is read here, and whatever is wrong is found and told here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate, pairwise
from pathlib import Path
from typing import BinaryIO

from schemas.envelope import StreamId
from store import sqlite_reader
from store.chain import Linked
from store.rows import stream_key

LONG = 20_000
"""Events from which on it is worth starting a process."""

_PIPE = 2**20  # bytes; a page of events goes in whole


def read_ahead(path: Path, stream: StreamId, after: int, previous: bytes, last: int, page: int) -> Iterator[Linked]:
    """Pages of the events of `stream` in the record at `path` from `after` + 1 to `last`, checked, as far as they go.

    `previous` is the hash of the event `after`, `page` how many events there are in one. Raises nothing.
    """
    question = {
        "record": f"{path.absolute().as_uri()}?mode=ro",
        "stream": stream_key(stream),
        "after": after,
        "hash": previous.hex(),
        "last": last,
        "page": page,
    }
    if not sys.executable or (os.cpu_count() or 1) < 2:
        return
    with suppress(OSError), _started() as process:
        try:
            with process.stdin as asking:  # type: ignore[union-attr]  # both are pipes
                asking.write(json.dumps(question).encode())
            while (found := _page(process.stdout)) is not None:  # type: ignore[arg-type]
                yield found
        finally:
            process.kill()


def _started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", sqlite_reader.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what it cannot do is done here, and told here
        env={},
        pipesize=_PIPE,
    )


def _page(answer: BinaryIO) -> Linked | None:
    """The next one, if it is whole."""
    frame = answer.read(sqlite_reader.FRAME.size)
    if len(frame) < sqlite_reader.FRAME.size:
        return None
    count, names, bodies = sqlite_reader.FRAME.unpack(frame)
    lengths = array(sqlite_reader.LENGTHS)
    size = names + (lengths.itemsize + 32) * count
    known, raws = answer.read(size), answer.read(bodies)
    if len(known) < size or len(raws) < bodies:
        return None
    ids = known[:names].decode().split("\n")
    if len(ids) != count:  # a line feed in an id: none of ours
        return None
    lengths.frombytes(known[names : size - 32 * count])
    return Linked(
        ids,
        [raws[start:end] for start, end in pairwise(accumulate(lengths, initial=0))],
        known[size - 32 * count :],
    )
