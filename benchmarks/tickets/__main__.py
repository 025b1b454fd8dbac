"""`make eval`: how many of the code tickets here the configured model solves, over several runs.

    python -m benchmarks.tickets [--runs N] [--home DIR] [--output FILE] [NAME …]

Endpoint, model and prices are those of the home's `config.yaml` and `policy.yaml` (and `VALUETRAIN_…`). Each run drives
all tickets through the whole system in a scratch repository. A ticket is solved if its change waits for a person at the
gate of `evaluate`: by then every test of the project passes, and the hidden one. Exit code 2 if nothing is configured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.tickets.loading import CodeTicket, tickets
from benchmarks.tickets.running import Run, drive, summary
from cli.errors import CliError
from cli.settings import Settings, load

OUTPUT = Path("benchmarks/eval.json")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="make eval", description="Measure the configured model on code tickets.")
    parser.add_argument("--runs", type=int, default=3, help="how often all tickets are driven [3]")
    parser.add_argument("--home", type=Path, default=Path(".valuetrain"), help="where endpoint and prices are set")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"where the runs are written as JSON [{OUTPUT}]")
    parser.add_argument("names", nargs="*", metavar="NAME", help="tickets [all]")
    options = parser.parse_args()
    if options.runs < 1:
        sys.exit("--runs must be at least 1")
    chosen = _chosen(options.names)
    try:
        settings, models = configured(options.home)
    except CliError as problem:
        print(problem, file=sys.stderr)
        sys.exit(2)
    print(
        f"{settings.model_name} at {settings.model_base_url}, {len(chosen)} tickets, {options.runs} runs\n", flush=True
    )
    runs: list[Run] = []
    for number in range(1, options.runs + 1):
        with tempfile.TemporaryDirectory(prefix="value-train-eval-") as folder:
            runs.append(drive(chosen, Path(folder), settings, models))
        print(f"run {number}: {len(runs[-1].solved)} of {len(chosen)} solved, ${runs[-1].usd:.4f}", flush=True)
    print()
    print("\n".join(summary(chosen, runs)))
    kept = {"model": settings.model_name, "runs": [run.document() for run in runs]}
    options.output.write_text(json.dumps(kept, indent=2) + "\n", "utf-8")
    print(f"\nwritten to {options.output}")


def configured(home: Path) -> tuple[Settings, dict[str, Any]]:
    """The settings and the policy's `models`. Raises CliError saying what is missing: nothing is measured then."""
    settings = load(home / "config.yaml")
    if settings.model_base_url is None:
        raise CliError(
            f"no endpoint is configured, so nothing is measured: name model_base_url and model_name in "
            f"{home / 'config.yaml'} (docs/llm.md), or another home by --home"
        )
    policy = home / "policy.yaml"
    models = (yaml.safe_load(policy.read_text("utf-8")) or {}).get("models") if policy.exists() else None
    if not models:
        raise CliError(f"no price is configured, so nothing is measured: name the model under `models` in {policy}")
    return settings, models


def _chosen(names: list[str]) -> list[CodeTicket]:
    known = {ticket.name: ticket for ticket in tickets()}
    if unknown := sorted(set(names) - set(known)):
        sys.exit(f"no ticket {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] or list(known.values())


if __name__ == "__main__":
    main()
