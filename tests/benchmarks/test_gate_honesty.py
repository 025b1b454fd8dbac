"""A small part of Gate Honesty: the gate can fail and can pass, and the benchmark can tell.

Two sets, three defects, one development seed; what is held out stays so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents import discovery
from agents.skills.evaluation import claims
from agents.skills.feature import leaktests
from agents.skills.training import plan
from benchmarks.gate_honesty import frozen, report
from benchmarks.gate_honesty.cases import Bench, Result
from benchmarks.gate_honesty.defects import DEFECTS
from benchmarks.gate_honesty.impostors import RandomSplit
from benchmarks.gate_honesty.line import standing_in
from benchmarks.gate_honesty.sets import SETS, cut
from benchmarks.gate_honesty.threshold import ThresholdGate
from tests.integration.warm import SHORT_SEARCH

SEED = 100


def bench(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The cases of one set, with a short search and without the threshold gate's models: both are no part of what is
    tested."""
    for function, instead in SHORT_SEARCH.items():
        monkeypatch.setattr(plan, function, instead)
    monkeypatch.setattr(ThresholdGate, "of", classmethod(lambda cls, chosen: cls(chosen, 0.0)))
    monkeypatch.setattr(ThresholdGate, "stops", lambda *_: False)
    return Bench(name, SEED, folder)


@pytest.mark.slow
def test_clean_rows_pass_with_an_honest_claim_and_a_boastful_agent_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench("diabetes", tmp_path, monkeypatch)
    clean = made.clean(timed=False)
    assert clean.verdict == "passed", clean.reason
    told = clean.figures
    assert abs(told["claimed"] - told["delivered"]) < 3 * (told["claimed_se"] ** 2 + told["delivered_se"] ** 2) ** 0.5
    assert made.clean_delivery().verdict == "passed"
    boast = made.defective(DEFECTS["metric computed on train"])
    assert (boast.verdict, boast.phase) == ("refused", "validation")
    assert "was claimed; the same folds give" in boast.reason
    assert made.defective(DEFECTS["unit error x100"]).verdict == "refused"


def test_a_leak_is_refused_and_passes_when_the_test_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench("anes96", tmp_path, monkeypatch)
    leak = made.defective(DEFECTS["target leak"])
    assert (leak.verdict, leak.phase) == ("refused", "feature-engineering")
    assert "leakage.suspects == 0.0" in leak.reason
    monkeypatch.setattr(leaktests, "TOO_GOOD", 2.0)
    monkeypatch.setattr("agents.skills.feature.proxies.STANDS_OUT", 2.0)
    monkeypatch.setattr("benchmarks.gate_honesty.cases.shipped", _until_features)
    assert made.defective(DEFECTS["target leak"]).verdict == "passed", "the benchmark must be able to see a bad gate"


def _until_features(name: str, until: str | None = None) -> Any:
    from benchmarks.gate_honesty.line import shipped

    return shipped(name, until or "feature-engineering")


def test_the_thresholds_are_those_that_were_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = frozen.read()
    assert fixed.changed == [], "freeze them anew, with new held-out seeds"
    assert not set(fixed.development) & set(fixed.held_out)
    assert set(fixed.held_out_sets) == {name for name, each in SETS.items() if each.held_out}
    monkeypatch.setattr(claims, "SAME", 0.5)
    assert len(fixed.changed) == 1


@pytest.mark.parametrize("name", ["randhie", "modechoice"])
def test_kept_rows_share_nothing_with_the_given(name: str) -> None:
    chosen = SETS[name]
    given, kept = cut(chosen, SEED)
    assert 0.3 < len(kept) / (len(given) + len(kept)) < 0.5
    keys = [chosen.groups] if chosen.groups else [c for c in given.columns if c != chosen.target]
    left, right = (set(part[keys].itertuples(index=False, name=None)) for part in (given, kept))
    assert not left & right


def test_an_impostor_stands_in_for_its_skill_and_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped_split = discovery.skill("data.split")
    with standing_in(RandomSplit):
        assert discovery.skill("data.split") is RandomSplit
    assert discovery.skill("data.split") is shipped_split
    monkeypatch.setattr(discovery, "skill", lambda name: shipped_split)
    with pytest.raises(RuntimeError, match=r"shipped data\.split cannot be replaced"), standing_in(RandomSplit):
        pytest.fail("the benchmark would count defects that are not there")


def test_every_defect_changes_something_and_follows_its_seed() -> None:
    import numpy as np

    chosen = SETS["anes96"]
    rows = cut(chosen, SEED)[0]
    for defect in DEFECTS.values():
        one, same = (defect.inject(chosen, rows, np.random.default_rng(3)) for _ in range(2))
        assert one.form == same.form
        assert one.rows.equals(same.rows), defect.name
        assert not one.rows.equals(rows) or one.impostors or one.same_file, defect.name


def test_the_tables_count_what_was_stopped(tmp_path: Path) -> None:
    told = {"claimed": 0.9, "claimed_se": 0.03, "delivered": 0.8, "delivered_se": 0.04, "lower_is_better": 0.0}
    rows = [
        Result("wine", 1, "", "data", "", "passed", "deployment", "", 1.0, False, told),
        Result("wine", 1, "", "delivery", "", "person", "preparation", "moved", 1.0, False),
        Result("wine", 1, "target leak", "data", "", "refused", "features", "", 1.0, False),
        Result("wine", 1, "stale data", "delivery", "", "crashed", "", "", 1.0, True),
    ]
    path = tmp_path / "cases.jsonl"
    path.write_text("".join(row.line() + "\n" for row in rows))
    claim = {"set": "wine", "seed": 1, "claimed": 0.75, "delivered": 0.6}
    peers = {"FLAML": [claim], "AutoGluon": None}
    text = report.document(report.read(path), {"wine__1__clean__data": {"dataset_drift": True}}, peers)
    assert "defects stopped: 1 of 2 (50.0%)" in text
    assert "clean runs falsely stopped: 1 of 2" in text
    assert "95 % interval 1.3% to 98.7%." in text
    assert "| wine | 1 | +0.1000 | one seed | 0.0500 | **no** |" in text
    assert "- wine, seed 1: stale data" in text
    assert "| set | seed | FLAML claims | delivers | difference |" in text
    assert "| wine | 1 | 0.7500 | 0.6000 | +0.1500 |" in text
    assert "AutoGluon was not run" in text
    assert json.loads(rows[0].line())["figures"] == told


def test_exact_intervals_are_those_of_the_binomial() -> None:
    low, high = report.exact_interval(103, 105)
    assert (round(low, 4), round(high, 4)) == (0.9329, 0.9977)
    assert report.exact_interval(0, 14)[0] == 0.0
    assert report.exact_interval(0, 14)[1] == pytest.approx(1 - 0.025 ** (1 / 14))
    assert report.exact_interval(14, 14)[1] == 1.0


@pytest.mark.parametrize("name", ["randhie", "modechoice"])
def test_made_up_times_keep_the_rows_of_a_person_together(name: str) -> None:
    import numpy as np

    from agents.skills.data import twins
    from benchmarks.gate_honesty.defects import with_time

    chosen = SETS[name]
    timed = with_time(chosen, cut(chosen, SEED)[0])
    assert timed["recorded"].is_monotonic_increasing
    assert chosen.groups not in timed.columns
    people = twins.independent(timed.drop(columns=[chosen.target, "recorded"]), None)
    assert np.count_nonzero(np.diff(people)) == people.max(), "each person's rows follow each other"
