"""Loading: what the real sets give, and that everything a user can get wrong is refused with a name and a remedy."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from agents.skill import InputError
from agents.skills.data import files, packaged, tables
from agents.skills.data.loading import Loaded, load
from schemas.ticket import Ticket

LIMIT = 1_000_000
Write = Callable[..., Ticket]


def rows(count: int = 60, header: str = "a,b,y") -> str:
    """A small valid CSV: `a` counts in steps, `b` is text, `y` is 0 or 1."""
    return header + "\n" + "".join(f"{i / 4},{'uvw'[i % 3]},{i % 2}\n" for i in range(count))


def refused(ticket: Ticket, root: Path, limit: int = LIMIT) -> str:
    """The message with which loading is refused."""
    with pytest.raises(InputError) as caught:
        load(ticket, (root,), limit)
    assert caught.value.remedy, "an InputError needs a remedy"
    return str(caught.value)


def loaded(ticket: Ticket, root: Path) -> Loaded:
    return load(ticket, (root,), LIMIT)


# ---- real sets


@pytest.mark.parametrize(
    ("name", "target", "shape"),
    [("wine", "cultivar", (178, 14)), ("votes", "vote", (944, 10)), ("travel", "chosen", (840, 9)),
     ("economy", "unemp", (203, 13))],
)  # fmt: skip
def test_real_files_are_read_whole(data_root: Path, name: str, target: str, shape: tuple[int, int]) -> None:
    found = loaded(Ticket(id=1, title="x", data=f"{name}.csv", target=target), data_root)
    assert found.frame.shape == shape
    assert found.source.rows == shape[0]
    assert found.source.kind == "csv"
    assert found.source.uri == f"{name}.csv"
    assert not found.source.synthetic
    assert found.warnings == ()
    assert found.source.bytes == (data_root / f"{name}.csv").stat().st_size


def test_csv_and_parquet_of_the_same_rows_give_the_same_frame(data_root: Path, tmp_path: Path) -> None:
    for name, target in (("votes", "vote"), ("economy", "unemp")):
        from_csv = loaded(Ticket(id=1, title="x", data=f"{name}.csv", target=target), data_root)
        from_csv.frame.to_parquet(tmp_path / f"{name}.parquet")
        from_parquet = loaded(Ticket(id=1, title="x", data=f"{name}.parquet", target=target), tmp_path)
        pd.testing.assert_frame_equal(from_csv.frame, from_parquet.frame)
        assert from_parquet.source.kind == "parquet"


def test_iso_dates_become_datetimes(data_root: Path) -> None:
    found = loaded(Ticket(id=1, title="x", data="economy.csv", target="unemp"), data_root)
    assert str(found.frame["quarter_start"].dtype) == "datetime64[us]"
    assert found.frame["quarter_start"].iloc[-1] == pd.Timestamp("2009-07-01")


@pytest.mark.parametrize("name", sorted(packaged.SKLEARN))
def test_packaged_sets_have_their_target(name: str) -> None:
    target = packaged.SKLEARN[name][0]
    found = load(Ticket(id=1, title="x", data=f"sklearn:{name}", target=target), (), 1)
    assert found.frame.columns[-1] == target
    assert len(found.source.sha256) == 64


def test_malignant_is_one_for_malignant_tumours() -> None:
    found = load(Ticket(id=1, title="x", data="sklearn:breast_cancer", target="malignant"), (), 1)
    assert int(found.frame["malignant"].sum()) == 212


def test_randhie_target_is_made_without_its_leak() -> None:
    pytest.importorskip("statsmodels")
    found = load(Ticket(id=1, title="x", data="statsmodels:randhie", target="frequent_visitor"), (), 1)
    assert "mdvis" not in found.frame.columns
    assert "mdvis" in found.source.description
    whole = load(Ticket(id=1, title="x", data="statsmodels:randhie", target="mdvis"), (), 1)
    assert "frequent_visitor" not in whole.frame.columns
    assert ((whole.frame["mdvis"] >= 5).astype(int) == found.frame["frequent_visitor"]).all()


def test_missing_statsmodels_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(packaged.importlib, "import_module", missing)
    with pytest.raises(InputError, match=r"install the extra `demo`"):
        packaged.load_statsmodels("fair", "affairs")


# ---- what a ticket can get wrong


@pytest.mark.parametrize(
    ("ticket", "says"),
    [
        ({"data": None}, ["names no data", "sklearn:"]),
        ({"data": "sklearn:boston"}, ["no data source 'sklearn:boston'", "breast_cancer"]),
        ({"data": "https://example.org/rows.csv"}, ["no data source", "CSV or Parquet"]),
        ({"data": "statsmodels:os"}, ["no data source"]),
        ({"data": "wine.csv", "target": None}, ["names no target", "alcohol"]),
        ({"data": "wine.csv", "target": "Cultivars"}, ["'Cultivars'", "did you mean 'cultivar'"]),
        ({"data": "wine.csv", "groups": "estate"}, ["'estate'", "`groups`", "alcohol"]),
        ({"data": "wine.csv", "time": "year"}, ["'year'", "`time`"]),
        ({"data": "wine.csv", "groups": "cultivar"}, ["both name 'cultivar'"]),
        ({"data": "wines.csv"}, ["'wines.csv' does not exist", "did you mean wine.csv"]),
        ({"data": "README.md"}, ["ends in .md", ".csv"]),
        ({"data": "."}, ["is a directory"]),
        ({"data": "a\0b.csv"}, ["cannot be resolved"]),
    ],
)
def test_ticket_that_names_the_wrong_thing(data_root: Path, ticket: dict[str, str], says: list[str]) -> None:
    message = refused(Ticket(**({"id": 1, "title": "x", "target": "cultivar"} | ticket)), data_root)
    for part in says:
        assert part in message


# ---- where a file may lie


@pytest.mark.parametrize(
    "data", ["../secret.csv", "/etc/passwd", "sub/../../secret.csv", "link.csv", "folder/secret.csv"]
)
def test_nothing_outside_the_roots_is_read(tmp_path: Path, data: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.csv").write_text(rows())
    (root / "link.csv").symlink_to(tmp_path / "secret.csv")
    (root / "folder").symlink_to(tmp_path)
    message = refused(Ticket(id=1, title="x", data=data, target="y"), root)
    assert "outside the allowed roots" in message
    assert str(root) in message


def test_whether_a_file_outside_the_roots_exists_is_not_told(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    message = refused(Ticket(id=1, title="x", data="../nothing.csv", target="y"), root)
    assert "outside the allowed roots" in message
    assert "exist" not in message


def test_a_link_within_the_roots_and_a_second_root_work(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (second / "rows.csv").write_text(rows())
    (first / "link.csv").symlink_to(second / "rows.csv")
    for data in ("rows.csv", "link.csv", str(second / "rows.csv")):
        found = load(Ticket(id=1, title="x", data=data, target="y"), (first, second), LIMIT)
        assert len(found.frame) == 60
        assert str(tmp_path) not in found.source.uri


def test_no_root_at_all_and_a_loop_of_links(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no root is allowed"):
        load(Ticket(id=1, title="x", data="rows.csv", target="y"), (), LIMIT)
    (tmp_path / "a.csv").symlink_to(tmp_path / "b.csv")
    (tmp_path / "b.csv").symlink_to(tmp_path / "a.csv")
    assert "a.csv" in refused(Ticket(id=1, title="x", data="a.csv", target="y"), tmp_path)


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.csv")
    assert "device, pipe or socket" in refused(Ticket(id=1, title="x", data="rows.csv", target="y"), tmp_path)


def test_a_file_swapped_for_a_link_after_the_check_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(rows())
    found = files.locate("rows.csv", (tmp_path,))
    found.path.unlink()
    found.path.symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="cannot be opened"):
        files.read(found, LIMIT)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "rows.csv").open("wb") as file:
        file.truncate(1_000_000_000)
    message = refused(Ticket(id=1, title="x", data="rows.csv", target="y"), tmp_path, limit=200_000_000)
    assert "1,000,000,000 bytes" in message
    assert "200,000,000" in message


# ---- what a file can hold

GARBAGE = random.Random(5).randbytes(4000)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", ["rows.csv is empty"]),
        (b"\n\n\n", ["rows.csv is empty"]),
        (b"a,b,y\n", ["header and no rows"]),
        (b"y\n1\n0\n" * 30, ["one column (y)"]),
        (pickle.dumps({"a": 1}), ["a Python pickle"]),
        (b"PK\x03\x04rest", ["zip or Excel"]),
        (b"PAR1rest", ["Parquet"]),
        ("a,b,y\n1,2,3\n".encode("utf-16"), ["UTF-16"]),
        (b"a,b,y\n1,2,0\n1,\x00,0\n", ["not text", "0x00", "line 3"]),
        (GARBAGE, ["rows.csv", "UTF-8"]),
        (b"a,b,y\n" + bytes(range(0xA0, 0x100)) * 20, ["neither UTF-8 nor Latin-1"]),
        (rows(40).encode() + b"1,2\n", ["ragged", "line 42", "2 fields", "header 3"]),
        (rows(40).encode() + b"1,2,0,9\n", ["ragged", "line 42", "4 fields"]),
        (rows(40).encode() + b'1,"open,0\n', ["broken at line", "quotes"]),
        (rows(40, "a,a,y").encode(), ["doubled column names: a"]),
        (rows(40, "a, a ,y").encode(), ["doubled column names: a"]),
        (rows(40, "__target__,b,y").encode(), ["reserved column names: __target__"]),
        (rows(29).encode(), ["29 rows", "fewer than 30"]),
        (b",".join(b"c%d" % i for i in range(2001)) + b"\n" + b",".join([b"1"] * 2001), ["2,001 columns"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_content_that_is_refused(write_csv: Write, tmp_path: Path, content: bytes, says: list[str]) -> None:
    message = refused(write_csv(content), tmp_path)
    for part in says:
        assert part in message


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_separators_and_byte_order_marks(write_csv: Write, tmp_path: Path, separator: str, encoding: str) -> None:
    text = rows().replace(",", separator).replace("u", "ü, ö;")
    if separator in ",;":
        text = rows().replace(",", separator).replace("u", '"ü, ö;"')
    found = loaded(write_csv(text.encode(encoding)), tmp_path)
    assert list(found.frame.columns) == ["a", "b", "y"]
    assert set(found.frame["b"]) == {"ü, ö;", "v", "w"}
    assert found.warnings == ()


def test_latin_1_is_read_with_a_warning(write_csv: Write, tmp_path: Path) -> None:
    found = loaded(write_csv(rows().replace("u", "Müller").encode("latin-1")), tmp_path)
    assert "Müller" in set(found.frame["b"])
    assert any("not UTF-8 (line 2)" in warning for warning in found.warnings)


def test_rows_without_target_are_dropped_up_to_a_fifth(write_csv: Write, tmp_path: Path) -> None:
    found = loaded(write_csv(rows(50) + "1,u,\n" * 5), tmp_path)
    assert len(found.frame) == 50
    assert found.dropped == 5
    assert found.source.rows == 55
    assert any("5 row(s) (9.1%)" in warning and "'y'" in warning for warning in found.warnings)
    message = refused(write_csv(rows(50) + "1,u,\n" * 13), tmp_path)
    assert "'y' is missing in 13 of 63 rows (21%)" in message


@pytest.mark.parametrize("content", ["a,b,y\n" + "1,u,1\n2,v,1\n" * 30, "a,b,y\n" + "1,u,yes\n" * 40])
def test_a_target_with_one_value_is_refused(write_csv: Write, tmp_path: Path, content: str) -> None:
    assert "target 'y' is always" in refused(write_csv(content), tmp_path)


def test_a_file_with_nothing_but_the_target_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"y": [0, 1] * 30}).to_parquet(tmp_path / "rows.parquet")
    message = refused(Ticket(id=1, title="x", data="rows.parquet", target="y"), tmp_path)
    assert "no column besides the target 'y'" in message


def test_odd_values_are_read_with_a_warning(write_csv: Write, tmp_path: Path) -> None:
    text = "gap,inf,mixed,formula,y\n" + "".join(
        f",{'-inf' if i == 3 else i},{'n/k' if i == 4 else i},=cmd|' /C calc'!A{i},{i % 2}\n" for i in range(40)
    )
    found = loaded(write_csv(text), tmp_path)
    assert found.frame["gap"].isna().all()
    assert int(found.frame["inf"].isna().sum()) == 1
    assert str(found.frame["mixed"].dtype) == "str"
    assert found.frame["formula"].iloc[7] == "=cmd|' /C calc'!A7"
    assert any("1 infinite value(s) in column 'inf'" in warning for warning in found.warnings)
    assert any("'mixed' mixes numbers and text ('n/k' in data row 5)" in warning for warning in found.warnings)


def test_dates_that_do_not_exist_stay_text(write_csv: Write, tmp_path: Path) -> None:
    text = "when,day,y\n" + "".join(
        f"2024-01-{i % 28 + 1:02d}T10:00:00+02:00,2024-13-{i:02d},{i % 2}\n" for i in range(40)
    )
    found = loaded(write_csv(text), tmp_path)
    assert found.frame["when"].iloc[0] == pd.Timestamp("2024-01-01 08:00")
    assert str(found.frame["day"].dtype) == "str"


# ---- Parquet


def test_parquet_that_is_refused(tmp_path: Path) -> None:
    ticket = Ticket(id=1, title="x", data="rows.parquet", target="y")
    frame = pd.DataFrame({"a": range(40), "y": [0, 1] * 20})
    (tmp_path / "rows.parquet").write_text(rows())
    assert "not a Parquet file" in refused(ticket, tmp_path)
    frame.to_parquet(tmp_path / "rows.parquet")
    whole = (tmp_path / "rows.parquet").read_bytes()
    (tmp_path / "rows.parquet").write_bytes(whole[:200] + whole[260:])
    assert "damaged Parquet file" in refused(ticket, tmp_path)
    frame.assign(nested=[[1, 2]] * 40).to_parquet(tmp_path / "rows.parquet")
    assert "column 'nested'" in refused(ticket, tmp_path)
    frame.assign(raw=[b"x"] * 40).to_parquet(tmp_path / "rows.parquet")
    assert "column 'raw'" in refused(ticket, tmp_path)


def test_a_parquet_file_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"a": [0] * 100_000, "y": [0, 1] * 50_000}).to_parquet(tmp_path / "rows.parquet")
    packed = (tmp_path / "rows.parquet").read_bytes()
    with pytest.raises(InputError, match="unpacks to 100,000 rows"):
        tables.read_parquet(packed, "rows.parquet", 300_000)


def test_parquet_types_become_the_few_we_know(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "small": pd.array([1, None] * 20, dtype="Int8"),
            "flag": pd.array([True, None] * 20, dtype="boolean"),
            "kind": pd.Categorical(["u", "v"] * 20),
            "zoned": pd.date_range("2024-01-01", periods=40, tz="Europe/Rome"),
            "lasts": pd.to_timedelta(range(40), unit="h"),
            "y": [0.0, 1.0] * 20,
        },
        index=range(5, 45),
    )
    frame.to_parquet(tmp_path / "rows.parquet")
    found = loaded(Ticket(id=1, title="x", data="rows.parquet", target="y"), tmp_path).frame
    kinds = {name: str(found[name].dtype) for name in found.columns}
    assert kinds == {
        "small": "float64",
        "flag": "boolean",
        "kind": "str",
        "zoned": "datetime64[us]",
        "lasts": "float64",
        "y": "float64",
    }
    assert found["zoned"].iloc[0] == pd.Timestamp("2023-12-31 23:00")
