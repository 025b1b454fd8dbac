"""The blob store: what goes in comes out, or is named as missing or damaged; a crash leaves nothing half-written."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workspace.blobs import BlobCorrupt, BlobMissing, Blobs, BlobStorageFull


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files(blobs: Blobs) -> list[Path]:
    return [path for path in blobs.directory.rglob("*") if path.is_file()]


@settings(max_examples=30)
@given(content=st.binary(max_size=10_000), sealed=st.booleans())
def test_what_goes_in_comes_out(tmp_path_factory: pytest.TempPathFactory, content: bytes, sealed: bool) -> None:
    directory = tmp_path_factory.mktemp("blobs")
    source = directory / "source"
    source.write_bytes(content)
    store = Blobs(directory / "store")
    put = store.put(source, sealed=sealed)
    assert put == (hashlib.sha256(content).hexdigest(), len(content)) == store.put(content, sealed=sealed)
    assert store.read(put[0], sealed=sealed) == content
    assert store.verify(put[0], sealed=sealed) == len(content)
    assert len(files(store)) == 1


def test_a_file_larger_than_the_copy_buffer(blobs: Blobs, tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    (tmp_path / "large").write_bytes(content)
    sha256, size = blobs.put(tmp_path / "large")
    assert size == len(content)
    assert blobs.path(sha256).read_bytes() == content


def test_open_and_sealed_are_apart(blobs: Blobs) -> None:
    sealed, _ = blobs.put(b"labels", sealed=True)
    assert not blobs.has(sealed)
    assert blobs.has(sealed, sealed=True)
    for ask in (blobs.path, blobs.read, blobs.verify):
        with pytest.raises(BlobMissing):
            ask(sealed)
    assert mode(blobs.path(sealed, sealed=True).parents[1]) == 0o700
    assert mode(blobs.path(sealed, sealed=True)) == 0o400
    plain, _ = blobs.put(b"features")
    assert mode(blobs.path(plain)) == 0o444


def test_a_missing_blob_is_named(blobs: Blobs) -> None:
    with pytest.raises(BlobMissing, match=r"artifact 000000000000… is not stored in .*; restore"):
        blobs.read("0" * 64)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_only_digests_are_names(blobs: Blobs, name: str) -> None:
    with pytest.raises(ValueError, match="not a SHA-256"):
        blobs.path(name)


def test_damage_is_named_and_storing_again_repairs_it(blobs: Blobs) -> None:
    sha256, _ = blobs.put(b"content")
    path = blobs.path(sha256)
    path.chmod(0o644)
    path.write_bytes(b"c0ntent")
    for ask in (blobs.read, blobs.verify):
        with pytest.raises(BlobCorrupt, match="is damaged"):
            ask(sha256)
    blobs.put(b"content")
    assert blobs.read(sha256) == b"content"


def test_a_full_disk_is_named_and_leaves_nothing(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs.put(b"first")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BlobStorageFull, match=r"no space left .* free some space"):
        blobs.put(b"second")
    assert len(files(blobs)) == 1


def test_the_name_appears_only_after_the_content_is_on_the_disk(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        order.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        sync(descriptor)

    def rename(source: str, target: Path) -> None:
        order.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    blobs.put(b"content")
    assert order == ["content", "rename", "directory", "directory"]


def test_an_unreadable_source_is_the_callers_error(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        blobs.put(tmp_path / "missing")
    assert files(blobs) == []


def test_several_processes_store_the_same_at_once(blobs: Blobs) -> None:
    program = "import sys, pathlib, workspace.blobs as m; b = m.Blobs(pathlib.Path(sys.argv[1]))\n"
    program += "for n in range(60): b.put(b'x' * n)"
    root = Path(__file__).parents[2]
    running = [subprocess.Popen([sys.executable, "-c", program, blobs.directory], cwd=root) for _ in range(3)]
    assert [process.wait(30) for process in running] == [0, 0, 0]
    assert len(files(blobs)) == 60
    for path in files(blobs):
        blobs.verify(path.name)


# What a process that died left behind


WRITER = """
import os, sys
from pathlib import Path
from workspace.blobs import Blobs
fifo, directory, sealed = sys.argv[1:]
Blobs(Path(directory)).put(Path(fifo), sealed=sealed == "True")
"""
"""Stores what comes through a pipe: it is in the middle of its draft as long as the pipe is open."""


def writing(blobs: Blobs, fifo: Path, sealed: bool) -> tuple[subprocess.Popen[bytes], int, Path]:
    """A process that is storing, the pipe to it, and its draft."""
    os.mkfifo(fifo)
    process = subprocess.Popen([sys.executable, "-c", WRITER, fifo, blobs.directory, str(sealed)])
    pipe = os.open(fifo, os.O_WRONLY)  # returns once the other side has opened it: its draft is there and locked
    (draft,) = blobs.directory.glob("*/.incoming-*")
    return process, pipe, draft


def age(draft: Path) -> None:
    os.utime(draft, (0, 0))


@pytest.mark.parametrize("sealed", [False, True])
def test_the_draft_of_a_process_that_died_is_swept(blobs: Blobs, tmp_path: Path, sealed: bool) -> None:
    kept, _ = blobs.put(b"kept", sealed=sealed)
    process, pipe, draft = writing(blobs, tmp_path / "fifo", sealed)
    os.write(pipe, b"half of it")
    process.kill()
    process.wait()
    os.close(pipe)
    assert blobs.sweep() == 0, "written to a moment ago: it might be anybody's"
    age(draft)
    assert blobs.sweep() == 1
    assert files(blobs) == [blobs.path(kept, sealed=sealed)]
    assert blobs.sweep() == 0


def test_a_draft_that_is_being_written_is_left_alone_however_old(blobs: Blobs, tmp_path: Path) -> None:
    process, pipe, draft = writing(blobs, tmp_path / "fifo", sealed=False)
    age(draft)
    assert blobs.sweep() == 0
    os.write(pipe, b"all of it")
    os.close(pipe)
    assert process.wait() == 0
    assert blobs.read(hashlib.sha256(b"all of it").hexdigest()) == b"all of it"


def test_there_is_nothing_to_sweep_before_anything_was_stored(blobs: Blobs) -> None:
    assert blobs.sweep() == 0
    assert not blobs.directory.exists()
