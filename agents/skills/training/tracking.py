"""Where trials are recorded: always in the experiment log, and in an MLflow store when the session names one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from typing import Any, Protocol

from agents.skill import SkillContext
from agents.skills.shapes import ExperimentLog, Trial


class Tracker(Protocol):
    """Records one training run. `where` is what the experiment log says of it."""

    where: str

    def trial(self, trial: Trial) -> None:
        """Record one evaluated configuration."""

    def finish(self, log: ExperimentLog) -> None:
        """Record the outcome; nothing follows."""


class ArtifactTracker:
    """Without an MLflow store: the experiment log is the record, and there is nothing else to write."""

    where = "artifact only"

    def trial(self, trial: Trial) -> None:
        """The experiment log holds it."""

    def finish(self, log: ExperimentLog) -> None:
        """The experiment log holds it."""


class MlflowTracker:
    """One parent run for the attempt and a nested run for each trial, in the experiment named after the ticket.

    `uri` is an MLflow tracking URI (`sqlite:///path/mlflow.db`, a server). Raises ImportError without the `tracking`
    extra, and MLflow's own errors when the store cannot be reached.
    """

    def __init__(self, uri: str, experiment: str, session: str, metric: str) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
        from mlflow import MlflowClient

        with _alone(uri):
            self._client: Any = MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name(experiment)
            self._experiment = found.experiment_id if found else self._client.create_experiment(experiment)
        self._metric = metric
        self._trials = 0
        parent = self._client.create_run(
            self._experiment, run_name=session, tags={"valuetrain.session": session, "valuetrain.metric": metric}
        )
        self._parent = parent.info.run_id
        self.where = f"MLflow experiment {experiment}, run {self._parent}"

    def trial(self, trial: Trial) -> None:
        """A nested run with the configuration as parameters and its cross-validated score."""
        self._trials += 1
        tags = {"mlflow.parentRunId": self._parent, "valuetrain.model": trial.model}
        run = self._client.create_run(self._experiment, run_name=f"{self._trials:03d}-{trial.model}", tags=tags)
        self._record(run.info.run_id, trial)
        self._client.set_terminated(run.info.run_id)

    def finish(self, log: ExperimentLog) -> None:
        """The chosen configuration, the reason and the model's digest on the parent run."""
        self._record(self._parent, log.chosen)
        self._client.set_tag(self._parent, "valuetrain.model", log.chosen.model)
        self._client.set_tag(self._parent, "valuetrain.model_sha256", log.model_sha256)
        self._client.set_tag(self._parent, "valuetrain.reason", log.reason[:5000])
        self._client.log_metric(self._parent, f"baseline_{self._metric}", log.baseline.mean)
        self._client.set_terminated(self._parent)

    def _record(self, run: str, trial: Trial) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        figures = {
            f"cv_{self._metric}": trial.mean,
            f"cv_{self._metric}_se": trial.standard_error,
            "seconds": trial.seconds,
        }
        self._client.log_batch(
            run,
            metrics=[Metric(name, value, now, 0) for name, value in figures.items()],
            params=[Param(name, str(value)) for name, value in trial.parameters.items()],
        )


@contextlib.contextmanager
def _alone(uri: str) -> Iterator[None]:
    """One process at a time for a SQLite store: MLflow makes its tables on first use, and two at once fail."""
    path = uri.removeprefix("sqlite:///")
    if path == uri:
        yield
        return
    with open(f"{path}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def open_tracker(context: SkillContext, metric: str) -> tuple[Tracker, str]:
    """The tracker the session asks for (`facts["tracking_uri"]`), and a warning when it cannot be used.

    Tracking serves people and never decides: without it the training goes on and the experiment log is the record.
    """
    uri = context.facts.get("tracking_uri")
    if not uri:
        return ArtifactTracker(), ""
    try:
        return MlflowTracker(str(uri), context.ticket.slug, context.session, metric), ""
    except Exception as error:  # whatever the store or its driver raises, the training does not depend on it
        return ArtifactTracker(), f"not tracked in MLflow ({type(error).__name__}): experiment-log.json is the record"


def record_run(tracker: Tracker, log: ExperimentLog) -> str:
    """Write a finished training to the tracker; returns a warning if it failed, else an empty string."""
    try:
        for trial in log.trials:
            tracker.trial(trial)
        tracker.finish(log)
    except Exception as error:  # as above: the store may vanish at any time
        return f"not fully tracked ({type(error).__name__}): experiment-log.json is the record"
    return ""
