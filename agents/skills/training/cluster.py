"""A Ray cluster as the place where the predictions of a search are computed (extra `ray`, setting `ray_address`).

The search itself stays here: the seeded sampler, the scores, the choice, the checkpoint. What goes out are the prepared
rows, once, and for each configuration and fold its settings and row numbers; what comes back are predictions, which are
those that this process would have computed to the bit. So the model does not depend on where it was searched for.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from agents.skill import LimitError, SkillContext, SkillError
from agents.skills.extras import needed
from agents.skills.shapes import FeatureMap, ScopeSpec
from agents.skills.training.checkpoint import Kept, identity
from agents.skills.training.rows import TrainingRows

if TYPE_CHECKING:
    from agents.skills.training.candidates import Params, Problem
    from agents.skills.training.folds import Fold
    from agents.skills.training.search import Elsewhere

RETRIES = 3
"""How often Ray gives a prediction to another worker when one dies; an exception of our own code is never repeated."""
CONNECT_SECONDS = 5.0
_REMEDY = "start it (`ray start`), or take `ray_address` out of the settings to search on this machine"


@contextlib.contextmanager
def computing(
    context: SkillContext, rows: TrainingRows, features: FeatureMap, scope: ScopeSpec
) -> Iterator[Cluster | None]:
    """The cluster that the settings name, connected until the end; None where they name none.

    Raises InputError without the extra, SkillError when the cluster cannot be reached.
    """
    address = str(context.facts.get("ray_address") or "")
    if not address:
        yield None
        return
    host, _, port = address.rpartition(":")
    loopback = _is_loopback(host)
    if loopback:  # else Ray takes the machine's outer address for its own
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray = needed("ray", "ray", "a search on a Ray cluster")
    try:  # asked first: Ray itself waits for a minute and then ends the process
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as problem:
        raise SkillError(f"the Ray cluster at {address} cannot be reached: {problem}", _REMEDY) from problem
    context.progress(f"searching on the Ray cluster at {address}")
    try:
        own: dict[str, Any] = {"_node_ip_address": "127.0.0.1"} if loopback else {}
        ray.init(address=address, namespace="value-train", log_to_driver=False, configure_logging=False, **own)
    except Exception as problem:  # Ray raises many kinds; each means that there is no cluster for us
        raise SkillError(f"the Ray cluster at {address} cannot be used: {str(problem)[:300]}", _REMEDY) from problem
    try:
        yield Cluster(ray, address, rows, features, scope, context.seconds)
    finally:
        ray.shutdown()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass
class Cluster:
    """A connected cluster; `of` makes what a cross-validation asks for predictions."""

    ray: Any
    address: str
    rows: TrainingRows
    features: FeatureMap
    scope: ScopeSpec
    seconds: float
    asked: list[int] = field(default_factory=list)

    @property
    def told(self) -> str:
        """The end of a sentence for people."""
        return f"; {sum(self.asked)} predictions of folds computed on the Ray cluster at {self.address}"

    def of(self, problem: Problem) -> Elsewhere:
        """Send the rows, once, to where workers find them."""
        from agents.skills.training import cluster_worker

        work = cluster_worker.Work(
            frame=self.rows.frame, target=self.rows.target, classes=tuple(self.scope.classes), problem=problem,
            features=self.features.model_dump_json(), identity=identity(),
        )  # fmt: skip
        task = self.ray.remote(num_cpus=1, max_retries=RETRIES, retry_exceptions=False)(cluster_worker.predict)
        return _OnCluster(self, task, self.ray.put(work))


@dataclass
class _OnCluster:
    cluster: Cluster
    task: Any
    work: Any

    def predict(self, kind: str, params: Params, folds: Sequence[Fold]) -> list[Kept]:
        """All folds at once. Raises LimitError when the time is used up, SkillError when the cluster fails."""
        import numpy as np

        ray = self.cluster.ray
        waiting = [self.task.remote(self.work, kind, params, fold.train, fold.test) for fold in folds]
        try:
            answers = ray.get(waiting, timeout=self.cluster.seconds)
        except ray.exceptions.GetTimeoutError as problem:
            raise LimitError(f"the Ray cluster gave no answer in {self.cluster.seconds:.0f} s", _REMEDY) from problem
        except ray.exceptions.RayTaskError as problem:
            raise SkillError(f"a worker of the Ray cluster failed: {str(problem)[-500:]}", "see its log") from problem
        except ray.exceptions.RayError as problem:
            raise SkillError(
                f"the Ray cluster failed ({type(problem).__name__}, after {RETRIES} more tries): {str(problem)[:300]}",
                _REMEDY,
            ) from problem
        if any(isinstance(answer, str) for answer in answers):
            raise SkillError(
                "a node of the Ray cluster has other code or other libraries than this machine, so its predictions "
                "would not be the same",
                "install the same version with the same locked packages on every node",
            )
        self.cluster.asked.append(len(answers))
        return [Kept(np.array(predicted, dtype=np.float64), cpu, wall) for predicted, cpu, wall in answers]
