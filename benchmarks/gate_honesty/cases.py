"""One data set under one seed: clean runs, every defect, and what each came to."""

from __future__ import annotations

import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agents.skills.data import twins
from agents.skills.evaluation.bootstrap import resample
from agents.skills.evaluation.scores import Outcome, score, statistics
from agents.skills.shapes import FeatureMap, ScopeSpec
from benchmarks.gate_honesty.defects import DEFECTS, Case, Defect, with_time
from benchmarks.gate_honesty.impostors import ShortSearch
from benchmarks.gate_honesty.line import Trip, shipped, standing_in, travel
from benchmarks.gate_honesty.sets import SETS, RealSet, cut
from benchmarks.gate_honesty.threshold import ThresholdGate
from schemas.ticket import Ticket

RESAMPLES = 400
TRAINED = ("data", "process")


@dataclass
class Result:
    """What one case came to. `where` is `data`, `delivery` or `process`; a clean run's `defect` is empty."""

    set: str
    seed: int
    defect: str
    where: str
    form: str
    verdict: str
    phase: str
    reason: str
    seconds: float
    by_threshold: bool
    """Whether the metric-threshold gate stops it."""
    figures: dict[str, float] = field(default_factory=dict)
    """`claimed`, `claimed_se`, `delivered`, `delivered_se` of clean runs; `boasted` (what the agent said of itself)."""

    @property
    def key(self) -> str:
        """Names the case."""
        return f"{self.set}/{self.seed}/{self.defect or 'clean'}/{self.where}"

    def line(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self))


class Bench:
    """All cases of one set and seed, in `folder`; with `pairs` the rows are also left for other tools to look at."""

    def __init__(self, name: str, seed: int, folder: Path, pairs: Path | None = None) -> None:
        self.set: RealSet = SETS[name]
        self.seed, self.folder, self.pairs = seed, folder, pairs
        self.given, self.kept = cut(self.set, seed)
        self.threshold = ThresholdGate.of(self.set)
        self._packages: dict[bool, tuple[Path, Path] | None] = {}

    def run(self, defects: Sequence[str], done: Callable[[str], bool] = lambda key: False) -> Iterator[Result]:
        """Clean runs first, then the defects, each in a folder of its own that is removed afterwards."""
        try:
            yield self.clean(timed=False)
            yield self.clean_delivery()
            for name in defects:
                yield self.defective(DEFECTS[name])
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def clean(self, *, timed: bool) -> Result:
        """A whole delivery of clean rows; what it claims beside what the kept rows say. Should a person be asked, that
        counts as stopped, and the person says yes: there must be a model for the deliveries to come."""
        trip = self._deliver(timed)
        figures = {}
        if "model-package.zip" in trip.files:
            figures = self._honesty(trip, self.kept)
        result = self._result("", "data", "with times" if timed else "", trip, self.given, figures)
        self._pair(result, self.given, None)
        return result

    def clean_delivery(self) -> Result:
        """The next delivery, with nothing wrong with it."""
        case = Case(self.kept, "")
        return self._next("", case, timed=False)

    def defective(self, defect: Defect) -> Result:
        """One defect."""
        rng = np.random.default_rng([self.seed, zlib.crc32(f"{self.set.name} {defect.name}".encode())])
        if defect.where == "delivery":
            case = defect.inject(self.set, self.kept, rng)
            return self._next(defect.name, case, timed="recorded" in case.rows.columns)
        case = defect.inject(self.set, self.given, rng)
        folder = self._fresh(defect.name)
        trip = self._through(case, folder)
        result = self._result(defect.name, defect.where, case.form, trip, case.rows, _boasted(trip))
        self._pair(result, case.rows, None)
        return result

    def _deliver(self, timed: bool) -> Trip:
        rows = with_time(self.set, self.given) if timed else self.given
        folder = self._fresh("clean-timed" if timed else "clean")
        more: dict[str, Any] = {"time": "recorded", "groups": None} if timed else {}
        trip = self._through(Case(rows, "", more), folder, approve=True)
        package = trip.files.get("model-package.zip")
        self._packages[timed] = (package, folder / "root" / "rows.csv") if package else None
        return trip

    def _through(self, case: Case, folder: Path, *, approve: bool = False) -> Trip:
        root = folder / "root"
        root.mkdir(parents=True)
        case.rows.to_csv(root / "rows.csv", index=False)
        fields = {"groups": self.set.groups} | case.ticket
        ticket = Ticket(id=1, title=self.set.name, data="rows.csv", target=self.set.target, **fields)
        with standing_in(ShortSearch, *case.impostors):
            return travel(ticket, shipped("ml-delivery"), folder / "work", root, self.seed, approve=approve)

    def _next(self, name: str, case: Case, *, timed: bool) -> Result:
        if timed not in self._packages:
            self._deliver(timed)
        base = self._packages[timed]
        if base is None:
            none = Trip("crashed", "", "the clean delivery gave no model to send newer rows to")
            return self._result(name, "delivery", case.form, none, case.rows, {})
        folder = self._fresh(f"next {name}")
        root = folder / "root"
        root.mkdir(parents=True)
        shutil.copy(base[0], root / "model-package.zip")
        if case.same_file:
            shutil.copy(base[1], root / "rows.csv")
        else:
            case.rows.to_csv(root / "rows.csv", index=False)
        fields: dict[str, Any] = {"groups": None, "time": "recorded"} if timed else {"groups": self.set.groups}
        ticket = Ticket(
            id=2, title=self.set.name, data="rows.csv", model="model-package.zip", pipeline="retrain", **fields
        )
        trip = travel(ticket, shipped("retrain", "preparation"), folder / "work", root, self.seed)
        rows = self.given if case.same_file else case.rows
        result = self._result(name, "delivery", case.form, trip, rows, {})
        self._pair(result, self.given, rows)
        shutil.rmtree(folder)
        return result

    def _honesty(self, trip: Trip, kept: pd.DataFrame) -> dict[str, float]:
        """What was claimed (the harness's figure) and what the model does on rows kept from everything."""
        scope, outcome = delivered(trip.files, self.set.target, kept, self.folder)
        alike = twins.independent(kept.drop(columns=self.set.target), self.set.groups)
        claimed = json.loads(trip.files["metrics.json"].read_text("utf-8"))["metrics"][scope.metric]
        parts = {scope.metric: statistics(outcome)[scope.metric]}
        drawn = resample(parts, len(outcome.truth), RESAMPLES, self.seed, groups=alike)
        error = float(np.nanstd(drawn[scope.metric]))
        return {
            "claimed": claimed["value"],
            "claimed_se": claimed["se"],
            "delivered": score(outcome, scope.metric),
            "delivered_se": error,
            "lower_is_better": 0.0 if scope.higher_is_better else 1.0,
        }

    def _result(
        self, defect: str, where: str, form: str, trip: Trip, rows: pd.DataFrame, figures: dict[str, float]
    ) -> Result:
        stopped = False if where == "process" else self.threshold.stops(rows, self.seed)
        return Result(
            self.set.name, self.seed, defect, where, form, trip.verdict, trip.phase, trip.reason[:1000],
            round(trip.seconds, 2), stopped, figures,
        )  # fmt: skip

    def _pair(self, result: Result, before: pd.DataFrame, now: pd.DataFrame | None) -> None:
        """Leave what a drift tool would be shown: two parts of one table, or the rows before and the newer ones."""
        if self.pairs is None:
            return
        if now is None:
            part = np.random.default_rng(self.seed).random(len(before)) < 0.2
            before, now = before[~part], before[part]
        where = self.pairs / result.key.replace("/", "__").replace(" ", "-")
        where.mkdir(parents=True, exist_ok=True)
        before.to_csv(where / "reference.csv", index=False)
        now.to_csv(where / "current.csv", index=False)

    def _fresh(self, name: str) -> Path:
        folder = self.folder / name.replace(" ", "-").replace("/", "-")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def delivered(files: Mapping[str, Path], target: str, kept: pd.DataFrame, folder: Path) -> tuple[ScopeSpec, Outcome]:
    """The scope of a session whose artifacts are `files`, and what its model says of rows kept from it."""
    from agents.skills.data.tables import typed
    from agents.skills.feature.transform import prepare_frame
    from agents.skills.training.modelfile import load_model
    from agents.skills.training.search import outcome_of

    scope = ScopeSpec.model_validate_json(files["scope.json"].read_text("utf-8"))
    mapped = FeatureMap.model_validate_json(files["feature-map.json"].read_text("utf-8"))
    rows = typed(pd.read_csv(_written(kept, folder / "kept.csv"), dtype="object"), "kept")[0]
    truth = rows[target].astype(str).to_numpy() if scope.classes else rows[target].to_numpy(dtype=np.float64)
    return scope, outcome_of(load_model(files["model.skops"]), prepare_frame(rows, mapped), truth, scope.classes)


def _boasted(trip: Trip) -> dict[str, float]:
    """What the agent claimed, and what the harness measured instead, where the session came so far."""
    told = {name: value for name, value in trip.measured.get("training", {}).items() if name.startswith("cv_")}
    metric = next((name[3:] for name in told if not name.endswith("_se")), "")
    found = {"boasted": told[f"cv_{metric}"]} if metric else {}
    measured = trip.measured.get("metrics", {})
    return found | ({"measured": measured[metric]} if metric in measured else {})


def _written(rows: pd.DataFrame, path: Path) -> Path:
    rows.to_csv(path, index=False)
    return path


def lines(name: str, seed: int, defects: tuple[str, ...], pairs: str | None = None) -> list[str]:
    """Every case of one set and seed, as lines of JSON: the work of one process."""
    with tempfile.TemporaryDirectory(prefix="gate-honesty-") as folder:
        bench = Bench(name, seed, Path(folder) / "cases", Path(pairs) if pairs else None)
        return [result.line() for result in bench.run(defects)]
