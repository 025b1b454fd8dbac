"""Skill `devsecops.deploy_staging`: blue/green, a switch of all requests at once, and the drill of the way back."""

from __future__ import annotations

from typing import Any

import yaml

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.devsecops.environments import NEEDS, Check, ready, write_environment
from agents.skills.devsecops.replay import requests_of
from agents.skills.devsecops.rollout import ERROR_LIMIT, LEAST_SLOW_MS
from agents.skills.devsecops.trial import Trial, try_out
from schemas.values import Measurement, Mode, Role, TickedItem

REQUESTS = 200
BACK_SECONDS = 60.0
"""The longest the way back may take."""


class DevsecopsDeployStaging(Skill[Parameters, SkillOutput]):
    """Serve the verified package (green) beside the model in use (blue), switch, hold it to its limits, switch back."""

    name = "devsecops.deploy_staging"
    role = Role.DEVSECOPS
    modes = frozenset({Mode.DELIVER})
    reads_source = True
    needs = NEEDS
    produces = ("release-staging.json", "release-staging.md", "kubernetes-staging.yaml")
    seconds = 300.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write report and manifests. `release.staging_failed` counts the limits that were not kept.

        Raises InputError when the signature does not hold any more, SkillError when a server does not start or the way
        back does not lead back.
        """
        found = ready(context)
        config = yaml.safe_load(context.path("deployment-config.yaml").read_text("utf-8"))
        asked = requests_of(found.frame, found.package.features, context.seed + 1, most=REQUESTS)
        trial = try_out(
            found.before, found.package.data, asked, seed=context.seed, work=context.out.parent,
            progress=context.progress,
        )  # fmt: skip
        checks = _checks(trial, config)
        failed = sum(not each.held for each in checks)
        write_environment(
            context, "staging", found, checks, trial.as_dict(),
            [
                f"Green answered {len(trial.replies)} requests on a real server behind a splitter. The drill: after "
                f"the decision to go back, the first answer from there came after {trial.back_seconds:.3f} s, and "
                f"green's again after {trial.forth_seconds:.3f} s."
            ],
        )  # fmt: skip
        return SkillOutput(
            summary=f"staging: {len(trial.replies)} requests, {trial.failed} failed, way back in "
            f"{trial.back_seconds:.3f} s",
            ticked=(
                TickedItem(item="verified-again", evidence=f"release-staging.json: {found.release.sha256[:16]}"),
                TickedItem(item="limits-kept", evidence=f"release-staging.md: {len(checks)} limits held against"),
                TickedItem(item="way-back-drilled", evidence=f"release-staging.md: {trial.back_seconds:.3f} s"),
            ),
            measurements=(
                Measurement(scope="release", name="staging_failed", value=float(failed)),
                Measurement(scope="release", name="staging_p95_ms", value=float(trial.as_dict()["p95_ms"])),
                Measurement(scope="release", name="way_back_seconds", value=trial.back_seconds),
            ),
            warnings=tuple(f"staging: {each.name}: {each.found}" for each in checks if not each.held),
        )


def _checks(trial: Trial, config: dict[str, Any]) -> list[Check]:
    share = trial.failed / max(1, len(trial.replies))
    figures = trial.as_dict()
    told = (config.get("health") or {}).get("latency_ms") or {}
    slow = max(LEAST_SLOW_MS, float(told.get("warn_above", 0.0)))
    back = trial.back_seconds
    stopped = all(each["exit"] == 0 for each in trial.servers)
    return [
        Check(f"errors at most {ERROR_LIMIT:.0%}", share <= ERROR_LIMIT, f"{share:.1%}"),
        Check(f"95th percentile at most {slow:.0f} ms", figures["p95_ms"] <= slow, f"{figures['p95_ms']:.1f} ms"),
        Check(f"way back within {BACK_SECONDS:.0f} s", back <= BACK_SECONDS, f"{back:.3f} s"),
        Check("servers end when they are told", stopped, ", ".join(f"exit {e['exit']}" for e in trial.servers)),
    ]
