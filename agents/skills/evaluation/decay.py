"""Skill `evaluation.decay`: how a delivered model does as time passes, on labelled rows of later windows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from agents.skills.evaluation.text import number
from schemas.values import Measurement, Mode, Role, TickedItem

if TYPE_CHECKING:
    import pandas as pd

    from agents.skills.evaluation.decay_trend import Crossing, Decay
    from agents.skills.evaluation.scores import Floats, Integers
    from agents.skills.training.inuse import Package

MONTH = 30.0
"""Days of the unit in which a slope is told."""
_CRITERION = r"metrics\.{metric}(?:_lower|_upper)?\s*(>=|>|<=|<)\s*(-?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*$"


class DecayParameters(Parameters):
    """How later rows are divided, and what the metric must keep."""

    windows: Annotated[int, Field(ge=3, le=36)] = 8
    """At most so many windows of about as many rows each."""
    limit: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """What the metric must keep; by default the acceptance criterion, else the bad end of the promise."""


@dataclass(frozen=True)
class Found:
    """Everything the report says. `dates`: times are days since 1970, else units of the time column."""

    package: Package
    column: str
    dates: bool
    rows: int
    not_later: int
    grouped_by: str | None
    limit_from: str
    decay: Decay
    drift: tuple[tuple[int, int, float, tuple[str, ...]], ...]
    """For each window: columns that moved, columns compared, the largest PSI, the names of those that moved."""

    def moment(self, time: float) -> str:
        """A time for people."""
        if not self.dates:
            return f"{self.column} {time:.6g}"
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=time)).strftime("%Y-%m-%d")

    @property
    def unit(self) -> float:
        """How much time a slope is told for."""
        return MONTH if self.dates else 1.0


class EvaluationDecay(Skill[DecayParameters, SkillOutput]):
    """Measure a delivered model on labelled rows of later windows: metric, trend, when it falls below its criterion.

    The rows must be later than those the model was trained on; whoever gives them says what happened.
    """

    name = "evaluation.decay"
    role = Role.EVALUATION
    modes = frozenset({Mode.EVALUATE, Mode.OPERATE, Mode.IMPROVE})
    produces = ("decay.json", "decay.md", "decay.svg")
    parameters = DecayParameters
    harness = True
    reads_source = True
    seconds = 600.0

    def run(self, parameters: DecayParameters, context: SkillContext) -> SkillOutput:
        """Write figures, page and picture. Raises InputError for a package, rows or a time column that cannot be used,
        and for too few later rows."""
        from agents.skills.evaluation.decay_report import as_json, document, draw

        found = _measure(parameters, context)
        context.write_json("decay.json", as_json(found))
        draw(found, context.out / "decay.svg")
        context.write_text("decay.md", document(context.ticket, found))
        return _output(found)


def _measure(parameters: DecayParameters, context: SkillContext) -> Found:
    import numpy as np
    from threadpoolctl import threadpool_limits

    from agents.skills.data.loading import load
    from agents.skills.data.target import as_target
    from agents.skills.evaluation.decay_trend import FEWEST_ROWS, FEWEST_WINDOWS, constant, measure, windows_of
    from agents.skills.evaluation.scores import score
    from agents.skills.feature.transform import prepare_frame
    from agents.skills.training.inuse import open_in_use
    from agents.skills.training.modelfile import loads_model
    from agents.skills.training.search import outcome_of

    package = open_in_use(context)
    scope, profile = package.scope, package.profile
    column = context.ticket.time
    if column is None:
        raise InputError("the ticket names no `time`", "add `time:` with the column that says when each row was")
    loaded = load(context.ticket.model_copy(update={"target": scope.target}), context.roots, context.max_data_bytes)
    times, dates = _times(loaded.frame, column, loaded.source.uri)
    later = np.isfinite(times)
    newest = profile.get("newest")
    if dates and newest is not None:
        later &= times > _days(datetime.fromisoformat(newest["value"]))
    frame, times = loaded.frame[later].reset_index(drop=True), times[later]
    parts = windows_of(times, parameters.windows)
    if not parts:
        raise InputError(
            f"{loaded.source.uri} has {len(frame):,} rows of several times that are later than the newest training row"
            f" ({newest['value'] if dates and newest else 'unknown'}); {FEWEST_WINDOWS} windows of {FEWEST_ROWS} are "
            "needed",
            "wait for more outcomes, or give the rows of a longer time",
        )
    target = as_target(frame[scope.target], scope.task)
    if scope.classes and (strange := sorted(set(target) - set(scope.classes))):
        raise InputError(
            f"{loaded.source.uri} has classes of {scope.target!r} that the model does not know: {strange[:5]}",
            "start a new model with pipeline ml-delivery",
        )
    model = loads_model("model.skops of the model in use", package.files["model.skops"])
    truth = target.to_numpy(dtype=object if scope.classes else np.float64)
    with threadpool_limits(limits=1):
        outcome = outcome_of(
            model, prepare_frame(frame, package.features), truth.astype(str) if scope.classes else truth, scope.classes
        )
    floor = constant(outcome, profile["target"], scope.classes)
    groups = _groups(frame, context.ticket.groups)
    promise = profile.get("promised")
    promised = None
    if promise is not None and promise["metric"] == scope.metric:
        promised = float(promise["value"]), float(promise["se"])
    chance = score(floor, scope.metric)
    begin = promised[0] if promised else score(outcome.take(parts[0]), scope.metric)
    limit, limit_from = _limit(parameters, context, scope.metric, promised, scope.higher_is_better, begin)
    context.progress(f"{len(frame):,} later rows in {len(parts)} windows")
    decay = measure(
        outcome, floor, scope.metric, times, groups, parts, promised=promised, limit=limit,
        chance=chance if np.isfinite(chance) else begin, seed=context.seed,
        resamples=1000 if len(frame) <= 20_000 else 400,
    )  # fmt: skip
    if decay is None:
        raise InputError(
            f"{scope.metric} is undefined in a window: it has rows of one outcome only", "allow fewer `windows`"
        )
    drift = tuple(_drift(package, frame, part, groups) for part in parts)
    return Found(
        package, column, dates, len(frame), int((~later).sum()), context.ticket.groups, limit_from, decay, drift
    )


def _times(frame: pd.DataFrame, column: str, shown: str) -> tuple[Floats, bool]:
    """The time of each row (dates as days since 1970, missing as NaN), and whether it is a date."""
    import numpy as np
    import pandas as pd

    from agents.skills.data.columns import kind_of

    kind = kind_of(frame[column])
    if kind == "datetime":
        days = (frame[column] - pd.Timestamp("1970-01-01")).dt.total_seconds() / 86_400
        return np.asarray(days, dtype=np.float64), True
    if kind != "numeric":
        raise InputError(
            f"column {column!r} of {shown}, the ticket's `time`, holds neither dates (ISO 8601) nor numbers",
            "write it as 2026-01-31",
        )
    return np.asarray(frame[column], dtype=np.float64), False


def _days(when: datetime) -> float:
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() / 86_400


def _groups(frame: pd.DataFrame, column: str | None) -> Integers:
    """A number for the group of each row; rows without one, or without a column of groups, stand alone."""
    import numpy as np
    import pandas as pd

    if column is None:
        return np.arange(len(frame))
    codes = pd.factorize(frame[column])[0].astype(np.intp)
    alone = codes < 0
    codes[alone] = codes.max() + 1 + np.arange(int(alone.sum()))
    return codes


def _limit(
    parameters: DecayParameters,
    context: SkillContext,
    metric: str,
    promised: tuple[float, float] | None,
    higher: bool,
    begin: float,
) -> tuple[float, str]:
    """What the metric must keep, and where that comes from."""
    if parameters.limit is not None:
        return parameters.limit, "the parameter `limit`"
    pattern = re.compile(_CRITERION.format(metric=re.escape(metric)))
    for criterion in context.acceptance or context.ticket.acceptance:
        if (match := pattern.fullmatch(criterion.strip())) and (match[1].startswith(">") == higher):
            return float(match[2]), f"the criterion `{criterion.strip()}`"
    if promised is not None:
        worse = -1.0 if higher else 1.0
        return promised[0] + worse * 1.96 * promised[1], "the bad end of the promised 95 % interval"
    return begin, "the first window: neither a criterion nor a promise says more"


def _drift(
    package: Package, frame: pd.DataFrame, part: Integers, groups: Integers
) -> tuple[int, int, float, tuple[str, ...]]:
    """Inputs of one window beside the training rows, by the train's one calculation."""
    from agents.skills.data.drift import compare_columns

    compared = compare_columns(package.profile, frame.iloc[part], groups[part])
    moved = tuple(each.name for each in compared if each.moved)
    return len(moved), len(compared), max((each.psi for each in compared), default=0.0), moved


def until(found: Found, crossing: Crossing | None) -> Sequence[float]:
    """Time from the end of the rows to a crossing and to the ends of its interval; infinite where not shown."""
    if crossing is None:
        return (float("inf"),) * 3
    last = found.decay.windows[-1].end
    return tuple(each - last for each in (crossing.at, crossing.lower, crossing.upper))


def _output(found: Found) -> SkillOutput:
    decay, scope = found.decay, found.package.scope
    last = decay.windows[-1]
    _, compared, _, inputs = found.drift[-1]
    said = "no decay is shown by these rows"
    warnings = []
    if decay.decays:
        said = f"it decays by {number(abs(decay.slope.value) * found.unit)} " + (
            "in 30 days" if found.dates else f"for each unit of {found.column}"
        )
        when = f"at {found.moment(decay.limit.at)}" if decay.limit.shown else "not within what these rows can tell"
        warnings.append(f"{scope.metric} decays: {said}; it reaches {number(decay.limit.value)} {when}")
    if decay.fallen and decay.promised:
        warnings.append(
            f"{scope.metric} is {decay.whole.text} on all later rows, {number(decay.promised[0])} was promised"
        )
    if inputs:
        warnings.append(f"inputs of the newest window that moved: {', '.join(inputs[:8])}")
    return SkillOutput(
        summary=f"{scope.metric} {last.value.text} in the newest of {len(decay.windows)} windows "
        f"({found.rows:,} rows); {said}",
        ticked=(
            TickedItem(
                item="decay-measured", evidence=f"decay.json: {len(decay.windows)} windows, {compared} inputs compared"
            ),
        ),
        measurements=tuple(_figures(found)),
        warnings=tuple(warnings),
    )


def _figures(found: Found) -> list[Measurement]:
    """The figures for criteria; times only where the rows show them (in days, or units of the time column)."""
    decay, last = found.decay, found.decay.windows[-1].value
    at, lower, upper = until(found, decay.limit)
    figures = [
        Measurement(scope="decay", name="windows", value=float(len(decay.windows))),
        Measurement(scope="decay", name="slope", value=decay.slope.value * found.unit),
        Measurement(scope="decay", name="slope_lower", value=decay.slope.lower * found.unit),
        Measurement(scope="decay", name="slope_upper", value=decay.slope.upper * found.unit),
        Measurement(scope="decay", name="shown", value=float(decay.decays)),
        Measurement(scope="decay", name="fallen", value=float(decay.fallen)),
        Measurement(scope="decay", name="latest", value=last.value),
        Measurement(scope="decay", name="latest_lower", value=last.lower),
        Measurement(scope="decay", name="latest_upper", value=last.upper),
        Measurement(scope="decay", name="moved", value=float(found.drift[-1][0])),
    ]
    if isfinite(at):
        figures.append(Measurement(scope="decay", name="time_to_limit", value=at))
    if isfinite(lower):
        figures.append(Measurement(scope="decay", name="time_to_limit_lower", value=lower))
    if isfinite(upper):
        figures.append(Measurement(scope="decay", name="time_to_limit_upper", value=upper))
    return figures
