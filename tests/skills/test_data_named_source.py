"""Rows of a named source reach the skills that open the ticket's data, and only those."""

from __future__ import annotations

import ast
import datetime as dt
import decimal
import hashlib
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agents import discovery
from agents.skill import InputError
from agents.skills.data.loading import load, load_rows
from schemas.ticket import Ticket
from schemas.values import Mode, Role, Snapshot
from tests.skills.test_workbench import Answers, _bench, _known
from workspace.blobs import Blobs

known = _known
ROOT = Path(__file__).resolve().parents[2]
TAKEN = dt.datetime(2026, 11, 21, 9, 30, tzinfo=dt.UTC)


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def snapshot_of(content: bytes, format: Any = "parquet", rows: int = 40) -> Snapshot:
    sha256 = hashlib.sha256(content).hexdigest()
    return Snapshot(
        source="clinic", item="visits", kind="sql", format=format, sha256=sha256, size=len(content), rows=rows,
        taken=TAKEN,
    )  # fmt: skip


def ticket(snapshot: Snapshot | None, **more: Any) -> Ticket:
    return Ticket(**{"id": 1, "title": "Visits", "data": "source:clinic/visits", "snapshot": snapshot} | more)


def staged(folder: Path, content: bytes, format: str = "parquet") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{hashlib.sha256(content).hexdigest()}.{format}").write_bytes(content)
    return folder


def test_the_types_of_a_database_are_those_of_the_train(tmp_path: Path) -> None:
    zone = pa.timestamp("us", tz="UTC")
    content = parquet(
        price=pa.array([decimal.Decimal(f"{n}.250") for n in range(40)]),
        at=pa.array([TAKEN + dt.timedelta(hours=n) for n in range(40)], zone),
        day=pa.array([dt.date(2026, 1, 1) + dt.timedelta(days=n) for n in range(40)]),
        yes=pa.array([None if n == 3 else n % 2 == 0 for n in range(40)]),
        nothing=pa.nulls(40),
        note=pa.array([f"=cmd|' /C calc'!A{n}" for n in range(40)]),
        y=pa.array([n % 2 for n in range(40)], pa.int16()),
    )
    loaded = load(ticket(snapshot_of(content), target="y"), (staged(tmp_path / "source", content),), 10**6)
    kinds = {name: str(kind) for name, kind in loaded.frame.dtypes.items()}
    assert kinds == {
        "price": "float64", "at": "datetime64[us]", "day": "datetime64[us]", "yes": "boolean", "nothing": "float64",
        "note": "str", "y": "int64",
    }  # fmt: skip
    assert loaded.frame["note"][0] == "=cmd|' /C calc'!A0"
    assert (loaded.source.kind, loaded.source.uri) == ("sql", "source:clinic/visits")
    assert loaded.source.snapshot == snapshot_of(content)
    assert loaded.source.description == "Item visits of the source clinic, as it was at 2026-11-21 09:30:00 UTC."


def test_csv_is_read_as_every_other_csv(tmp_path: Path) -> None:
    content = b"a;b\n" + b"".join(f"{n};x{n}\n".encode() for n in range(40))
    found = load_rows(ticket(snapshot_of(content, "csv")), (staged(tmp_path / "s", content, "csv"),), 10**6)
    assert (list(found.frame.columns), len(found.frame)) == (["a", "b"], 40)


def test_what_is_not_the_snapshot_is_not_read(tmp_path: Path) -> None:
    content = parquet(a=list(range(40)), y=list(range(40)))
    folder = staged(tmp_path / "source", content)
    with pytest.raises(InputError, match="nobody fetched 'source:clinic/visits'"):
        load(ticket(None, target="y"), (folder,), 10**6)
    with pytest.raises(InputError, match=r"source:clinic/visits has .* bytes, more than the 100 allowed"):
        load(ticket(snapshot_of(content), target="y"), (folder,), 100)
    (file,) = folder.iterdir()
    file.write_bytes(parquet(a=list(range(40)), y=[1] * 40))
    with pytest.raises(InputError, match="is damaged"):
        load(ticket(snapshot_of(content), target="y"), (folder,), 10**6)
    file.unlink()
    with pytest.raises(InputError, match="does not exist"):
        load(ticket(snapshot_of(content), target="y"), (folder,), 10**6)


def test_bytes_are_refused_by_the_columns_name(tmp_path: Path) -> None:
    content = parquet(a=list(range(40)), picture=[b"\x00"] * 40)
    with pytest.raises(InputError, match="column 'picture' of source:clinic/visits holds binary values"):
        load_rows(ticket(snapshot_of(content)), (staged(tmp_path / "s", content),), 10**6)


def test_every_skill_that_opens_the_ticks_data_says_so() -> None:
    """Or it would find no rows. Whoever imports what loads them opens them, by itself or by `environments.ready`."""
    opens = set()
    for name, cls in discovery.shipped().items():
        tree = ast.parse((ROOT / f"{cls.__module__.replace('.', '/')}.py").read_text("utf-8"))
        imported = {alias.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names}
        if imported & {"load", "load_rows", "ready"}:
            opens.add(name)
    assert opens == {name for name, cls in discovery.shipped().items() if cls.reads_source}
    assert len(opens) > 8


@pytest.mark.parametrize(("skill", "mode", "role", "given"), [
    ("data.source", Mode.DESIGN, Role.DATA, True), ("training.plain", Mode.BUILD, Role.TRAINING, False),
])  # fmt: skip
async def test_rows_are_staged_as_a_copy_for_who_opens_them(
    tmp_path: Path, skill: str, mode: Mode, role: Role, given: bool
) -> None:
    content = parquet(a=list(range(40)))
    snapshot = snapshot_of(content)
    Blobs(tmp_path / "blobs").put(content, sealed=True)
    children = Answers()
    bench = _bench(tmp_path, children, role, mode=mode, ticket=ticket(snapshot), roots=("backlog",))
    await bench.run(skill, {})
    [request] = children.asked
    assert request["roots"][0] == "backlog"
    assert [Path(root).name for root in request["roots"][1:]] == (["source"] if given else [])
    if given:
        (file,) = Path(request["roots"][1]).iterdir()
        assert (file.read_bytes(), file.stat().st_nlink) == (content, 1)
        assert file.name == f"{snapshot.sha256}.parquet"
