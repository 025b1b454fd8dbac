"""`audit export` and `audit verify FILE.zip`: checked without the home it came from, whatever was done to the file."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from autopilot.signing import public_pem, sign
from schemas.envelope import decode_event, encode_event
from store.chain import GENESIS, link
from store.checkpoints import fingerprint, load_key
from tests.audit.homes import CONTENT, STREAM, Place, completed

Files = dict[str, bytes]
Tamper = Callable[[Files], object]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, blank: Path) -> tuple[Place, Path, Path]:
    """A bundle and the public key somebody was given before; the home is gone when the bundle is checked."""
    directory = tmp_path_factory.mktemp("exported")
    place = completed(directory / "home", blank)
    code, document = place.run("audit", "export", STREAM.name, "-o", directory / "evidence.zip")
    assert code == 0
    events = len(place.rig.log)
    assert (document["events"], document["signed_events"], document["checkpoints"]) == (events, events, 2)
    key = directory / "given.pem"
    key.write_bytes(place.home.record_key.with_name("record.pem.pub").read_bytes())
    return place, directory / "evidence.zip", key


def files_of(path: Path) -> Files:
    with zipfile.ZipFile(path) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist()}


def write(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    return path


def moved(exported: tuple[Place, Path, Path], tmp_path: Path) -> tuple[Place, Path, Path]:
    """The same bundle, key and commands on a machine that has no home."""
    place, bundle, key = exported
    elsewhere = Place(type(place.home)(tmp_path / "no" / "home"), place.rig)
    return elsewhere, bundle, key


def test_the_bundle_is_clean_anywhere_and_says_whom_it_trusted(
    exported: tuple[Place, Path, Path], tmp_path: Path
) -> None:
    place, bundle, key = moved(exported, tmp_path)
    code, document = place.run("audit", "verify", bundle)
    assert (code, document["findings"]) == (0, [])
    assert (document["session"], document["signatures"], document["artifacts"]) == (STREAM.name, 1, 5)
    ((trusted),) = document["trusted"]
    assert (trusted["from"], trusted["in_bundle"]) == ("keys/record/record.pem.pub", True)
    assert "only that the bundle fits together" in place.say("audit", "verify", bundle)
    code, document = place.run("audit", "verify", bundle, "--key", key)
    assert (code, document["findings"]) == (0, [])
    assert document["trusted"] == [{"key": trusted["key"], "from": str(key), "in_bundle": False}]
    assert "only that" not in place.say("audit", "verify", bundle, "--key", key)
    assert not place.home.path.exists()


def test_the_same_session_gives_the_same_bytes(exported: tuple[Place, Path, Path], tmp_path: Path) -> None:
    place, bundle, _ = exported
    place.run("audit", "export", STREAM.name, "-o", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["again.zip"]


def test_it_holds_no_private_key(exported: tuple[Place, Path, Path]) -> None:
    place, bundle, _ = exported
    everything = b"".join(files_of(bundle).values())
    for name in ("record.pem", "signing.pem"):
        assert place.home.record_key.with_name(name).read_bytes() not in everything
    assert b"PRIVATE KEY" not in everything


class Page(HTMLParser):
    """What a browser would make of a page: its tags, and what they would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_reports_are_readable_escaped_and_need_nothing_else(exported: tuple[Place, Path, Path]) -> None:
    files = files_of(exported[1])
    page = Page()
    page.feed(files["report.html"].decode())
    assert page.tags.isdisjoint({"script", "a", "img", "link", "iframe"})
    assert page.attributes <= {"lang", "charset", "http-equiv", "content"}
    assert "<script>alert(1)</script>" in page.text, "shown as the text it is"
    assert "Flag malignant tumours" in page.text
    markdown = files["report.md"].decode()
    assert "&lt;script&gt;alert(1)" in markdown
    assert r"\[click\](javascript" in markdown
    assert r"\| " in markdown
    assert "| session\\_completed |" in markdown
    assert "dana, erik" in markdown


# Tampering


def lines(files: Files) -> list[bytes]:
    return files["events.jsonl"].splitlines(keepends=True)


def change_event(files: Files) -> None:
    rows = lines(files)
    rows[6] = rows[6].replace(b"plan", b"plot")
    files["events.jsonl"] = b"".join(rows)


def remove_event(files: Files) -> None:
    rows = lines(files)
    files["events.jsonl"] = b"".join(rows[:6] + rows[7:])


def insert_event(files: Files) -> None:
    rows = lines(files)
    files["events.jsonl"] = b"".join([*rows[:6], rows[2], *rows[6:]])


def append_event(files: Files) -> None:
    rows = lines(files)
    false = encode_event(decode_event(rows[-1].strip())).replace(
        b'"sequence":%d,' % len(rows), b'"sequence":%d,' % (len(rows) + 1)
    )
    files["events.jsonl"] = b"".join([*rows, false + b"\n"])


def reorder_events(files: Files) -> None:
    rows = lines(files)
    files["events.jsonl"] = b"".join([*rows[:6], rows[7], rows[6], *rows[8:]])


def truncate_events(files: Files) -> None:
    files["events.jsonl"] = b"".join(lines(files)[:10])


def truncate_with_chain(files: Files) -> None:
    truncate_events(files)
    chain = json.loads(files["chain.json"])
    files["chain.json"] = json.dumps(chain | {"events": chain["events"][:10]}).encode()


def rewrite_history(files: Files) -> None:
    change_event(files)
    chain, previous = json.loads(files["chain.json"]), GENESIS
    for entry, raw in zip(chain["events"], files["events.jsonl"].splitlines(), strict=True):
        previous = link(previous, raw)
        entry[2] = previous.hex()
    files["chain.json"] = json.dumps(chain).encode()


def rename(files: Files, change: Callable[[bytes], bytes], part: str) -> None:
    (name,) = [n for n in files if n.endswith(part)]
    files[name] = change(files[name])


def checkpoint_with(files: Files, name: str, value: str) -> None:
    listed = json.loads(files["checkpoints.json"])
    listed[0][name] = value
    files["checkpoints.json"] = json.dumps(listed).encode()


def another_provenance(files: Files) -> None:
    """Signed by the real kind of envelope, but by a key that was put into the bundle for it."""
    key = Ed25519PrivateKey.generate()
    rename(files, lambda _: sign(CONTENT["proof.json"], key), "proof.json.dsse.json")
    files["keys/signing/signing.pem.pub"] = public_pem(key.public_key())


def other_signing_key(files: Files) -> None:
    files["keys/signing/signing.pem.pub"] = public_pem(Ed25519PrivateKey.generate().public_key())


TAMPERINGS: dict[str, tuple[Tamper, str, str]] = {
    "an event changed": (change_event, "event 7", "changed"),
    "an event removed": (remove_event, "event 7", "removed"),
    "an event inserted": (insert_event, "event 7", "inserted"),
    "an event appended": (append_event, "event {next}", "inserted"),
    "events reordered": (reorder_events, "event 7", "reordered"),
    "events cut off": (truncate_events, "event 11", "truncated"),
    "events and chain cut off": (truncate_with_chain, "event 11", "truncated"),
    "all hashes computed anew": (rewrite_history, "event {signed}", "changed"),
    "no events": (lambda f: f.pop("events.jsonl"), "event 1", "truncated"),
    "an unreadable chain": (lambda f: f.update({"chain.json": b"{"}), "event 1", "inserted"),
    "a checkpoint's bytes": (lambda f: checkpoint_with(f, "body", "e30="), "checkpoint 1", "changed"),
    "a checkpoint's signature": (lambda f: checkpoint_with(f, "signature", "AAAA"), "checkpoint 1", "changed"),
    "a checkpoint's number": (lambda f: checkpoint_with(f, "number", "7"), "checkpoint 7", "inserted"),
    "no checkpoints": (lambda f: f.update({"checkpoints.json": b"[]"}), "file checkpoints.json", "changed"),
    "unreadable checkpoints": (lambda f: f.update({"checkpoints.json": b"[1]"}), "file checkpoints.json", "unreadable"),
    "an artifact changed": (lambda f: rename(f, bytes.upper, "plan.json"), "artifact plan.json", "changed"),
    "an artifact removed": (
        lambda f: f.pop(next(n for n in f if n.endswith("plan.json"))), "artifact plan.json", "removed"),
    "provenance by another key": (another_provenance, "artifact proof.json.dsse.json", "changed"),
    "another signing key": (other_signing_key, "signature proof.json.dsse.json (event {sign})", "changed"),
    "no signing key": (
        lambda f: f.pop("keys/signing/signing.pem.pub"), "signature proof.json.dsse.json (event {sign})", "changed"),
    "a report changed": (lambda f: rename(f, bytes.upper, "report.html"), "file report.html", "changed"),
    "a report removed": (lambda f: f.pop("report.md"), "file report.md", "removed"),
    "a file added": (lambda f: f.update({"artifacts/extra": b"x"}), "file artifacts/extra", "inserted"),
    "no manifest": (lambda f: f.pop("manifest.json"), "file manifest.json", "removed"),
    "no signature": (lambda f: f.pop("manifest.sig"), "file manifest.sig", "removed"),
    "the manifest changed": (lambda f: rename(f, bytes.upper, "manifest.json"), "file manifest.json", "unreadable"),
    "the manifest rewritten": (
        lambda f: f.update({"manifest.json": f["manifest.json"].replace(b'"format": 1', b'"format": 2')}),
        "file manifest.json", "changed"),
}  # fmt: skip


@pytest.mark.parametrize("how", list(TAMPERINGS))
def test_every_kind_of_tampering_is_found_and_the_first_bad_thing_named(
    exported: tuple[Place, Path, Path], tmp_path: Path, how: str
) -> None:
    place, bundle, key = moved(exported, tmp_path)
    tamper, where, problem = TAMPERINGS[how]
    types = [e.type for e in place.rig.log]
    named = where.format(
        next=len(types) + 1,
        signed=next(n for n in _signed_versions(bundle) if n >= 7),
        sign=types.index("effect_recorded", types.index("effect_requested", types.index("phase_completed"))) + 1,
    )
    files = files_of(bundle)
    tamper(files)
    spoilt = write(tmp_path / "spoilt.zip", files)
    trusting: list[tuple[str | Path, ...]] = [(), ("--key", key)]
    for words in trusting:
        assert place.findings(spoilt, *words)[0] == (named, problem)


def _signed_versions(bundle: Path) -> list[int]:
    listed = json.loads(files_of(bundle)["checkpoints.json"])
    bodies = [json.loads(base64.b64decode(c["body"])) for c in listed]
    return sorted(head[3] for body in bodies for head in body["heads"] if head[2] == STREAM.name)


def test_a_bundle_signed_anew_by_somebody_else_is_found_with_the_key(
    exported: tuple[Place, Path, Path], tmp_path: Path
) -> None:
    place, bundle, key = moved(exported, tmp_path)
    files = files_of(bundle)
    rewrite_history(files)
    forger = load_key(tmp_path / "forger.pem")
    files["keys/record/record.pem.pub"] = (tmp_path / "forger.pem.pub").read_bytes()
    files["checkpoints.json"] = b"[]"
    manifest = json.loads(files["manifest.json"])
    manifest["files"] = {
        n: [hashlib.sha256(c).hexdigest(), len(c)] for n, c in files.items() if not n.startswith("manifest")
    }
    files["manifest.json"] = json.dumps(manifest).encode()
    files["manifest.sig"] = base64.b64encode(forger.sign(files["manifest.json"]))
    forged = write(tmp_path / "forged.zip", files)
    code, document = place.run("audit", "verify", forged)
    assert (code, document["signed_events"]) == (0, 0), "it fits together, and says that nothing is under a checkpoint"
    assert document["trusted"][0]["key"] == fingerprint(forger.public_key())
    assert place.findings(forged, "--key", key) == [("file manifest.json", "changed")]


def test_a_damaged_file_is_named(exported: tuple[Place, Path, Path], tmp_path: Path) -> None:
    place, bundle, _ = moved(exported, tmp_path)
    content = bytearray(bundle.read_bytes())
    content[content.index(b"artifacts/") + 36] ^= 0xFF  # inside the first artifact's compressed bytes
    (tmp_path / "damaged.zip").write_bytes(content)
    assert place.findings(tmp_path / "damaged.zip")[0][1] in ("unreadable", "changed")
    (tmp_path / "cut.zip").write_bytes(bundle.read_bytes()[:500])
    code, document = place.run("audit", "verify", tmp_path / "cut.zip")
    assert code == 1
    assert "no readable ZIP" in document["error"]["message"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_there_twice_is_found(exported: tuple[Place, Path, Path], tmp_path: Path) -> None:
    place, bundle, _ = moved(exported, tmp_path)
    shutil.copy(bundle, tmp_path / "twice.zip")
    with zipfile.ZipFile(tmp_path / "twice.zip", "a") as archive:
        archive.writestr("report.md", files_of(bundle)["report.md"])
    assert place.findings(tmp_path / "twice.zip") == [("file report.md", "inserted")]
