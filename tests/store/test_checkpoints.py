"""Signed checkpoints find what one who may rewrite every row could otherwise hide."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from store import checkpoints
from store.checkpoints import CHECKPOINTS, checkpoint, load_key, load_public_key, parse, verify
from store.port import StoreError
from store.sqlite import SqliteStore
from tests.conformance.store import NOON, ONE, TWO, append
from tests.store.test_tampering import Intruder, change, intruder, remove_head

__all__ = ["intruder"]


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    """A signing key."""
    return Ed25519PrivateKey.generate()


@pytest.fixture
def signed(store: SqliteStore, key: Ed25519PrivateKey) -> SqliteStore:
    """Five events of ONE and two of TWO, checkpoints after the third and after all."""
    store.append_batch([append(ONE, 0, 3), append(TWO, 0, 1)])
    assert checkpoint(store, key, NOON) is not None
    store.append_batch([append(ONE, 3, 2), append(TWO, 1, 1)])
    assert checkpoint(store, key) is not None
    return store


def found(store: SqliteStore, key: Ed25519PrivateKey) -> list[tuple[object, int, str]]:
    """What verification says, in short."""
    findings = verify(store, key.public_key()).findings
    return [(finding.stream, finding.sequence, finding.problem) for finding in findings]


def test_a_checkpoint_lists_what_grew(store: SqliteStore, key: Ed25519PrivateKey) -> None:
    assert checkpoint(store, key) is None, "there is nothing to sign"
    store.append_batch([append(ONE, 0, 3), append(TWO, 0)])
    first = checkpoint(store, key, NOON)
    assert checkpoint(store, key) is None, "nothing grew since"
    store.append(append(ONE, 3))
    second = checkpoint(store, key)
    assert first is not None
    assert second is not None
    assert store.checkpoints() == [first, second]
    assert b'"time":"2026-11-21T12:00:00.000000Z"' in first.body
    one, two = parse(first.body), parse(second.body)
    assert {stream: version for stream, (version, _) in one.heads.items()} == {ONE: 3, TWO: 1}
    assert {stream: version for stream, (version, _) in two.heads.items()} == {ONE: 4}
    assert (one.position, two.position) == (4, 5)
    assert two.previous == first.digest
    assert verify(store, key.public_key()).findings == ()


def test_of_two_making_the_same_checkpoint_one_wins(
    store: SqliteStore, key: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(append(ONE, 0))
    checkpoint(store, key)
    monkeypatch.setattr(store, "checkpoints", list)
    assert checkpoint(store, key) is None
    monkeypatch.undo()
    assert len(store.checkpoints()) == 1


def test_an_untouched_record_verifies(signed: SqliteStore, key: Ed25519PrivateKey) -> None:
    verification = verify(signed, key.public_key())
    assert (verification.streams, verification.events, verification.findings) == (2, 7, ())
    assert signed.verify("default").findings == ()


def test_cutting_off_the_tail_and_setting_back_the_head(
    signed: SqliteStore, key: Ed25519PrivateKey, intruder: Intruder
) -> None:
    intruder.sql("DELETE FROM events WHERE :one AND sequence >= 4")
    intruder.set_head(3)
    assert (ONE, 4, "truncated") in found(signed, key)


def test_rewriting_history_with_all_hashes(signed: SqliteStore, key: Ed25519PrivateKey, intruder: Intruder) -> None:
    change(intruder)
    intruder.relink(3)
    intruder.set_head(5)
    assert found(signed, key) == [(ONE, 3, "changed")]


def test_removing_a_whole_stream(signed: SqliteStore, key: Ed25519PrivateKey, intruder: Intruder) -> None:
    intruder.sql("DELETE FROM events WHERE :one")
    remove_head(intruder)
    assert found(signed, key) == [(ONE, 1, "truncated")]


def test_another_key(signed: SqliteStore) -> None:
    assert found(signed, Ed25519PrivateKey.generate()) == [(CHECKPOINTS, 1, "changed")]


def test_a_changed_checkpoint(signed: SqliteStore, key: Ed25519PrivateKey, intruder: Intruder) -> None:
    last = signed.checkpoints()[-1]
    body = last.body.replace(b'"s-two",2', b'"s-two",1')
    intruder.db.execute("UPDATE checkpoints SET body = ? WHERE number = 2", (body,))
    assert (CHECKPOINTS, 2, "changed") in found(signed, key)


def test_an_unreadable_checkpoint_is_named_once(
    signed: SqliteStore, key: Ed25519PrivateKey, intruder: Intruder
) -> None:
    intruder.db.execute("UPDATE checkpoints SET body = ? WHERE number = 2", (b"{",))
    assert found(signed, key) == [(CHECKPOINTS, 2, "changed")]
    intruder.db.execute("UPDATE checkpoints SET signature = ? WHERE number = 2", (key.sign(b"{"),))
    assert found(signed, key) == [(CHECKPOINTS, 2, "unreadable")]
    with pytest.raises(StoreError, match="a checkpoint cannot be read"):
        checkpoint(signed, key)


def test_a_removed_checkpoint(signed: SqliteStore, key: Ed25519PrivateKey, intruder: Intruder) -> None:
    intruder.db.execute("DELETE FROM checkpoints WHERE number = 1")
    assert found(signed, key) == [(CHECKPOINTS, 1, "removed")]


def test_a_checkpoint_put_in_anothers_place(signed: SqliteStore, key: Ed25519PrivateKey, intruder: Intruder) -> None:
    intruder.db.execute("DELETE FROM checkpoints WHERE number = 1")
    intruder.db.execute("UPDATE checkpoints SET number = 1")
    assert found(signed, key) == [(CHECKPOINTS, 1, "inserted")]


@pytest.mark.parametrize("count", [1, 4, 16])
def test_each_checkpoint_is_checked_once(
    store: SqliteStore, key: Ed25519PrivateKey, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a verification costs grows with the number of checkpoints and no faster."""
    for number in range(count):
        store.append(append(ONE, number))
        assert checkpoint(store, key) is not None
    work: Counter[str] = Counter()
    for name in ("holds", "parse"):
        monkeypatch.setattr(checkpoints, name, counted(work, name, getattr(checkpoints, name)))
    assert found(store, key) == []
    assert work == {"holds": count, "parse": 2 * count}  # once for its own chain, once for the heads it lists


def counted(work: Counter[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, counting its calls."""

    def call(*arguments: Any) -> Any:
        work[name] += 1
        return function(*arguments)

    return call


def test_a_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "audit.pem"
    key = load_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_key(path).private_bytes_raw() == key.private_bytes_raw()
    public = load_public_key(path.with_name("audit.pem.pub"))
    assert public.public_bytes_raw() == key.public_key().public_bytes_raw()
    assert sorted(each.name for each in path.parent.iterdir()) == ["audit.pem", "audit.pem.pub"]


def test_keys_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "audit.pem"
    path.write_text("nothing")
    path.chmod(0o600)
    with pytest.raises(StoreError, match=r"audit\.pem cannot be read"):
        load_key(path)
    with pytest.raises(StoreError, match=r"audit\.pem cannot be read"):
        load_public_key(path)
    other = X25519PrivateKey.generate()
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(StoreError, match="not an ed25519 key"):
        load_key(path)
    path.write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(StoreError, match="not an ed25519 key"):
        load_public_key(path)


def test_a_key_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "audit.pem"
    load_key(path)
    path.chmod(0o644)
    with pytest.raises(StoreError, match="can be read by others"):
        load_key(path)
