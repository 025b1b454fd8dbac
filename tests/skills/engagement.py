"""Tickets an engagement can begin with, on the small real data sets, and the phases of one already run on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from agents.skills.data.contract import DataContract
from agents.skills.data.extract import DataExtract
from agents.skills.data.profile import DataProfile
from agents.skills.data.quality import DataQuality
from agents.skills.data.source import DataSource
from agents.skills.data.split import DataSplit
from agents.skills.devsecops.package import DevsecopsPackage
from agents.skills.evaluation.measure import EvaluationMeasure
from agents.skills.evaluation.predict import EvaluationPredict
from agents.skills.feature.leakage import FeatureLeakage
from agents.skills.feature.pipeline import FeaturePipeline
from agents.skills.lead.discover import LeadDiscover
from agents.skills.lead.estimate import LeadEstimate
from agents.skills.lead.kickoff import LeadKickoff
from agents.skills.lead.kpis import LeadKpis
from agents.skills.lead.opportunity import LeadOpportunity
from agents.skills.lead.scope import LeadScope
from agents.skills.risk.profile import RiskProfile
from agents.skills.risk.readiness import RiskReadiness
from agents.skills.training.plan import TrainingPlan
from agents.skills.training.train import TrainingTrain
from schemas.ticket import Ticket
from tests.skills.conftest import ECONOMY, VOTES, WINE
from tests.skills.harness import run_skill

BODY = """We guess each voter's choice by hand before we send letters, and often guess wrong.

Users: the two people who write the letters
Decision: which of two letters a voter gets
Today: by the party named in the list, without looking at anything else
Sponsor: Frida Berg, head of outreach
Rules: election law of the state; our own data policy of 2024
Personal data: yes, under the survey's consent
Licence: public domain
Data owner: Survey office
Errors today: 20 %
Cases per year: 50,000
Cost of an error: 1.50 USD
Team: data: ana; training: ben; evaluation: cleo
Approvers: dana
Success: fewer than 12 wrong letters in 100
"""


def asked(ticket: Ticket, body: str = BODY, **changes: Any) -> Ticket:
    """The ticket as somebody would write it for an engagement."""
    return ticket.model_copy(update={"body": body, "requester": "alice", "pipeline": "ml-engagement", **changes})


USAGE = {"wall_seconds": 20.0, "cpu_seconds": 30.0, "usd": 0.000834, "tokens": 0, "peak_rss_bytes": 1}
VOTE = asked(VOTES)
CULTIVAR = asked(WINE)
UNEMPLOYMENT = asked(ECONOMY, BODY.replace("20 %", "1.4"))
BEGINNING = (LeadOpportunity, LeadDiscover, RiskReadiness, LeadScope, LeadEstimate, LeadKpis, LeadKickoff)
DELIVERY = (
    DataSource, DataExtract, DataContract, DataQuality, DataSplit, DataProfile, FeaturePipeline, FeatureLeakage,
    TrainingPlan, TrainingTrain, EvaluationPredict, EvaluationMeasure, RiskProfile, DevsecopsPackage,
)  # fmt: skip


def quicker(plan: Path) -> None:
    """Few trials: the search is not what is tested."""
    written = json.loads(plan.read_text("utf-8"))
    plan.write_text(json.dumps(written | {"trials": 2, "candidates": written["candidates"][:1], "folds": 3}), "utf-8")


def deliver(ticket: Ticket, folder: Path, root: Path) -> tuple[dict[str, Any], dict[str, Path]]:
    """Every phase of an engagement up to the deployment: outputs by skill and files by name."""
    outputs: dict[str, Any] = {}
    files: dict[str, Path] = {}
    measured: dict[str, dict[str, float]] = {}
    for skill in (*BEGINNING, *DELIVERY):
        outputs[skill.name], produced = run_skill(
            skill, ticket, folder, files, roots=(root,), measured=measured, facts={"usage": USAGE}
        )
        files |= produced
        for each in outputs[skill.name].measurements:
            measured.setdefault(each.scope, {})[each.name] = each.value
        if skill is TrainingPlan:
            quicker(files["experiment-plan.json"])
    return outputs, files


def watched(files: dict[str, Path], folder: Path) -> Path:
    """A monitoring configuration of the agreed name, as little as the phases after it read of it."""
    path = folder / "monitoring-config.yaml"
    path.write_text(yaml.safe_dump({"kind": "ModelMonitoring", "signals": [{"name": "latency"}]}), "utf-8")
    return path
