"""`valuetrain audit verify` on a home: whatever was done to the record's rows is found, the first bad event named."""

from __future__ import annotations

import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from cli.checkpointing import Checkpointing
from conductor import loading
from conductor.service import Conductor
from conductor.snapshots import encode
from conductor.state import SessionState
from schemas.commands import RecordDeadLetter
from schemas.envelope import CommandEnvelope, StreamId, encode_event
from store.port import StoreError
from store.sqlite import SqliteStore
from tests.audit.homes import STREAM, Place
from tests.conductor.rig import MACHINE, TENANT

AT = f"session {STREAM.name} event"
IN = f"tenant = 'default' AND stream = '{STREAM.name}'"
HEAD = f"UPDATE streams SET version = 10, hash = (SELECT hash FROM events WHERE {IN} AND sequence = 10)"


def test_an_untouched_record_is_clean(place: Place) -> None:
    code, document = place.run("audit", "verify")
    assert (code, document["findings"]) == (0, [])
    assert (document["events"], document["artifacts"]) == (len(place.rig.log), 5)
    made = document["checkpoints"]
    assert (made["count"], made["signed_events"], made["unsigned_events"]) == (2, len(place.rig.log), 0)
    assert [t["from"] for t in document["trusted"]] == [str(place.home.record_key) + ".pub"]
    assert "Nothing was changed." in place.say("audit", "verify")


TAMPERINGS: dict[str, tuple[list[str], tuple[str, str]]] = {
    "changed": (
        [f"UPDATE events SET raw = replace(raw, 'plan', 'plot') WHERE {IN} AND sequence = 7"],
        ("7", "changed"),
    ),
    "removed": ([f"DELETE FROM events WHERE {IN} AND sequence = 7"], ("7", "removed")),
    "inserted": (
        [
            f"UPDATE events SET sequence = -sequence WHERE {IN} AND sequence >= 7",
            f"UPDATE events SET sequence = 1 - sequence WHERE {IN} AND sequence < 0",
            "INSERT INTO events SELECT (SELECT max(position) + 1 FROM events), tenant, kind, stream, 7, 'forged', raw, "
            f"hash FROM events WHERE {IN} AND sequence = 6",
        ],
        ("7", "inserted"),
    ),
    "reordered": (
        [
            f"UPDATE events SET sequence = -1 WHERE {IN} AND sequence = 7",
            f"UPDATE events SET sequence = 7 WHERE {IN} AND sequence = 8",
            f"UPDATE events SET sequence = 8 WHERE {IN} AND sequence = -1",
        ],
        ("7", "reordered"),
    ),
    "truncated": ([f"DELETE FROM events WHERE {IN} AND sequence > 10"], ("11", "truncated")),
    "truncated with its head": ([f"DELETE FROM events WHERE {IN} AND sequence > 10", HEAD], ("11", "truncated")),
    "emptied with its head": (
        [f"DELETE FROM events WHERE {IN}", f"DELETE FROM streams WHERE name = '{STREAM.name}'"],
        ("1", "truncated"),
    ),
}


@pytest.mark.parametrize("how", list(TAMPERINGS))
def test_what_was_done_to_the_rows_is_named(place: Place, how: str) -> None:
    statements, (sequence, problem) = TAMPERINGS[how]
    place.sql(*[s.replace("replace(raw,", "CAST(replace(CAST(raw AS TEXT),").replace("'plot')", "'plot') AS BLOB)")
                for s in statements])  # fmt: skip
    assert place.findings() == [(f"{AT} {sequence}", problem)]
    assert "THE RECORD WAS CHANGED." in place.say("audit", "verify")


def relinked(place: Place) -> None:
    """Change event 7 and compute every hash after it, and the head, anew: only a signature can tell."""
    from schemas.envelope import decode_event
    from store.chain import GENESIS, link

    with closing(SqliteStore.open(place.home.record)) as store:
        rows = list(store.read_raw(STREAM))
    previous = GENESIS
    statements = []
    for row in rows:
        envelope = decode_event(row.raw)
        raw = row.raw
        if row.sequence == 7:
            raw = encode_event(envelope).replace(b"plan", b"plot")
            assert raw != row.raw
        previous = link(previous, raw)
        statements.append(
            f"UPDATE events SET raw = x'{raw.hex()}', hash = x'{previous.hex()}' "
            f"WHERE {IN} AND sequence = {row.sequence}"
        )
    place.sql(*statements, f"UPDATE streams SET hash = x'{previous.hex()}'")


def test_history_written_anew_with_all_hashes_is_found_by_the_signature(place: Place) -> None:
    relinked(place)
    ((where, problem),) = place.findings()
    assert problem == "changed"
    with closing(SqliteStore.open(place.home.record, read_only=True)) as store:
        first = min(h[0] for c in store.checkpoints() for h in [_heads(c.body)] if h[0] >= 7)
    assert where == f"{AT} {first}", "the first signed event whose history is another"


def _heads(body: bytes) -> tuple[int, bytes]:
    from store.checkpoints import parse

    return parse(body).heads[STREAM]


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("DELETE FROM checkpoints WHERE number = 1", ("checkpoint 1", "removed")),
        ("UPDATE checkpoints SET signature = zeroblob(64) WHERE number = 2", ("checkpoint 2", "changed")),
        ("UPDATE checkpoints SET body = CAST(replace(CAST(body AS TEXT), '\"time\":\"2', '\"time\":\"1') AS BLOB) "
         "WHERE number = 1", ("checkpoint 1", "changed")),
    ],
)  # fmt: skip
def test_a_tampered_checkpoint_is_named(place: Place, statement: str, found: tuple[str, str]) -> None:
    place.sql(statement)
    assert place.findings() == [found]


def test_checkpoints_by_another_key_are_found(place: Place, tmp_path: Path) -> None:
    """One who wrote a history of their own signed it with a key of their own: the real public key says so."""
    kept = tmp_path / "kept.pem"
    kept.write_bytes(place.home.record_key.with_name("record.pem.pub").read_bytes())
    for path in (place.home.record_key, place.home.record_key.with_name("record.pem.pub")):
        path.unlink()
    place.sql("DELETE FROM checkpoints")
    place.sign()
    assert place.findings() == [], "the home's own key is all it has to go by"
    assert place.findings("--key", kept) == [("checkpoint 1", "changed")]
    assert place.run("audit", "verify", "--key", tmp_path / "none.pem")[0] == 1


def test_a_replaced_key_stays_trusted_for_what_it_signed(place: Place) -> None:
    key = place.home.record_key
    key.unlink()
    key.with_name("record.pem.pub").rename(key.with_name("record-1.pem.pub"))
    place.sql("INSERT INTO streams VALUES ('default', 'drive', 'd', 0, zeroblob(32), 0, 1000)")
    place.sign()
    place.sql("DELETE FROM streams WHERE name = 'd'", "DELETE FROM checkpoints WHERE number = 3")
    assert place.findings() == []
    assert len(place.run("audit", "verify")[1]["trusted"]) == 2


def test_a_lost_or_changed_artifact_is_found(place: Place) -> None:
    path = place.blobs.path(place.put("plan.json"))
    path.chmod(0o600)
    path.write_bytes(b"other")
    assert place.findings() == [(f"artifact plan.json of {STREAM.name}", "changed")]
    path.unlink()
    assert place.findings() == [(f"artifact plan.json of {STREAM.name}", "removed")]


def test_lost_or_changed_bytes_of_a_dead_letter_are_found(place: Place) -> None:
    raw = b"what nobody could read"
    sha256, size = place.blobs.put(raw)
    command = RecordDeadLetter(
        consumer="conductor", source="VT_COMMANDS", subject="vt.default.cmd.s1.decide_gate.operator", sequence=7,
        deliveries=8, reason="poison", trace="", given_up=place.rig.now, sha256=sha256, size=size,
    )  # fmt: skip
    stream = StreamId(TENANT, "system", "dl-1")
    letter = CommandEnvelope("c-letter", stream, place.rig.now, MACHINE, "conductor", "dl-1", "", command)
    with closing(SqliteStore.open(place.home.record)) as store:
        Conductor(store, TENANT)._handle([letter])
    code, document = place.run("audit", "verify")
    assert (code, document["findings"], document["dead_letters"]) == (0, [], 1)
    assert "5 artifacts and 1 dead letter checked" in place.say("audit", "verify")
    path = place.blobs.path(sha256)
    path.chmod(0o600)
    path.write_bytes(b"other")
    assert place.findings() == [("dead letter dl-1", "changed")]
    path.unlink()
    assert place.findings() == [("dead letter dl-1", "removed")]


# When checkpoints are made


def test_the_key_is_private_and_made_on_demand(place: Place) -> None:
    key = place.home.record_key
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.chmod(0o644)
    with (
        closing(SqliteStore.open(place.home.record)) as store,
        pytest.raises(StoreError, match=r"record\.pem can be read by others"),
    ):
        Checkpointing(store, key)


@pytest.mark.parametrize(
    ("events", "seconds"), [(1, 600.0), (10_000, 0.01)], ids=["after so many events", "after so many seconds"]
)
def test_a_running_system_signs_at_intervals(place: Place, events: int, seconds: float) -> None:
    async def scenario(store: SqliteStore) -> int:
        signing = Checkpointing(store, place.home.record_key, events=events, seconds=seconds, look=0.005)
        committed, made = anyio.Event(), anyio.Event()
        sign: Callable[[], object] = signing.sign

        def counted() -> None:
            sign()
            anyio.from_thread.run_sync(made.set)

        signing.sign = counted  # type: ignore[method-assign]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(signing.run, lambda: committed)
            await anyio.lowlevel.checkpoint()
            place.rig.send(place.rig.claim_command(), "evaluation")  # refused, which is an event too
            place.record()
            committed.set()
            with anyio.fail_after(10):
                await made.wait()
            tasks.cancel_scope.cancel()
        return len(store.checkpoints())

    with closing(SqliteStore.open(place.home.record)) as store:
        assert anyio.run(scenario, store) == 3
    assert place.findings() == []


def test_the_last_checkpoint_is_made_even_when_the_system_is_cancelled(place: Place) -> None:
    place.rig.send(place.rig.claim_command(), "evaluation")
    place.record()

    async def scenario(store: SqliteStore) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await Checkpointing(store, place.home.record_key).finish()

    with closing(SqliteStore.open(place.home.record)) as store:
        anyio.run(scenario, store)
        assert len(store.checkpoints()) == 3
    assert place.run("audit", "verify")[1]["checkpoints"]["unsigned_events"] == 0


def test_a_forged_snapshot_is_found_and_may_be_deleted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "LONG", 1)
    with closing(SqliteStore.open(place.home.record)) as store:
        state = loading.load(store, STREAM)
        assert isinstance(state, SessionState)
        assert place.run("audit", "verify")[0] == 0
        kept = store.snapshot(STREAM)
        assert kept is not None
        store.keep_snapshot(replace(kept, body=encode(replace(state, interventions=99))))
    code, document = place.run("audit", "verify")
    assert (code, document["findings"][0]["where"]) == (1, f"snapshot of session {STREAM.name}")
    assert place.run("db", "forget-snapshots") == (0, {"forgotten": 1})
    assert place.run("audit", "verify")[0] == 0
