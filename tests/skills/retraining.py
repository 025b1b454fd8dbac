"""A model in use, delivered by the real skills, and newer rows whose codebook runs the other way round."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from agents.discovery import skill
from agents.skills.training.plan import TrainingPlan
from conductor.pipelines import load
from schemas.ticket import Ticket
from tests.skills.conftest import DATA
from tests.skills.engagement import quicker
from tests.skills.harness import run_skill

PARTIES = (
    "strong democrat", "weak democrat", "independent democrat", "independent", "independent republican",
    "weak republican", "strong republican",
)  # fmt: skip


def deliver(folder: Path, data: str = "votes.csv", target: str = "vote", **more: Any) -> dict[str, Path]:
    """Every artifact of a delivery on a data set of `tests/data`, after a short search."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(DATA / data, folder / data)
    names = [name for phase in load("ml-delivery").phases for name in phase.skills]
    ticket = Ticket(id=2, title="Expect a vote", data=data, target=target, requester="alice", **more)
    files: dict[str, Path] = {}
    for cls in map(skill, names):
        files |= run_skill(cls, ticket, folder / "delivery", files, roots=(folder,))[1]
        if cls is TrainingPlan:
            quicker(files["experiment-plan.json"])
    return files


def newer_votes(path: Path) -> None:
    """The survey's rows as if a new wave had numbered its scales from the other end."""
    rows = pd.read_csv(DATA / "votes.csv")
    for name in ("selfLR", "ClinLR", "DoleLR"):
        rows[name] = 8 - rows[name]
    turned = dict(zip(PARTIES, reversed(PARTIES), strict=True))
    rows["party"] = rows["party"].map(turned)
    rows.to_csv(path, index=False)
