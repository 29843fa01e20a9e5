"""Models that a training run keeps in its folder `models`: of each kept checkpoint, and of the best."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from algorithms.policy import Policy, make_policy
from trainer.checkpoint import CheckpointStore
from trainer.config.errors import one_line
from trainer.config.schema import TrainConfig, settings_of
from trainer.export.model_file import exported_model, model_file, write_model
from trainer.runtime.learner import Learner
from trainer.telemetry.console import log


class Models:
    """Writes `<behavior>.onnx` of the best weights, and `<checkpoint>/<behavior>.onnx` of each checkpoint.

    A model that cannot be made, or written, is told of and ends nothing.
    """

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        self._config, self._folder = config, folder
        self._policies: dict[str, Policy | None] = {}
        """By behavior, a copy on the CPU; None if it cannot be exported."""

    def write_best(self, learners: Mapping[str, Learner]) -> None:
        """Writes the models of the best weights, which the learners have now."""
        self._write(learners, self._folder)

    def write_newest(self, learners: Mapping[str, Learner], store: CheckpointStore) -> None:
        """Writes the models of the checkpoint that has just been saved, and removes those of checkpoints that are gone.

        While there is no best, they stand in for it.
        """
        kept = [path.name for path in store.all()]
        self._write(learners, self._folder / kept[-1])
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path.is_dir() and path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)
        if store.best() is None:
            self._write(learners, self._folder)

    def _write(self, learners: Mapping[str, Learner], folder: Path) -> None:
        for name, learner in learners.items():
            try:
                policy = self._copy(learner)
                if policy is not None:
                    write_model(folder / model_file(name), exported_model(policy, self._config))
            except OSError as error:
                log.warning(f"The model of {name!r} could not be written: {error}. Training goes on.")
            except Exception as error:  # a run does not end because of what others make of it
                self._policies[name] = None
                log.warning(f"No models of {name!r} are written: {one_line(error)}. Training goes on.")

    def _copy(self, learner: Learner) -> Policy | None:
        name = learner.spec.name
        if name not in self._policies:
            with torch.random.fork_rng(devices=[]):  # what the run draws may not depend on what it writes
                self._policies[name] = make_policy(learner.spec, settings_of(self._config, name)[0])
        policy = self._policies[name]
        if policy is not None:
            policy.flat.copy_(learner.algorithm.policy.flat)
        return policy
