"""The feature map and the transformer built from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io

from agents.skill import InputError
from agents.skills.feature.pipeline import FeaturePipeline, map_features
from agents.skills.feature.transform import build_transformer, prepare_frame
from agents.skills.shapes import GROUP_COLUMN, ROW_COLUMN, TARGET_COLUMN, FeatureMap
from tests.skills.conftest import DATA, TO_SPLIT, VOTES
from tests.skills.harness import run_chain, run_skill

COUNT = 120
RANDOM = np.random.default_rng(4)


def table(**columns: Any) -> pd.DataFrame:
    """Training rows with one ordinary column `x` and the given ones."""
    frame = pd.DataFrame({"x": RANDOM.normal(size=COUNT)} | columns)
    frame[TARGET_COLUMN] = ["a", "b"] * (COUNT // 2)
    frame[ROW_COLUMN] = range(COUNT)
    frame[GROUP_COLUMN] = range(COUNT)
    return frame


MIXED = table(
    n=np.where(np.arange(COUNT) % 9 == 0, np.nan, np.arange(COUNT) ** 1.3),
    word=pd.array(["red", "blue", None, "green"] * (COUNT // 4), dtype="str"),
    flag=[True, False, False] * (COUNT // 3),
    maybe=pd.array([True, None] * (COUNT // 2), dtype="boolean"),
    when=pd.date_range("2024-01-31 23:30", periods=COUNT, freq="31h"),
)


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("gap", [None] * COUNT, "empty"),
        ("flat", [3] * COUNT, "constant"),
        ("serial", range(COUNT), "identifier"),
        ("label", [f"case {i}" for i in range(COUNT)], "identifier"),
        ("ward", [f"ward {i % 70}" for i in range(COUNT)], "high cardinality"),
        ("who", [i // 3 for i in range(COUNT)], "grouping column"),
        ("when", [i % 50 for i in range(COUNT)], "time column"),
    ],
)
def test_columns_that_teach_nothing_are_dropped_with_the_reason(name: str, values: Any, why: str) -> None:
    mapped = map_features(table(**{name: list(values)}), groups="who", time="when")
    assert mapped.dropped[name].startswith(why)
    assert [column.name for column in mapped.columns] == ["x"]


def test_copies_are_dropped_but_not_columns_that_only_resemble() -> None:
    frame = table(whole=[i % 7 for i in range(COUNT)])
    frame["copy"], frame["as_float"], frame["other"] = frame["x"], frame["whole"].astype("float64"), -frame["x"]
    mapped = map_features(frame, None, None)
    assert mapped.dropped == {"copy": "duplicate of x", "as_float": "duplicate of whole"}


def test_kinds_and_signature() -> None:
    mapped = map_features(MIXED, None, None)
    assert {column.name: column.kind for column in mapped.columns} == {
        "x": "numeric",
        "n": "numeric",
        "word": "categorical",
        "flag": "boolean",
        "maybe": "boolean",
        "when": "datetime",
    }
    assert mapped.signature == map_features(MIXED.sample(frac=1, random_state=1), None, None).signature
    assert mapped.signature != map_features(MIXED.drop(columns="flag"), None, None).signature
    assert mapped.signature != map_features(MIXED.assign(flag=MIXED["flag"].astype("int64")), None, None).signature


def test_every_column_is_used_or_dropped(prepared: Any) -> None:
    ticket, _, files = prepared
    mapped = FeatureMap.model_validate_json(files["feature-map.json"].read_text())
    train = pd.read_parquet(files["train.parquet"])
    used = {column.name for column in mapped.columns}
    assert used | set(mapped.dropped) == set(train.columns) - {TARGET_COLUMN, ROW_COLUMN, GROUP_COLUMN}
    assert not used & set(mapped.dropped)
    assert not used & {ticket.groups, ticket.time}


def test_a_table_without_a_usable_column_is_refused(tmp_path: Path) -> None:
    table().drop(columns="x").assign(flat=1).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"no column is left to learn from \(flat: constant"):
        run_skill(FeaturePipeline, VOTES, tmp_path, {"train.parquet": tmp_path / "train.parquet"})


def test_real_rows_are_transformed_and_so_are_rows_never_seen(prepared: Any) -> None:
    _, _, files = prepared
    mapped = FeatureMap.model_validate_json(files["feature-map.json"].read_text())
    train, holdout = pd.read_parquet(files["train.parquet"]), pd.read_parquet(files["holdout-features.parquet"])
    transformer = build_transformer(mapped)
    fitted = transformer.fit_transform(prepare_frame(train, mapped))
    applied = transformer.transform(prepare_frame(holdout, mapped))
    assert fitted.dtype == np.float64
    assert np.isfinite(fitted).all()
    assert np.isfinite(applied).all()
    assert applied.shape == (len(holdout), fitted.shape[1])
    assert len(transformer.get_feature_names_out()) == fitted.shape[1]


def test_the_transformer_survives_skops_and_repeats() -> None:
    mapped = map_features(MIXED, None, None)
    frame = prepare_frame(MIXED, mapped)
    transformer = build_transformer(mapped).fit(frame)
    stored = skops.io.dumps(transformer)
    assert set(skops.io.get_untrusted_types(data=stored)) <= {"numpy.dtype"}
    again = skops.io.loads(stored, trusted=["numpy.dtype"])
    assert (again.transform(frame) == transformer.transform(frame)).all()
    assert (build_transformer(mapped).fit_transform(frame) == transformer.transform(frame)).all()


def test_prepare_frame_reads_what_other_sources_write() -> None:
    """The same rows as text, as a JSON service would send them, are prepared alike."""
    mapped = map_features(MIXED, None, None)
    texts = MIXED.astype(object).where(MIXED.notna(), None)
    for name in texts.columns:
        texts[name] = [None if value is None else str(value) for value in texts[name]]
    pd.testing.assert_frame_equal(prepare_frame(texts, mapped), prepare_frame(MIXED, mapped))


@pytest.mark.parametrize(
    "kind", ["float64", "float32", "int64", "uint8", "Int64", "Float64", "object", "str", "string"]
)
def test_numbers_are_the_same_however_they_are_stored(kind: str) -> None:
    mapped = map_features(table(), None, None)
    rows = pd.DataFrame({"x": pd.array([1, 250, 7], dtype=kind)}, index=[3, 3, 1])
    expected = pd.DataFrame({"x": [1.0, 250.0, 7.0]}, index=[3, 3, 1])
    pd.testing.assert_frame_equal(prepare_frame(rows, mapped), expected)


@pytest.mark.parametrize("kind", ["float64", "object"])
def test_numbers_without_a_use_are_missing(kind: str) -> None:
    rows = pd.DataFrame({"x": pd.Series([np.inf, -np.inf, 1.1e37, np.nan, -1e37], dtype=kind)})
    frame = prepare_frame(rows, map_features(table(), None, None))
    assert frame["x"].isna().tolist() == [True, True, True, True, False]
    assert rows["x"].tolist()[0] == np.inf, "the rows that were given were changed"


def test_prepare_frame_with_strange_rows() -> None:
    mapped = map_features(MIXED, None, None)
    transformer = build_transformer(mapped).fit(prepare_frame(MIXED, mapped))
    strange = pd.DataFrame(
        {
            "extra": [1, 2, 3],
            "when": ["not a date", None, "2030-05-06"],
            "maybe": ["perhaps", None, "yes"],
            "flag": [None, None, None],
            "word": ["never seen", None, 17],
            "n": ["12", "abc", float("inf")],
            "x": [1e300, None, -1],
        },
        index=[5, 9, 2],
    )
    frame = prepare_frame(strange, mapped)
    assert list(frame.index) == [5, 9, 2]
    assert frame["n"].tolist()[0] == 12.0
    assert frame["n"].isna().tolist() == [False, True, True]
    assert frame["maybe"].isna().tolist() == [True, True, False]
    assert frame.loc[2, "when|weekday"] == 0.0
    assert np.isfinite(transformer.transform(frame)).all()
    empty = prepare_frame(strange.head(0), mapped)
    assert list(empty.columns) == list(frame.columns)
    assert len(empty) == 0


def test_prepare_frame_does_not_change_what_it_is_given() -> None:
    before = MIXED.copy(deep=True)
    prepare_frame(MIXED, map_features(MIXED, None, None))
    pd.testing.assert_frame_equal(MIXED, before)


def test_missing_columns_are_named() -> None:
    mapped = map_features(MIXED, None, None)
    with pytest.raises(InputError, match=r"lack 2 column\(s\) the model needs: n, when") as caught:
        prepare_frame(MIXED.drop(columns=["n", "when"]), mapped)
    assert mapped.signature[:12] in caught.value.remedy


def test_rare_levels_share_a_column() -> None:
    levels = [f"town {i}" if i < 60 else f"city {i % 2}" for i in range(COUNT)]
    mapped = map_features(table(place=levels, other=[f"p{i % 40}" for i in range(COUNT)]), None, None)
    assert "place" in mapped.dropped, "61 levels, half of the values distinct"
    mapped = map_features(table(place=[f"town {i % 25}" if i < 30 else "home" for i in range(COUNT)]), None, None)
    frame = table(place=[f"town {i % 25}" if i < 30 else "home" for i in range(COUNT)])
    transformer = build_transformer(mapped).fit(prepare_frame(frame, mapped))
    assert [name for name in transformer.get_feature_names_out() if "place" in name] == [
        "one_hot__place_home", "one_hot__place_infrequent_sklearn",
    ]  # fmt: skip


def test_the_same_rows_give_the_same_map(tmp_path: Path) -> None:
    _, files = run_chain(TO_SPLIT, VOTES, tmp_path, roots=(DATA,))
    first, second = (run_skill(FeaturePipeline, VOTES, tmp_path, files)[1] for _ in range(2))
    assert all(first[name].read_bytes() == second[name].read_bytes() for name in first)
