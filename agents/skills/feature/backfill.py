"""Skill `feature.backfill`: the inputs of a delivered package for a table of past rows, window by window."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from agents.skills.feature.windows import Every, Windows, windows_for
from schemas.values import Measurement, Mode, Role, TickedItem

if TYPE_CHECKING:
    import pandas as pd

    from agents.skills.data.streaming import Source
    from agents.skills.feature.partitions import Job, Partition
    from agents.skills.training.inuse import Package

COMPARED_ROWS = 20_000
"""At most so many rows of a window, spread evenly, are held against the window before."""
MOST_WINDOWS = 5_000
"""Each window is a file or two."""
FEWEST_ROWS = 30
"""Windows of fewer rows are not compared."""
_CODE = Path(__file__).resolve().parents[1]
_LIBRARIES = ("numpy", "pandas", "pyarrow")


class BackfillParameters(Parameters):
    """How past rows are divided."""

    every: Every = "month"
    """The length of a window where the ticket's `time` holds dates."""
    width: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """The same where it holds numbers."""
    window_rows: Annotated[int, Field(ge=100, le=10_000_000)] = 100_000
    """The same in rows, where the ticket names no `time`."""
    chunk_rows: Annotated[int, Field(ge=100, le=1_000_000)] = 20_000
    """Rows in memory at once, and what a killed run loses at most."""
    keep_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    """How long the partitions are kept, where that is shorter than the installation's `backfill_days`."""


@dataclass(frozen=True)
class _Done:
    """What the pieces hold together."""

    rows: int
    skipped: dict[str, int]
    windows: dict[str, list[int]]
    personal: dict[str, str]
    empty: dict[str, int]


class FeatureBackfill(Skill[BackfillParameters, SkillOutput]):
    """Compute a delivered package's inputs for past rows in windows of time; resumable, with drift between windows.

    What is written are the inputs before anything that was fitted: a row's values depend on that row alone, so nothing
    of later rows can be in them. The model in the package fits, scales and encodes them itself.
    """

    name = "feature.backfill"
    role = Role.FEATURE
    modes = frozenset({Mode.BUILD})
    optional = ("model-package.zip",)
    produces = ("backfill.json", "backfill.md", "backfill.svg")
    parameters = BackfillParameters
    seconds = 3600.0

    def run(self, parameters: BackfillParameters, context: SkillContext) -> SkillOutput:
        """Write the partitions below the installation's `backfills`, and the report.

        Raises InputError for a package or a source that cannot be used, SkillError when another run is at the same.
        """
        from agents.skills.data.streaming import named_root, opened
        from agents.skills.feature.backfill_report import draw, write_report
        from agents.skills.feature.partitions import held

        package = _package(context)
        root = named_root(str(context.facts.get("backfills") or ""))
        with opened(context) as source:
            key = _key(package, source, context, parameters)
            with held(root, key) as job:
                manifest = job.manifest()
                again = manifest is not None
                if manifest is None:
                    manifest = _work(job, package, source, parameters, context, key)
                    job.finish(manifest)
                report = manifest | {"already_there": again, "pieces_of_a_killed_run": job.taken}
        context.write_json("backfill.json", report)
        draw(report, context.out / "backfill.svg")
        context.write_text("backfill.md", write_report(context.ticket, report))
        return _output(report)


def _package(context: SkillContext) -> Package:
    """The session's own package, or the one the ticket's `model` names."""
    from agents.skills.training.inuse import open_in_use, read_package

    if "model-package.zip" in context.inputs:
        return read_package("model-package.zip", context.path("model-package.zip").read_bytes())
    return open_in_use(context)


def _key(package: Package, source: Source, context: SkillContext, parameters: BackfillParameters) -> str:
    """A digest of all that the partitions' bytes depend on."""
    what: dict[str, Any] = {
        "definitions": package.features.signature, "source": source.sha256, "time": context.ticket.time,
        "parameters": parameters.model_dump(mode="json"), "libraries": [version(name) for name in _LIBRARIES],
    }  # fmt: skip
    code = hashlib.sha256()
    for path in (*sorted((_CODE / "feature").glob("*.py")), _CODE / "data" / "streaming.py"):
        code.update(path.read_bytes())
    what["code"] = code.hexdigest()
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def _work(
    job: Job, package: Package, source: Source, parameters: BackfillParameters, context: SkillContext, key: str
) -> dict[str, Any]:
    done = _pieces(job, package, source, parameters, context)
    if not done.windows:
        why = "; ".join(f"{number:,}: {reason}" for reason, number in done.skipped.items())
        raise InputError(f"no row of {source.shown} can be used ({why or 'it has none'})", "check the time column")
    if len(done.windows) > MOST_WINDOWS:
        raise InputError(
            f"the rows of {source.shown} are in {len(done.windows):,} windows, more than {MOST_WINDOWS:,}",
            "choose longer ones with `every`, `width` or `window_rows`",
        )
    context.progress(f"writing {len(done.windows)} windows")
    partitions = list(job.gather(done.windows, sorted(done.personal)))
    written = sum(each.rows for each in {each.window: each for each in partitions}.values())
    windows = _windows(source, parameters, context)
    return {
        "job": key, "directory": f"backfills/{key}", "made": context.now, "keep_days": parameters.keep_days,
        "package": {"name": package.manifest["name"], "version": package.manifest["version"],
                    "sha256": package.sha256, "signature": package.features.signature},
        "source": {"uri": source.shown, "sha256": source.sha256, "rows": done.rows},
        "time": context.ticket.time, "windows_by": windows.every if windows.kind == "datetime" else windows.kind,
        "columns": [column.name for column in package.features.columns],
        "personal": done.personal, "rows": written, "skipped": done.skipped, "without_a_value": done.empty,
        "labels": {name: windows.label(name) for name in sorted(done.windows)},
        "partitions": [each.as_dict() for each in partitions],
        "drift": _drift(job, partitions),
    }  # fmt: skip


def _windows(source: Source, parameters: BackfillParameters, context: SkillContext) -> Windows:
    first = next(source.pieces(parameters.chunk_rows), None)
    if first is None:
        raise InputError(f"{source.shown} has no rows", "name a source with rows")
    if context.ticket.time is not None and context.ticket.time not in first.columns:
        raise InputError(f"{source.shown} has no column {context.ticket.time!r}, the ticket's `time`", "correct `time`")
    return windows_for(first, context.ticket.time, parameters.every, parameters.width, parameters.window_rows)


def _pieces(job: Job, package: Package, source: Source, parameters: BackfillParameters, context: SkillContext) -> _Done:
    """Every part of the source as a piece, those of a killed run as they are."""
    windows = _windows(source, parameters, context)
    wanted = list(dict.fromkeys([c.name for c in package.features.columns] + [context.ticket.time or ""]))
    personal: dict[str, str] = {}
    rows = 0
    skipped: Counter[str] = Counter()
    empty: Counter[str] = Counter()
    found: dict[str, list[int]] = {}
    for number, part in enumerate(source.pieces(parameters.chunk_rows, [name for name in wanted if name])):
        note = job.piece(number)
        if note is None:
            note = _piece(job, number, part, package, windows, context)
        if number == 0:
            personal = note["personal"]
        rows += len(part)
        skipped.update(note["skipped"])
        empty.update(note["empty"])
        for window in note["windows"]:
            found.setdefault(window, []).append(number)
        context.progress(f"{rows:,} rows")
    return _Done(rows, dict(skipped), found, personal, dict(empty))


def _piece(
    job: Job, number: int, part: pd.DataFrame, package: Package, windows: Windows, context: SkillContext
) -> dict[str, Any]:
    from agents.skills.feature.partitions import ROW, WINDOW
    from agents.skills.feature.transform import prepare_frame

    names, skipped = windows.of(part, context.now)
    there = names.notna().to_numpy()
    prepared = prepare_frame(part.loc[there], package.features)
    lost = {
        str(name): int(prepared[name].isna().sum()) for name in prepared.columns if bool(prepared[name].isna().any())
    }
    prepared.insert(0, ROW, part.index[there])
    for name in prepared.columns:
        if prepared[name].dtype == object:
            prepared[name] = prepared[name].astype("str").where(prepared[name].notna(), None).astype(object)
    prepared[WINDOW] = names[there].to_numpy()
    note = {"skipped": skipped, "empty": lost, "personal": _personal(part, package) if number == 0 else {}}
    return job.keep(number, prepared, note)


def _personal(part: pd.DataFrame, package: Package) -> dict[str, str]:
    """The inputs, as they are written, that rules take for personal data, each with the tag."""
    import pandas as pd

    from agents.skills.data.personal import scan
    from agents.skills.feature.transform import DATETIME_PARTS, part_name, prepare_frame

    plain = [column for column in package.features.columns if column.kind != "datetime"]
    alone = package.features.model_copy(update={"columns": tuple(plain)})
    looked = prepare_frame(part, alone)  # by their kinds: a number that a CSV holds as text is no telephone number
    for column in package.features.columns:
        if column.kind == "datetime":
            looked[column.name] = pd.to_datetime(part[column.name], errors="coerce", utc=True, format="ISO8601")
    found = {name: findings[0].tag for name, findings in scan(looked).items()}
    tagged: dict[str, str] = {}
    for column in package.features.columns:
        if tag := found.get(column.name):
            parts = [part_name(column.name, each) for each in DATETIME_PARTS]
            tagged |= dict.fromkeys(parts if column.kind == "datetime" else [column.name], tag)
    return tagged


def _drift(job: Job, partitions: list[Partition]) -> list[dict[str, Any]]:
    """Each window beside the one before: the inputs that moved (PSI, Kolmogorov-Smirnov), by the train's one
    calculation. Parts of dates are left out: they always move."""
    from agents.skills.data.drift import compare_rows
    from agents.skills.feature.partitions import read_window

    by_window: dict[str, list[Partition]] = {}
    for each in partitions:
        by_window.setdefault(each.window, []).append(each)
    found: list[dict[str, Any]] = []
    before: tuple[str, pd.DataFrame] | None = None
    for window in sorted(by_window):
        rows = read_window(job.directory, by_window[window], COMPARED_ROWS)
        rows = rows[[name for name in rows.columns if "|" not in name]]
        if len(rows) < FEWEST_ROWS or rows.columns.empty:
            continue
        if before is not None:
            used = [name for name in rows.columns if rows[name].notna().any() and before[1][name].notna().any()]
            moved = compare_rows(before[1][used], rows[used]) if used else []
            found.append(
                {
                    "window": window, "before": before[0], "compared": len(moved),
                    "moved": [
                        {"name": m.name, "psi": m.psi, "psi_limit": m.psi_limit, "distance": m.distance,
                         "distance_limit": m.distance_limit}
                        for m in moved if m.moved
                    ],
                    "largest_psi": max((m.psi for m in moved), default=0.0),
                }
            )  # fmt: skip
        before = (window, rows)
    return found


def _output(report: dict[str, Any]) -> SkillOutput:
    windows = len(report["labels"])
    moved = [each for each in report["drift"] if each["moved"]]
    skipped = sum(report["skipped"].values())
    went_on = f"; {report['pieces_of_a_killed_run']} pieces are of a run that was killed"
    warnings = [f"{number:,} rows skipped: {reason}" for reason, number in sorted(report["skipped"].items())]
    warnings += [
        f"{', '.join(m['name'] for m in each['moved'][:5])} moved from {report['labels'][each['before']]} to "
        f"{report['labels'][each['window']]}"
        for each in moved[:10]
    ]
    return SkillOutput(
        summary=f"{report['rows']:,} rows in {windows} windows, {skipped:,} skipped; inputs moved between "
        f"{len(moved)} of {len(report['drift'])} pairs of windows"
        + ("; all of it was there already" if report["already_there"] else "")
        + (went_on if report["pieces_of_a_killed_run"] else ""),
        ticked=(
            TickedItem(
                item="backfilled", evidence=f"backfill.json: {report['rows']:,} rows, {len(report['partitions'])} files"
            ),
        ),
        measurements=(
            Measurement(scope="backfill", name="rows", value=float(report["rows"])),
            Measurement(scope="backfill", name="skipped", value=float(skipped)),
            Measurement(scope="backfill", name="windows", value=float(windows)),
            Measurement(scope="backfill", name="moved", value=float(len(moved))),
        ),
        warnings=tuple(warnings),
    )
