"""Saves a run: checkpoints, the best weights, and the models of both. What cannot be written ends no run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from algorithms.policy import Policy, make_policy
from buffers.snapshot import Snapshot
from envs.process.whole_files import write_whole
from envs.spec import Array
from trainer.checkpoint import CheckpointStore, restoring
from trainer.config.compose import save_config
from trainer.config.errors import one_line
from trainer.config.schema import TrainConfig, settings_of
from trainer.export.model_file import exported_model, model_file
from trainer.runtime.learner import Learner
from trainer.runtime.signals import Interrupt, Interrupted
from trainer.telemetry.callbacks import Caller
from trainer.telemetry.console import log

Learners = Mapping[str, Learner]
"""The learners of a run by behavior."""


class Weights(NamedTuple):
    """All that acting needs of a run at one time."""

    tensors: dict[str, Array]
    """By name, as in a checkpoint."""
    behaviors: dict[str, Any]
    """By name, what a checkpoint says of each."""


class Score(NamedTuple):
    """How good weights are; of two, the better is the larger."""

    lessons: int
    """How many lessons the run had passed, of all environment parameters; 0 where all are judged by the same ones."""
    reward: float
    """Their mean."""


class Saver:
    """Writes checkpoints, and models of them: `models/<checkpoint>/<behavior>.onnx`.

    The best weights have a checkpoint of their own; their models are `models/<behavior>.onnx`.
    """

    def __init__(
        self, config: TrainConfig, store: CheckpointStore, interrupt: Interrupt, caller: Caller, resumed: bool
    ) -> None:
        self._config, self._store, self._interrupt, self._caller = config, store, interrupt, caller
        self._folder = store.folder.with_name("models")
        self._policies: dict[str, Policy | None] = {}
        """By behavior, a copy on the CPU; None if it cannot be exported."""
        best = store.load_best() if resumed else None
        self._best: dict[str, Score] = {}
        """By behavior, the score of its best weights."""
        self._best_weights = Weights({}, {})
        if best is not None:
            with restoring(best.path):
                state = best.state
                means = state.get("means") or dict.fromkeys(state["behaviors"], state["mean"])
                passed = state.get("passed") or dict.fromkeys(means, state.get("lessons", 0))
                self._best = {name: Score(int(passed[name]), float(mean)) for name, mean in means.items()}
                self._best_weights = Weights(dict(best.tensors), state["behaviors"])

    def save(self, learners: Learners, state: Callable[[], dict[str, Any]]) -> int | None:
        """Writes a checkpoint with the further `state`, which is asked for once the rows have been recorded.

        Returns:
            How many samples it holds; None if none was written, because weights are not finite or the disk refuses.
        """
        if not _finite(learners):
            log.warning("No checkpoint is written, because weights are not finite. The one before is kept.")
            return None
        replay = {name: Snapshot(learner.rows) for name, learner in learners.items()}
        behaviors = {name: _description(learner, replay[name]) for name, learner in learners.items()}
        samples: int = sum(each["samples"] for each in behaviors.values())
        tensors = _by_behavior({name: learner.state_dict() for name, learner in learners.items()})
        whole = {"behaviors": behaviors, **state()}
        run = self._store.folder.parent
        try:
            if not (run / "config.yaml").exists():  # without it no checkpoint is of use
                log.warning(f"The run's folder {run} was removed, with what was in it. It is made again.")
                save_config(self._config, run)
            folder = self._store.save(str(samples), tensors, whole, replay if self._config.checkpoint.replay else None)
        except OSError as error:
            log.warning(f"The checkpoint could not be written: {error}. The one before is kept.")
            return None
        self._write_newest_models(learners, folder.name)
        self._caller.saved(folder)
        return samples

    def weights(self, learners: Learners) -> Weights | None:
        """Returns a copy of all that acting needs; None if it is not finite."""
        if not _finite(learners):
            return None
        tensors = _by_behavior({name: learner.algorithm.weights() for name, learner in learners.items()})
        behaviors = {name: _description(learner) for name, learner in learners.items()}
        return Weights({name: torch.as_tensor(each).cpu().numpy().copy() for name, each in tensors.items()}, behaviors)

    def better(self, scores: Mapping[str, Score]) -> dict[str, Score]:
        """Returns those scores, by behavior, that are better than any before."""
        return {name: score for name, score in scores.items() if name not in self._best or score > self._best[name]}

    def keep_best(self, learners: Learners, weights: Weights, scores: Mapping[str, Score]) -> None:
        """Writes the best weights so far and their models, in place of those before.

        `scores` are those of the behaviors whose best weights these are; of others, those before stay the best.
        """
        best = Weights(dict(weights.tensors), dict(weights.behaviors))
        for name in self._best.keys() - scores.keys():
            best.behaviors[name] = self._best_weights.behaviors[name]
            best.tensors.update({k: x for k, x in self._best_weights.tensors.items() if k.startswith(f"{name}/")})
        all_scores = {**self._best, **scores}
        means = {name: score.reward for name, score in all_scores.items()}
        state = {
            "behaviors": best.behaviors,
            "mean": sum(means.values()) / len(means),
            "means": means,
            "passed": {name: score.lessons for name, score in all_scores.items()},
        }
        try:
            folder = self._store.save_best(best.tensors, state)
        except OSError as error:
            log.warning(f"The best weights could not be written: {error}. Those before are kept.")
        else:
            self._best, self._best_weights = all_scores, best
            self._write_models(learners, self._folder, best)
            self._caller.saved(folder)

    def _write_newest_models(self, learners: Learners, checkpoint: str) -> None:
        """Writes the models of the newest `checkpoint`, which stand in for the best until there is one.

        Those of checkpoints that are gone are removed.
        """
        self._write_models(learners, self._folder / checkpoint)
        kept = [path.name for path in self._store.all()]
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path.is_dir() and path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)
        if self._store.best() is None:
            self._write_models(learners, self._folder)

    def _write_models(self, learners: Learners, folder: Path, weights: Weights | None = None) -> None:
        """Writes the models of all behaviors, with `weights` in place of the newest.

        A signal ends that: a user's own network may take long.
        """
        if not self._interrupt.late:
            with suppress(Interrupted), self._interrupt.breakable():
                for name, learner in learners.items():
                    self._write_model(name, learner, folder / model_file(name), weights)

    def _write_model(self, name: str, learner: Learner, file: Path, weights: Weights | None) -> None:
        try:
            policy = self._copy(name, learner, weights)
            if policy is not None:
                write_whole(file, exported_model(policy, self._config))
        except OSError as error:
            log.warning(f"The model of {name!r} could not be written: {error}. Training goes on.")
        except Exception as error:  # no run ends because of its models
            self._policies[name] = None
            log.warning(f"No models of {name!r} are written: {one_line(error)}. Training goes on.")

    def _copy(self, name: str, learner: Learner, weights: Weights | None) -> Policy | None:
        if name not in self._policies:
            with torch.random.fork_rng(devices=[]):  # what the run draws may not depend on what it writes
                self._policies[name] = make_policy(learner.spec, settings_of(self._config, name)[0])
        policy = self._policies[name]
        if policy is not None:
            newest = learner.algorithm.policy.flat
            policy.flat.copy_(torch.from_numpy(weights.tensors[f"{name}/weights/policy"]) if weights else newest)
        return policy


def _by_behavior(tensors: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{name}/{key}": value for name, each in tensors.items() for key, value in each.items()}


def _finite(learners: Learners) -> bool:
    return all(learner.finite for learner in learners.values())


def _description(learner: Learner, snapshot: Snapshot | None = None) -> dict[str, Any]:
    return {
        "spec": learner.spec.to_dict(),
        "samples": learner.samples(snapshot),
        "rows": learner.rows.capacity,
        "demos": learner.demos,
        "ended": learner.ended,
    }
