"""Past rows as a package's inputs: every row once, nothing of later rows, the same bytes after a kill."""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.port import Attempt, AttemptError
from agents.skill import InputError, SkillError
from agents.skills.data.loading import load_rows
from agents.skills.data.streaming import MISSING, opened
from agents.skills.feature import backfill
from agents.skills.feature.backfill import BackfillParameters, FeatureBackfill
from agents.skills.feature.partitions import PERSONAL, ROW, held
from agents.skills.feature.transform import prepare_frame
from agents.skills.feature.windows import FUTURE, NO_TIME, windows_for
from agents.skills.shapes import FeatureMap
from agents.workbench import Workbench
from agents.worker import preload
from schemas.session import PhaseStarted
from schemas.ticket import Ticket
from schemas.values import ArtifactRef, FailureClass, Mode, Role
from tests.skills.conftest import DATA
from tests.skills.harness import run_skill
from tests.skills.packages import package, scope_of
from workspace.blobs import Blobs
from workspace.children import ForkServer

ECONOMY = pd.read_csv(DATA / "economy.csv").iloc[80:].reset_index(drop=True)
"""From 1979 on."""
VOTES = pd.read_csv(DATA / "votes.csv")


class Place:
    """A folder with rows, a package for them, and the installation's backfills."""

    def __init__(self, folder: Path, rows: pd.DataFrame, target: str, time: str | None, name: str = "rows.csv") -> None:
        self.folder, self.rows, self.time, self.name = folder, rows, time, name
        folder.mkdir(exist_ok=True)
        self.write(rows)
        train = rows.drop(columns=target).head(len(rows) // 2)
        classes = () if rows[target].dtype.kind == "f" else tuple(sorted(rows[target].unique()))
        scope = scope_of(target, classes, "roc_auc" if classes else "mae")
        self.features = package(
            folder / "model-package.zip", train, rows[target].head(len(train)), scope,
            leave_out=(time,) if time else (),
        )  # fmt: skip

    def write(self, rows: pd.DataFrame) -> None:
        path = self.folder / self.name
        rows.to_parquet(path, index=False) if self.name.endswith("parquet") else rows.to_csv(path, index=False)

    @property
    def ticket(self) -> Ticket:
        return Ticket(id=5, title="Past rows", data=self.name, time=self.time)

    def run(self, **parameters: Any) -> tuple[Any, dict[str, Any], Path]:
        package = {"model-package.zip": self.folder / "model-package.zip"}
        output, files = run_skill(
            FeatureBackfill, self.ticket, self.folder / "runs", package,
            roots=(self.folder,), facts={"backfills": str(self.folder / "backfills")},
            parameters=BackfillParameters(**parameters),
        )  # fmt: skip
        report = json.loads(files["backfill.json"].read_text("utf-8"))
        return output, report, self.folder / report["directory"]


def written(report: dict[str, Any], directory: Path) -> pd.DataFrame:
    """All rows of all partitions by their place in the source, both files of a window together."""
    parts: dict[bool, list[pd.DataFrame]] = {}
    for each in report["partitions"]:
        parts.setdefault(each["personal"], []).append(pd.read_parquet(directory / each["file"]))
    frames = [pd.concat(found).set_index(ROW).sort_index() for found in parts.values()]
    return pd.concat(frames, axis=1)


def same(found: pd.DataFrame, rows: pd.DataFrame, features: FeatureMap) -> None:
    expected = prepare_frame(rows, features)
    assert found.index.tolist() == expected.index.tolist(), "every row once"
    for name in expected.columns:
        left, right = found[name], expected[name]
        assert left.isna().tolist() == right.isna().tolist()
        there = right.notna()
        if right.dtype == "float64":
            np.testing.assert_allclose(left[there].astype(float), right[there])
        else:
            assert left[there].tolist() == right[there].tolist()


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_real_rows_in_windows_are_what_training_prepares(tmp_path: Path, name: str) -> None:
    place = Place(tmp_path / "a", ECONOMY, "unemp", "quarter_start", name)
    output, report, directory = place.run(every="year", chunk_rows=100)
    same(written(report, directory), ECONOMY, place.features)
    assert report["rows"] == len(ECONOMY)
    assert len(report["labels"]) == 31
    for each in report["partitions"]:
        rows = pd.read_parquet(directory / each["file"])[ROW]
        assert {ECONOMY["quarter_start"][row][:4] for row in rows} == {each["window"][:4]}
    assert not (directory / ".work").exists()
    assert report["skipped"] == {}
    again, second, _ = place.run(every="year", chunk_rows=100)
    assert "all of it was there already" in again.summary
    assert second["partitions"] == report["partitions"]
    (directory / report["partitions"][0]["file"]).write_bytes(b"torn")
    mended, third, _ = place.run(every="year", chunk_rows=100)
    assert ("already" in mended.summary, third["partitions"]) == (False, report["partitions"])
    assert output.measurements[0].value == len(ECONOMY)


def test_nothing_of_later_rows_is_in_earlier_ones(tmp_path: Path) -> None:
    """Later rows are changed beyond recognition and doubled; earlier windows keep their bytes."""
    place = Place(tmp_path / "a", ECONOMY, "unemp", "quarter_start")
    _, before, first = place.run(every="year", chunk_rows=150)
    early = ECONOMY["quarter_start"] < "1990"
    later = ECONOMY[~early].copy()
    for column in later.select_dtypes("number"):
        later[column] = later[column] * 1e6 + 17
    place.write(pd.concat([ECONOMY[early], later, later.iloc[::-1]]))
    _, after, second = place.run(every="year", chunk_rows=150)
    files = {each["file"]: each["sha256"] for each in before["partitions"] if each["window"] < "1990"}
    changed = {each["file"]: each["sha256"] for each in after["partitions"]}
    assert first != second
    assert len(files) == 11
    assert all(changed[name] == sha256 for name, sha256 in files.items())
    assert not {f: s for f, s in changed.items() if f >= "1990"}.items() & {
        (each["file"], each["sha256"]) for each in before["partitions"]
    }


def test_rows_without_a_time_or_of_the_future_are_skipped_and_counted(tmp_path: Path) -> None:
    rows = ECONOMY.copy()
    rows.loc[3, "quarter_start"] = None
    rows.loc[5, "quarter_start"] = "soon"
    rows.loc[7, "quarter_start"] = "2031-01-01"
    place = Place(tmp_path / "a", ECONOMY, "unemp", "quarter_start")
    place.write(rows)
    with pytest.raises(InputError, match="holds neither dates"):
        place.run()
    place.write(rows.drop(index=5))
    output, report, directory = place.run()
    assert report["skipped"] == {FUTURE: 1, NO_TIME: 1}
    assert {3, 6}.isdisjoint(written(report, directory).index)
    assert f"1 rows skipped: {FUTURE}" in output.warnings


def test_personal_inputs_lie_in_files_of_their_own_and_no_time_means_windows_of_rows(tmp_path: Path) -> None:
    place = Place(tmp_path / "a", VOTES, "vote", None)
    _, report, directory = place.run(window_rows=400, chunk_rows=150)
    assert [report["labels"][name] for name in sorted(report["labels"])] == [
        "rows from 0",
        "rows from 400",
        "rows from 800",
    ]
    same(written(report, directory), VOTES, place.features)
    assert "age" in report["personal"]
    for each in report["partitions"]:
        names = set(pd.read_parquet(directory / each["file"]).columns) - {ROW}
        assert names <= set(report["personal"]) if each["personal"] else names.isdisjoint(report["personal"])
        assert (PERSONAL in each["file"]) == each["personal"]


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_a_time_in_numbers_makes_windows_of_a_width(tmp_path: Path, name: str) -> None:
    """The year as a number, before and after zero, in windows of ten."""
    rows = ECONOMY.drop(columns="quarter_start").assign(year=[int(day[:4]) - 1984 for day in ECONOMY["quarter_start"]])
    place = Place(tmp_path / "a", rows, "unemp", "year", name)
    _, report, directory = place.run(width=10.0)
    labels = [report["labels"][window] for window in sorted(report["labels"])]
    assert labels == [f"year from {start}" for start in (-10, 0, 10, 20)]
    same(written(report, directory), rows, place.features)
    assert report["personal"] == {}, "figures of an economy tell of nobody, also where a CSV holds them as text"


def test_drift_between_windows_is_found_where_it_is_and_not_elsewhere(tmp_path: Path) -> None:
    """Real rows in random order: no window differs; then one answer is coded the other way round from row 600 on."""
    mixed = VOTES.sample(frac=1.0, random_state=5).reset_index(drop=True)
    place = Place(tmp_path / "a", mixed, "vote", None)
    _, report, _ = place.run(window_rows=300)
    assert [each["moved"] for each in report["drift"]] == [[], [], []]
    mixed.loc[600:, "selfLR"] = 8 - mixed.loc[600:, "selfLR"] ** 2
    place.write(mixed)
    output, report, _ = place.run(window_rows=300)
    assert [[m["name"] for m in each["moved"]] for each in report["drift"]] == [[], ["selfLR"], []]
    assert "selfLR moved from rows from 300 to rows from 600" in output.warnings[-1]


def test_what_cannot_be_used_is_refused_by_name(tmp_path: Path) -> None:
    place = Place(tmp_path / "a", ECONOMY, "unemp", "quarter_start")
    place.write(ECONOMY.drop(columns="cpi"))
    with pytest.raises(InputError, match=r"rows\.csv lacks 1 column\(s\): cpi"):
        place.run()
    (place.folder / "rows.csv").write_text("a,b\n1,2,3\n")
    with pytest.raises(InputError, match="is ragged: line 2"):
        place.run()
    with pytest.raises(InputError, match="nothing says where backfilled rows may lie"):
        run_skill(
            FeatureBackfill, place.ticket, tmp_path, {"model-package.zip": place.folder / "model-package.zip"},
            roots=(place.folder,),
        )  # fmt: skip
    place = Place(tmp_path / "c", ECONOMY, "unemp", "realgdp")
    with pytest.raises(InputError, match="are in 123 windows, more than 100"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(backfill, "MOST_WINDOWS", 100)
        place.run(width=0.001)
    with held(tmp_path / "b", "k"), pytest.raises(SkillError, match="another run works on"), held(tmp_path / "b", "k"):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="finds the child in /proc")
async def test_a_killed_backfill_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """Kill -9 in the middle of the pieces, again while windows are written, then a whole run; beside one uncut."""
    many = VOTES.drop(columns=["age", "educ", "income"])
    whole, cut = (Place(tmp_path / name, many, "vote", None) for name in ("whole", "cut"))
    parameters = {"window_rows": 250, "chunk_rows": 100}
    _, expected, _ = whole.run(**parameters)
    blobs = Blobs(tmp_path / "blobs")
    sha256, size = blobs.put(cut.folder / "model-package.zip")
    lines: list[str] = []
    async with ForkServer(preload((Role.FEATURE,))) as children:
        for number, line in ((1, "500 rows"), (2, "writing 4 windows"), (3, "")):
            phase = PhaseStarted(
                phase="backfill", agent=Role.FEATURE, mode=Mode.BUILD, attempt=number,
                skills=(FeatureBackfill.name,), ticket=cut.ticket, acceptance=(),
                artifacts=(ArtifactRef(name="model-package.zip", sha256=sha256, size=size),), measured={},
                roots=(str(cut.folder),), max_data_bytes=10**9, seed=7, timeout_seconds=600.0, remaining_seconds=600.0,
                started=datetime(2026, 11, 20, 9, tzinfo=UTC), pipeline="p",
            )  # fmt: skip

            def told(skill: str, said: str, stop: str = line) -> None:
                lines.append(said)
                if stop and stop in said:
                    for pid in Path(f"/proc/{children.pid}/task/{children.pid}/children").read_text().split():
                        os.kill(int(pid), signal.SIGKILL)

            attempt = Attempt("s1-abcde", phase, number, tmp_path / "session" / f"{number}")
            facts = {"backfills": str(cut.folder / "backfills")}
            bench = Workbench(Role.FEATURE, attempt, blobs, children, told, anyio.CapacityLimiter(1), facts)
            if line:
                with pytest.raises(AttemptError) as problem:
                    await bench.run(FeatureBackfill.name, parameters)
                assert problem.value.failure is FailureClass.AGENT
            else:
                run = await bench.run(FeatureBackfill.name, parameters)
    assert "10 pieces are of a run that was killed" in run.summary
    report = json.loads(blobs.read(next(ref.sha256 for ref in run.artifacts if ref.name == "backfill.json")))
    assert report["partitions"] == expected["partitions"], "the same files with the same bytes"
    same(written(report, cut.folder / report["directory"]), many, cut.features)


def test_a_csv_in_pieces_has_the_cells_that_training_reads(tmp_path: Path) -> None:
    text = 'n,word,flag\n1,a,true\n,NA,false\n 3.5 ,"b, c",\nnull,None,true\n7,x,false\n'
    (tmp_path / "rows.csv").write_text(text)
    ticket = Ticket(id=1, title="Rows", data="rows.csv")
    whole = load_rows(ticket, (tmp_path,), 10**6).frame
    context: Any = type("Context", (), {"ticket": ticket, "roots": (tmp_path,), "max_data_bytes": 10**6})()
    with opened(context) as source:
        pieces = list(source.pieces(2))
        assert next(source.pieces(2, ["n"])).columns.tolist() == ["n"], "it can be read again"
    assert [len(each) for each in pieces] == [2, 2, 1]
    found = pd.concat(pieces)
    assert found.index.tolist() == list(range(5))
    assert pd.to_numeric(found["n"]).dropna().tolist() == whole["n"].dropna().tolist() == [1.0, 3.5, 7.0]
    for name in ("n", "word", "flag"):
        assert found[name].isna().tolist() == whole[name].isna().tolist()
    from pandas._libs.parsers import STR_NA_VALUES

    assert set(STR_NA_VALUES) == MISSING


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0.01, 1e3))
@settings(max_examples=20, deadline=None)
@pytest.mark.untraced
def test_windows_of_numbers_are_in_the_order_of_the_numbers(times: list[float], width: float) -> None:
    rows = pd.DataFrame({"t": times})
    windows = windows_for(rows, "t", "month", width, 100)
    names, skipped = windows.of(rows, "2026-11-20T09:00:00Z")
    assert not skipped
    ordered = [name for _, name in sorted(zip(times, names, strict=True))]
    assert ordered == sorted(ordered)
