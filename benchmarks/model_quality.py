"""`python -m benchmarks.model_quality`: the model that training delivers beside linear, gradient boosting, FLAML and
AutoGluon.

Nine tasks of real rows. Everybody gets the same given rows and the same budget, two threads for 20 s, which is 40 s of
CPU time, and is scored on the same kept rows (ROC AUC, one against rest for several classes, or r2), which have no twin
among the given. CPU time is what counts: it does not depend on what else the machine does. FLAML and AutoGluon, which
look at the clock, get as much more of it as the machine is slower than when idle; whoever took more is marked.

Training is the pipeline's own, up to its phase `training`, with all it does before (reading, quality, split, leakage
tests): it puts a fifth of the given rows away for its evaluation, which the others do not, and uses one thread. Tasks
that are recorded are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agents.skills.evaluation.scores import score
from benchmarks.gate_honesty.cases import delivered
from benchmarks.gate_honesty.line import shipped, travel
from benchmarks.gate_honesty.peers import AUTOML, NotRun, make_environment, trained
from benchmarks.gate_honesty.sets import SETS, RealSet, cut, packaged
from schemas.ticket import Budget, Ticket

SEEDS = (11,)
THREADS = 2
SECONDS = 20.0
BUDGET = THREADS * SECONDS
"""CPU seconds."""
SEARCH = 20.0
"""CPU seconds of ours that the search may take: the rest of the budget is for what comes before and after it."""
SPIN = 0.5
"""CPU seconds by which the machine's slowness is measured."""
Told = dict[str, dict[str, Any]]


def _star98() -> pd.DataFrame:
    """School districts: the share of pupils above the national median of mathematics."""
    frame = packaged("star98", None)
    passed = frame["NABOVE"] / (frame["NABOVE"] + frame["NBELOW"])
    return frame.drop(columns=["NABOVE", "NBELOW"]).assign(share_above=passed)


TASKS = SETS | {
    each.name: each
    for each in (
        RealSet("wine", lambda: packaged("wine", "cultivar"), "cultivar", "", held_out=False),
        RealSet("star98", _star98, "share_above", "", held_out=False, classes=False),
    )
}


def main() -> None:
    """Run what the command line asks for and print the table."""
    words = argparse.ArgumentParser(prog="python -m benchmarks.model_quality", description=__doc__)
    words.add_argument("--tasks", default=",".join(TASKS), help="names of tasks, by commas")
    words.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="seeds, by commas")
    words.add_argument(
        "--environments", type=Path, help="folder of the own environments of FLAML and AutoGluon; made when not there"
    )
    words.add_argument("--out", type=Path, default=Path("benchmarks/model_quality.json"))
    asked = words.parse_args()
    if unknown := [name for name in asked.tasks.split(",") if name not in TASKS]:
        sys.exit(f"no task {', '.join(unknown)}; there are {', '.join(TASKS)}")
    found: list[dict[str, Any]] = json.loads(asked.out.read_text("utf-8")) if asked.out.exists() else []
    known = {(row["task"], row["seed"]) for row in found}
    for seed in map(int, asked.seeds.split(",")):
        for name in asked.tasks.split(","):
            if (name, seed) not in known:
                found.append({"task": name, "seed": seed, "load": os.getloadavg()[0]})
                try:
                    found[-1]["told"] = compare(TASKS[name], seed, asked.environments)
                except NotRun as problem:
                    found[-1]["not_run"] = str(problem)
                asked.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
                print("done:", name, seed, file=sys.stderr, flush=True)
    print("\n".join(table(found)))


def compare(chosen: RealSet, seed: int, environments: Path | None) -> Told:
    """By contender its `score` on the kept rows, the `seconds` it took and the `cpu` seconds, of its children too.
    The peers of AUTOML are left out without `environments`."""
    given, kept = cut(chosen, seed)
    contenders: dict[str, Callable[[], float]] = {
        "value train": lambda: ours(chosen, given, kept, seed),
        "linear": lambda: simple(_linear(chosen, seed), chosen, given, kept),
        "gradient boosting": lambda: simple(_boosting(chosen, seed), chosen, given, kept),
    }
    if environments is not None:
        for peer, name in AUTOML.items():
            make_environment(peer, environments)
            contenders[name] = partial(_peer, peer, environments, chosen, seed)
    told: Told = {}
    for name, run in contenders.items():
        started, spent = time.perf_counter(), _cpu()
        reached = run()
        seconds = round(time.perf_counter() - started, 1)
        told[name] = {"score": reached, "seconds": seconds, "cpu": round(_cpu() - spent, 1)}
    return told


def _cpu() -> float:
    """CPU seconds of this process and of those of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def slowness() -> float:
    """How many times longer THREADS busy processes take than they would alone on the machine; at least 1."""
    spin = f"import time\nwhile time.process_time() < {SPIN}: pass"
    started = time.perf_counter()
    busy = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(THREADS)]
    for each in busy:
        each.wait()
    return max(1.0, (time.perf_counter() - started) / SPIN)


def ours(chosen: RealSet, given: pd.DataFrame, kept: pd.DataFrame, seed: int) -> float:
    """The score of the model that `ml-delivery` trains. Raises NotRun when the session stops before that."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "root").mkdir()
        given.to_csv(folder / "root" / "rows.csv", index=False)
        metric = "roc_auc" if chosen.classes else "r2"
        ticket = Ticket(
            id=1, title=chosen.name, data="rows.csv", target=chosen.target, groups=chosen.groups, metric=metric,
            budget=Budget(search_seconds=SEARCH),
        )  # fmt: skip
        trip = travel(ticket, shipped("ml-delivery", "training"), folder / "work", folder / "root", seed, approve=True)
        if "model.skops" not in trip.files:
            raise NotRun(f"{chosen.name}: {trip.verdict} in {trip.phase}: {trip.reason}")
        return score(delivered(trip.files, chosen.target, kept, folder)[1], metric)


def simple(model: Any, chosen: RealSet, given: pd.DataFrame, kept: pd.DataFrame) -> float:
    """The score of a pipeline of scikit-learn that is fitted to all given rows."""
    from threadpoolctl import threadpool_limits

    away = [chosen.target, *([chosen.groups] if chosen.groups else [])]
    with threadpool_limits(limits=THREADS):
        model.fit(given.drop(columns=away), given[chosen.target])
        return measured(model, kept.drop(columns=away), kept[chosen.target], classes=chosen.classes)


def measured(model: Any, rows: pd.DataFrame, truth: pd.Series[Any], *, classes: bool) -> float:
    """ROC AUC (mean of one against rest for several classes) or r2."""
    from sklearn.metrics import r2_score, roc_auc_score

    if not classes:
        return float(r2_score(truth, model.predict(rows)))
    chances = model.predict_proba(rows)
    if chances.shape[1] == 2:
        return float(roc_auc_score(truth == model.classes_[1], chances[:, 1]))
    return float(roc_auc_score(truth, chances, multi_class="ovr", labels=model.classes_))


def _columns(numbers: Any) -> Any:
    """Text as columns of zeros and ones, numbers through `numbers`."""
    from sklearn.compose import ColumnTransformer, make_column_selector
    from sklearn.preprocessing import OneHotEncoder

    number = make_column_selector(dtype_include="number")
    text = make_column_selector(dtype_exclude="number")
    hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer([("numbers", numbers, number), ("text", hot, text)])


def _linear(chosen: RealSet, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(max_iter=2000, random_state=seed) if chosen.classes else RidgeCV(np.logspace(-3, 3, 13))
    return make_pipeline(_columns(StandardScaler()), model)


def _boosting(chosen: RealSet, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline

    kind = HistGradientBoostingClassifier if chosen.classes else HistGradientBoostingRegressor
    return make_pipeline(_columns("passthrough"), kind(random_state=seed))


def _peer(peer: str, environments: Path, chosen: RealSet, seed: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        seconds = SECONDS * slowness()
        return float(trained(peer, environments.resolve(), chosen, seed, Path(folder), seconds)["delivered"])


def ranks(scores: Mapping[str, float]) -> dict[str, float]:
    """By contender its place, 1 for the best; those that score the same to four digits share the mean of theirs."""
    from scipy.stats import rankdata

    places = rankdata([-round(value, 4) for value in scores.values()])
    return dict(zip(scores, map(float, places), strict=True))


def table(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Scores of every task and mean ranks of the contenders that ran in all of them, as Markdown, with what they took;
    tasks in which one could not, as when the gate refuses the rows, are named below and not ranked."""
    absent = [f"\nNot ranked: {row['task']}, seed {row['seed']}: {row['not_run']}" for row in found if "not_run" in row]
    found = [row for row in found if "told" in row]
    names = [name for name in found[0]["told"] if all(name in row["told"] for row in found)] if found else []
    lines = [f"| task | seed | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    places: dict[str, list[float]] = {name: [] for name in names}
    for row in found:
        scores = {name: row["told"][name]["score"] for name in names}
        best = max(round(value, 4) for value in scores.values())
        over = {name: " †" if row["told"][name].get("cpu", 0.0) > BUDGET else "" for name in names}
        cells = [
            (f"**{value:.4f}**" if round(value, 4) == best else f"{value:.4f}") + over[name]
            for name, value in scores.items()
        ]
        lines.append(f"| {row['task']} | {row['seed']} | {' | '.join(cells)} |")
        for name, place in ranks(scores).items():
            places[name].append(place)
    told = [f"{float(np.mean(places[name])):.2f}" for name in names]
    lines.append(f"| mean rank | | {' | '.join(told)} |")
    for what, key in (("median seconds", "seconds"), ("median CPU seconds", "cpu"), ("most CPU seconds", "cpu")):
        of = max if what.startswith("most") else np.median
        taken = [f"{float(of([row['told'][name].get(key, np.nan) for row in found])):.1f}" for name in names]
        lines.append(f"| {what} | | {' | '.join(taken)} |")
    if any("†" in line for line in lines):
        lines.append(f"\n† took more than {BUDGET:g} s of CPU time")
    return lines + absent


if __name__ == "__main__":
    main()
