"""`python -m benchmarks.gate_honesty [run|peers|report]`: everything by default; see `--help`.

Cases that are recorded in the results are not run again, so a stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from benchmarks.gate_honesty import frozen, report
from benchmarks.gate_honesty.cases import lines
from benchmarks.gate_honesty.defects import DEFECTS
from benchmarks.gate_honesty.peers import AUTOML, NEEDS, NotRun, automl, drift, make_environment
from benchmarks.gate_honesty.sets import SETS


def main() -> None:
    """Run what the command line asks for."""
    asked = _arguments()
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.part in ("all", "run"):
        _run(asked)
    if asked.part == "peers":
        _peers(asked)
    text = _report(asked.out)
    (asked.out / "report.md").write_text(text + "\n", "utf-8")
    print(text)


def _arguments() -> argparse.Namespace:
    fixed = frozen.read()
    words = argparse.ArgumentParser(prog="python -m benchmarks.gate_honesty", description=__doc__)
    words.add_argument("part", nargs="?", default="all", choices=("all", "run", "peers", "report"))
    words.add_argument("--sets", default=",".join(SETS), help="names of data sets, by commas")
    words.add_argument("--seeds", default=",".join(map(str, fixed.held_out)), help="seeds, by commas")
    words.add_argument("--defects", default=",".join(DEFECTS), help="names of defects, by commas")
    words.add_argument("--jobs", type=int, default=1, help="sets and seeds at a time")
    words.add_argument("--pairs", action="store_true", help="leave every pair of tables for `peers`")
    words.add_argument("--out", type=Path, default=Path("benchmarks/gate_honesty_results"))
    asked = words.parse_args()
    asked.sets, asked.defects = asked.sets.split(","), [name for name in asked.defects.split(",") if name]
    asked.seeds = [int(seed) for seed in asked.seeds.split(",")]
    for what, names, known in (("set", asked.sets, SETS), ("defect", asked.defects, DEFECTS)):
        if unknown := [name for name in names if name not in known]:
            sys.exit(f"no {what} {', '.join(unknown)}; there are {', '.join(known)}")
    if set(asked.seeds) & set(fixed.held_out) and (changed := fixed.changed):
        sys.exit(
            f"thresholds differ from those frozen on {fixed.date}: {'; '.join(changed)}\n"
            "name new held-out seeds in frozen.yaml when you freeze them anew, or run development seeds: "
            f"--seeds {','.join(map(str, fixed.development))}"
        )
    return asked


def _run(asked: argparse.Namespace) -> None:
    # Read when the libraries load, so the workers are new interpreters: threads beyond the cores only wait.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    results = asked.out / "cases.jsonl"
    rows = report.read(results) if results.exists() else []
    known = {(row["set"], row["seed"]) for row in rows}
    # Seed by seed over all sets: a run that is stopped has whole seeds.
    wanted = [(name, seed) for seed in asked.seeds for name in asked.sets if (name, seed) not in known]
    pairs = str(asked.out / "pairs") if asked.pairs else None
    with results.open("a", encoding="utf-8") as record, _pool(asked.jobs) as pool:
        futures = {pool.submit(lines, name, seed, tuple(asked.defects), pairs): (name, seed) for name, seed in wanted}
        for future in as_completed(futures):
            record.writelines(line + "\n" for line in future.result())
            record.flush()
            print("done:", *futures[future], flush=True)


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))


def _peers(asked: argparse.Namespace) -> None:
    home = asked.out / "environments"
    home.mkdir(exist_ok=True)
    for peer in NEEDS:
        try:
            make_environment(peer, home.resolve())
            if peer == "evidently":
                if not (asked.out / "pairs").is_dir():
                    raise NotRun("there are no pairs of tables: run with --pairs first")
                told: object = drift(home.resolve(), asked.out / "pairs")
            else:
                told = automl(peer, home.resolve(), asked.sets, asked.seeds[:1], asked.out / "rows")
            (asked.out / f"{peer}.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
        except NotRun as problem:
            print(f"not run: {problem}", file=sys.stderr)


def _report(out: Path) -> str:
    if not (out / "cases.jsonl").exists():
        sys.exit(f"no cases in {out}: run `python -m benchmarks.gate_honesty run` first")
    told = {peer: json.loads(p.read_text("utf-8")) for peer in NEEDS if (p := out / f"{peer}.json").exists()}
    return report.document(
        report.read(out / "cases.jsonl"), told.get("evidently"), {name: told.get(peer) for peer, name in AUTOML.items()}
    )


if __name__ == "__main__":
    main()
