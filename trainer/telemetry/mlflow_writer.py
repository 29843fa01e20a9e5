"""Sends a run's metrics to MLflow: `pip install outstep[mlflow]`, then `run.loggers=[tensorboard,mlflow]`.

MLflow's own environment variables say where to: MLFLOW_TRACKING_URI (a file `mlflow.db` in the current folder) and
MLFLOW_EXPERIMENT_NAME (outstep).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus

from envs.process.whole_files import write_whole
from trainer.telemetry.writers import MetricWriter, identity

_LONGEST_VALUE = 500
"""Characters of a parameter that every MLflow server takes."""
_PARAMETERS = 100
"""How many go in one request."""


class Mlflow(MetricWriter):
    """Logs to one run of MLflow, which a resumed run goes on with. Sending is done by MLflow's own thread.

    Points that a resume has undone stay in MLflow, beside those that are made again.
    """

    def __init__(self, folder: Path, samples: int = 0) -> None:
        """Begins a run of MLflow, or goes on with that of the run's folder."""
        self._client = MlflowClient()
        self._sent: Any = None
        known = identity(folder, "mlflow")
        if known is not None:
            self._id = known
            self._client.update_run(known, status=RunStatus.to_string(RunStatus.RUNNING))
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "outstep")
        experiment = self._client.get_experiment_by_name(name)
        where = experiment.experiment_id if experiment else self._client.create_experiment(name)
        self._id = self._client.create_run(where, run_name=f"{folder.parent.name}/{folder.name}").info.run_id
        write_whole(folder / "mlflow.id", self._id.encode())

    def settings(self, samples: int, config: Mapping[str, Any], overridden: Mapping[str, str]) -> None:
        """Sends every setting as a parameter; in a resumed run those of its start stay, as MLflow lets none change."""
        if samples:
            return
        flat = [Param(_name(key), str(value)[:_LONGEST_VALUE]) for key, value in _leaves(config)]
        for begin in range(0, len(flat), _PARAMETERS):
            self._client.log_batch(self._id, params=flat[begin : begin + _PARAMETERS])
        for key, value in overridden.items():
            self._client.set_tag(self._id, _name(f"overridden.{key}"), value[:_LONGEST_VALUE])

    def values(self, samples: int, seconds: float, values: Mapping[str, float]) -> None:
        """Sends the figures."""
        now = round(1000 * time.time())
        figures = [Metric(_name(name), value, now, samples) for name, value in values.items()]
        self._sent = self._client.log_batch(self._id, figures, synchronous=False)

    def picture(self, samples: int, name: str, file: Path) -> None:
        """Keeps a moving picture among the run's files."""
        self._client.log_artifact(self._id, str(file), name)

    def close(self) -> None:
        """Waits until everything was sent."""
        if self._sent is not None:
            self._sent.wait()
        self._client.set_terminated(self._id)


def _name(key: str) -> str:
    """Returns a name with no characters but those that MLflow allows."""
    return re.sub(r"[^\w\-./ ]", "_", key)


def _leaves(config: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Returns the values of a configuration by their dotted keys."""
    leaves = []
    for key, value in config.items():
        leaves += _leaves(value, f"{above}{key}.") if isinstance(value, Mapping) else [(f"{above}{key}", value)]
    return leaves
