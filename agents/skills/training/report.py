"""The experiment log as a document for people."""

from __future__ import annotations

from agents.skills.data.markdown import cell, heading, origin_note
from agents.skills.shapes import ExperimentLog, ExperimentPlan, Trial
from agents.skills.training.experiment import Result
from agents.skills.words import metric_name, model_name, why_this_model
from schemas.ticket import Ticket


def log_document(log: ExperimentLog, result: Result, plan: ExperimentPlan, ticket: Ticket) -> str:
    """`experiment-log.md`: what was chosen and why, the finalists, and every configuration tried."""
    direction = "higher" if log.higher_is_better else "lower"
    folds = f"{result.folding.count} {result.folding.kind} folds"
    repeats = f", {result.repeats} times" if result.repeats > 1 else ""
    same = "gave the same bytes" if result.reproducible else "**did not give the same bytes**"
    lines = [
        heading("Experiment log", ticket),
        "",
        *origin_note(ticket),
        f"**Chosen: {model_name(log.chosen.model)}**, cross-validated {metric_name(log.metric)} {_score(log.chosen)} "
        f"({direction} is better); the floor is {_score(log.baseline)} ({plan.baseline}).",
        "",
        f"Why: {cell(why_this_model(log.chosen.model, log.reason), 1200)}.",
        "",
        "## Finalists, on the same fresh folds",
        "",
        f"{folds}{repeats}; ± is a standard error that allows for overlapping fitting rows (Nadeau and Bengio 2003).",
        "",
        f"| model | {metric_name(log.metric)} | settings |",
        "|---|---|---|",
        f"| {log.baseline.model} (floor) | {_score(log.baseline)} | |",
        *(f"| {trial.model} | {_score(trial)} | {_settings(trial)} |" for trial in result.finalists),
        "",
        "| challenger | holder | paired gain [95 % interval] | clearly better |",
        "|---|---|---|---|",
        *(
            f"| {duel.challenger} | {duel.holder} | {duel.gain:+.4f} [{duel.lower:+.4f}, {duel.upper:+.4f}] "
            f"| {'yes' if duel.won else 'no'} |"
            for duel in result.duels
        ),
        "",
        "## Reproducibility",
        "",
        f"Seed {log.seed}, one thread. Fitting the chosen configuration twice on all rows {same}; "
        f"`model.skops` is `{log.model_sha256}`. Search: {result.search_note}. Tracking: {log.tracking}.",
        "",
    ]
    if result.warnings:
        lines += ["## Warnings", "", *(f"- {text}" for text in result.warnings), ""]
    lines += [
        "## Every configuration tried",
        "",
        f"| # | model | {metric_name(log.metric)} | seconds | settings |",
        "|---|---|---|---|---|",
        *(
            f"| {index} | {trial.model} | {_score(trial)} | {trial.seconds:.2f} | {_settings(trial)} |"
            for index, trial in enumerate(log.trials, 1)
        ),
    ]
    return "\n".join(lines)


def _score(trial: Trial) -> str:
    return f"{trial.mean:.4f} ± {trial.standard_error:.4f}"


def _settings(trial: Trial) -> str:
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in sorted(trial.parameters.items())
    )
