"""A new key for the record: what the old one signed stays trusted, and no crash makes an honest record look forged."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from pathlib import Path

import pytest

from cli import record_key
from store.checkpoints import fingerprint, load_key, load_public_key
from store.sqlite import SqliteStore
from tests.audit.homes import STREAM, Place


def more(place: Place) -> None:
    """One more event, not signed yet."""
    place.rig.send(place.rig.claim_command(), "evaluation")
    place.record()


def signers(place: Place) -> list[str]:
    with closing(SqliteStore.open(place.home.record, read_only=True)) as store:
        return [each.key for each in store.checkpoints()]


def test_old_and_new_signatures_are_trusted(place: Place, tmp_path: Path) -> None:
    old = fingerprint(load_key(place.home.record_key).public_key())
    kept = tmp_path / "kept.pem"
    kept.write_bytes(place.home.record_key.with_name("record.pem.pub").read_bytes())
    more(place)
    code, document = place.run("audit", "rotate-key")
    assert (code, document["old"]) == (0, old)
    assert signers(place) == [old, old, old], "the old key signs what it had not"
    more(place)
    place.sign()
    new = document["new"]
    assert signers(place) == [old, old, old, new]
    assert fingerprint(load_public_key(Path(document["retired"]))) == old
    assert stat.S_IMODE(place.home.record_key.stat().st_mode) == 0o600
    assert place.findings() == []
    public = place.home.record_key.with_name("record.pem.pub")
    assert fingerprint(load_public_key(public)) == new
    assert place.findings("--key", kept) == [("checkpoint 4", "changed")]
    assert place.findings("--key", public) == [("checkpoint 1", "changed")]
    bundle = tmp_path / "evidence.zip"
    assert place.run("audit", "export", STREAM.name, "-o", bundle)[0] == 0
    assert place.findings(bundle, "--key", kept, "--key", public) == []
    assert place.findings(bundle) == []
    assert "from now on" in place.say("audit", "rotate-key")
    assert place.findings() == []


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_crash_in_between_leaves_nothing_that_looks_forged(
    place: Place, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends just before the first, second or third file is in place, and the system goes on with what is there."""
    replace, done = os.replace, 0

    def crash(source: Path, target: Path) -> None:
        nonlocal done
        if done == step:
            raise OSError(28, "no space left on device")
        done += 1
        replace(source, target)

    before = load_key(place.home.record_key).private_bytes_raw()
    with monkeypatch.context() as patch:
        patch.setattr(record_key.os, "replace", crash)
        code, document = place.run("audit", "rotate-key")
    assert code == 1
    assert "the old one stays in use" in document["error"]["message"]
    assert load_key(place.home.record_key).private_bytes_raw() == before
    assert place.findings() == []
    more(place)
    place.sign()
    assert place.findings() == []
    assert place.run("audit", "rotate-key")[0] == 0
    more(place)
    place.sign()
    assert place.findings() == []
    assert not list(place.home.record_key.parent.glob(".*"))


def test_not_while_a_system_runs_and_not_without_a_key(place: Place) -> None:
    for hold in (place.home.locked, place.home.recording):
        with hold("drive"):
            code, document = place.run("audit", "rotate-key")
        assert code == 1
        assert "drive (process" in document["error"]["message"]
    place.home.record_key.unlink()
    code, document = place.run("audit", "rotate-key")
    assert code == 1
    assert "there is no key" in document["error"]["message"]
    assert signers(place) == signers(place)[:2]
