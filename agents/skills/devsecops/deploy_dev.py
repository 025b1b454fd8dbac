"""Skill `devsecops.deploy_dev`: does the package start, answer what it should, and refuse what it should not?"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.devsecops.environments import NEEDS, Check, Ready, ready, write_environment
from agents.skills.devsecops.replay import Asked, ask, latencies, requests_of
from agents.skills.devsecops.replica import Replica, Reply, request
from schemas.values import Measurement, Mode, Role, TickedItem

REQUESTS = 50


class DevsecopsDeployDev(Skill[Parameters, SkillOutput]):
    """Start the verified package on a real server: health, answers, refusals and a clean end."""

    name = "devsecops.deploy_dev"
    role = Role.DEVSECOPS
    modes = frozenset({Mode.DELIVER})
    reads_source = True
    needs = NEEDS
    produces = ("release-dev.json", "release-dev.md", "kubernetes-dev.yaml")
    seconds = 200.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write report and manifests. `release.dev_failed` counts the checks that do not hold.

        Raises InputError when the signature does not hold any more, SkillError when the server does not start.
        """
        found = ready(context)
        asked = requests_of(found.frame, found.package.features, context.seed, most=REQUESTS)
        checks, replies = _try(found, asked, context.out.parent)
        failed = sum(not each.held for each in checks)
        write_environment(
            context, "dev", found, checks, {"requests": len(replies), **latencies(replies)},
            [f"{len(replies)} rows were sent to one real server on loopback."],
        )  # fmt: skip
        return SkillOutput(
            summary=f"dev: {len(checks) - failed} of {len(checks)} checks hold, {len(replies)} requests",
            ticked=(
                TickedItem(item="verified-again", evidence=f"release-dev.json: {found.release.sha256[:16]}"),
                TickedItem(item="tried-in-dev", evidence=f"release-dev.md: {len(checks)} checks"),
            ),
            measurements=(Measurement(scope="release", name="dev_failed", value=float(failed)),),
            warnings=tuple(f"dev: {each.name}: {each.found}" for each in checks if not each.held),
        )


def _try(found: Ready, asked: list[Asked], work: Path) -> tuple[list[Check], list[Reply]]:
    with tempfile.TemporaryDirectory(dir=work) as folder:
        file = Path(folder) / "package.zip"
        file.write_bytes(found.package.data)
        with Replica("package", file) as replica:
            health = replica.get("/health")
            replies = [ask(replica.port, each) for each in asked]
            bad = [
                request(replica.port, "POST", "/predict", {"rows": [{}]}),
                request(replica.port, "POST", "/predict", {"rows": "all"}),
                request(replica.port, "GET", "/admin"),
            ]
            metrics = replica.get("/metrics")
        exit_code = replica.exit
    served = health.body.get("sha256") if isinstance(health.body, dict) else None
    good = [reply for reply in replies if reply.code == 200]
    sound = [each for each in good if _sound(each.body["predictions"][0], found.package.scope.classes)]
    counted = f'model_requests_total{{path="/predict",code="200"}} {len(good)}'
    checks = [
        Check("healthy, with the signed digest", health.code == 200 and served == found.package.sha256, f"{served}"),
        Check("answers every row", len(good) == len(asked), f"{len(good)} of {len(asked)}"),
        Check("predictions are of the model's kind", len(sound) == len(good), f"{len(sound)} of {len(good)}"),
        Check("refuses what is no request", all(400 <= r.code < 500 for r in bad), ", ".join(str(r.code) for r in bad)),
        Check("counts its requests", counted in str(metrics.body), counted),
        Check("ends when it is told", exit_code == 0, f"exit {exit_code}"),
    ]
    return checks, replies


def _sound(value: Any, classes: tuple[str, ...]) -> bool:
    return value in classes if classes else isinstance(value, (int, float)) and math.isfinite(value)
