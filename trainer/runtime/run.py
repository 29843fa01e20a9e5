"""A training run from its first update to its last checkpoint: the learner's process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch

from algorithms.base import Algorithm, make_algorithm
from algorithms.policy import make_policy
from buffers.snapshot import Snapshot, restore
from envs.process.lifetime import release_memory
from envs.spec import BehaviorSpec, UserError
from trainer.checkpoint import Checkpoint, CheckpointStore
from trainer.config.schema import TrainConfig, settings_of
from trainer.demos.load import Digests, changed_demos, load_demos
from trainer.runtime.behaviors import Behaviors, divide_arena
from trainer.runtime.collector_host import Collecting
from trainer.runtime.device import learning_device
from trainer.runtime.exported_models import Models
from trainer.runtime.ipc import Message, Shared
from trainer.runtime.learner import Learner
from trainer.runtime.policy_store import PolicyWriter
from trainer.runtime.signals import PATIENCE_SECONDS, Interrupt, Interrupted
from trainer.saved_policy import check_spec, load_checkpoint
from trainer.telemetry.console import log
from trainer.telemetry.profiler import tracer
from trainer.telemetry.run_logger import RunLogger


class Run:
    """The learner's side of a run: updates, checkpoints, and what is told of them."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        store: CheckpointStore,
        checkpoint: Checkpoint | None,
        interrupt: Interrupt,
        shared: Shared,
    ) -> None:
        torch.set_num_threads(1)
        self._config, self._folder, self._store, self._checkpoint = config, folder, store, checkpoint
        self._interrupt, self._shared = interrupt, shared
        self._models = Models(config, folder / "models")
        self._learners: dict[str, Learner] = {}
        self._demos: dict[str, Digests] = {}
        """By behavior, what it learns from."""
        self._preparing: set[str] = set()
        """Behaviors that have appeared and may not act yet."""
        self._behaviors = Behaviors(config)
        self._updated = tracer(config.run, folder, "learner")
        self._best: float | None = None
        if checkpoint is not None and (best := store.load_best()):
            self._best = best.state["mean"]
        now = time.monotonic()
        self._checkpoint_at = now + config.checkpoint.every_seconds
        self._picture_at = now
        self._ends = ExitStack()

    def __enter__(self) -> Run:
        checkpoint, config = self._checkpoint, self._config
        with ExitStack() as ends:
            samples = self._shared.samples
            self._run_logger = RunLogger(
                config, self._folder, samples, checkpoint.state["report"] if checkpoint else None
            )
            ends.callback(self._run_logger.close)
            self._device = learning_device(config.device)
            with self._interrupt.breakable():
                for saved in checkpoint.state["behaviors"].values() if checkpoint else ():
                    self._learn(BehaviorSpec.from_dict(saved["spec"]))  # also if it will not appear again
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def go(self, collecting: Collecting) -> None:
        """Trains until the goal, a limit or a signal; saves at the end, and also when something fails."""
        self._collecting = collecting
        try:
            while (reason := self._ended()) is None:
                self._advance()
        except Interrupted:
            log.warning(f"An update was broken off, as it took more than {PATIENCE_SECONDS:g} s after the signal.")
            reason = "interrupted"
        except Exception:
            try:
                with suppress(Exception):  # raised again, or for another reason
                    self._receive()  # what led to it
                self._finish("error")
            except Exception:
                log.exception("What was learned since the last checkpoint could not be saved:")
            raise
        self._finish(reason)

    def _advance(self) -> None:
        """What is due now: messages, an update for each behavior, logs and checkpoints; else waits a little."""
        self._receive()
        for name in [name for name in self._preparing if not self._learners[name].prepare()]:
            self._let_act(name)
        for learner in self._learners.values():
            if learner.due():
                with self._interrupt.breakable():
                    learner.update()
                self._collecting.updated()
                self._updated()
        if self._run_logger.refresh(self._shared.samples, self._learners):
            self._keep_best()
        now = time.monotonic()
        if late := self._behaviors.overdue(now):
            log.warning(late)
        if now >= self._checkpoint_at and self._behaviors.seen and self._collecting.intact:
            self._save()
            release_memory()  # else the heap keeps what it took, and grew by 0.25 MiB each time
            self._checkpoint_at = time.monotonic() + self._config.checkpoint.every_seconds
        if now >= self._picture_at and self._behaviors.seen and self._config.run.picture_minutes:
            self._picture_at = now + 60 * self._config.run.picture_minutes
            self._collecting.send("picture", content=self._folder / "pictures" / f"{self._shared.samples:09d}.gif")
        start = time.perf_counter()
        self._collecting.advance(
            lambda: bool(self._preparing) or any(learner.due() for learner in self._learners.values())
        )
        self._run_logger.waited += time.perf_counter() - start

    def _receive(self) -> None:
        for message in self._collecting.receive():
            self._handle(message)

    def _handle(self, message: Message) -> None:
        if message.kind == "spec":
            self._begin(*message.content)
        elif message.kind == "episodes":
            self._run_logger.episodes(message.behavior, message.content)
        elif message.kind == "game":
            self._run_logger.game(self._shared.samples, message.content)
        elif message.kind == "acting":
            self._run_logger.acting(message.behavior, message.content)
        elif message.kind == "statistics":
            self._run_logger.statistics(message.content)
        elif message.kind == "picture":
            self._run_logger.picture(self._shared.samples, message.content)
        elif message.kind == "lost":
            log.warning(message.content)
        else:
            log.log(logging.INFO if message.content.kind == "note" else logging.WARNING, message.content.text)

    def _finish(self, reason: str) -> None:
        if not self._behaviors.seen:  # it never began, and what an earlier part has left stays as it is
            log.info(f"stopped by {reason} before anything was learned: {self._folder}")
            return
        self._keep_best()
        samples = self._save()
        if never := self._behaviors.never():
            log.warning(never)
        self._run_logger.finish(samples, self._learners, reason)

    def _begin(self, spec: BehaviorSpec, place: int) -> None:
        """Makes the learner of a behavior that has appeared, if it has none; its agents act once that is prepared."""
        name = spec.name
        self._shared.assign(name, place)
        if name not in self._learners:
            self._learn(spec)
        elif difference := spec.difference(self._learners[name].spec):
            raise UserError(
                f"behavior {name!r} is not what it was before in this run: the environment has {difference}"
            )
        self._preparing.add(name)
        self._behaviors.appeared(name, time.monotonic())

    def _let_act(self, name: str) -> None:
        """Lets agents of a behavior act whose learner is ready."""
        self._preparing.remove(name)
        self._collecting.send("ready", name, self._learners[name].rate_limiter)

    def _learn(self, spec: BehaviorSpec) -> None:
        """Makes the learner of a behavior whose spec is known: from the checkpoint, if that holds it."""
        config, name, saved = self._config, spec.name, self._checkpoint
        settings, reward = settings_of(config, name)
        weights, rows = divide_arena(self._shared.arena(name), make_policy(spec, settings), spec, settings)
        known = saved is not None and name in saved.state["behaviors"]
        if saved is not None and name in saved.replay:
            restore(rows, saved.replay[name].index, saved.replay[name].chunks())
        demos, self._demos[name] = load_demos(config, spec)
        if saved is not None and known:
            before = saved.state["behaviors"][name].get("demos", {})  # earlier versions kept none
            if change := changed_demos(before, self._demos[name]):
                log.warning(change)
        algorithm = make_algorithm(spec, settings, rows, self._device, config.seed, reward, demos)
        published = PolicyWriter(weights, algorithm.policy.flat.numel())
        learner = Learner(spec, algorithm, rows, published, self._shared.counters(name))
        if saved is not None and known:
            try:
                learner.load_state_dict(_tensors(saved, name))
            except (KeyError, RuntimeError, TypeError, ValueError) as error:
                reason = f"was it saved by another version? {error}"
                raise UserError(f"{saved.path} does not fit the run's settings: {reason}") from error
            if name not in saved.replay:
                learner.restart_counting()
        else:
            if config.init is not None:
                _initialize(algorithm, spec, config.init)
            learner.publish()
        self._learners[name] = learner

    def _keep_best(self) -> None:
        mean = self._run_logger.reward_mean
        if mean is None or (self._best is not None and mean <= self._best) or not self._finite:
            return
        try:
            self._store.save_best(self._weights(), {"behaviors": self._known(), "mean": mean})
            self._best = mean
            self._write_models(lambda: self._models.write_best(self._learners))
        except OSError as error:
            log.warning(f"The best weights could not be written: {error}. Those before are still there.")

    def _ended(self) -> str | None:
        """What ends the run, if anything does. Steps that are half done are waited for, if that does not take long."""
        stop, run_logger = self._config.stop, self._run_logger
        if self._interrupt.late:
            return "interrupted"
        if not self._collecting.intact:
            return None
        if self._interrupt.signal is not None:
            return "interrupted"
        if run_logger.goal_reached:
            return "goal"
        if stop.samples is not None and self._shared.samples >= stop.samples:
            return "samples"
        if stop.seconds is not None and run_logger.seconds >= stop.seconds:
            return "seconds"
        if stop.reward is not None and run_logger.reward_mean is not None and run_logger.reward_mean >= stop.reward:
            return "reward"
        return None

    def _save(self) -> int:
        """Writes a checkpoint, and returns how many samples it holds.

        A disk that refuses is told of, and does not end the run.
        """
        if not self._collecting.intact:
            log.warning("No checkpoint is written, as steps are half done. The one before is still there.")
            return self._shared.samples
        if not self._finite:
            log.warning("No checkpoint is written, as weights are not finite. The one before is still there.")
            return self._shared.samples
        replay = {name: Snapshot(learner.rows) for name, learner in self._learners.items()}
        behaviors = self._known(replay)
        samples: int = sum(each["samples"] for each in behaviors.values())
        tensors = {
            f"{name}/{key}": value
            for name, learner in self._learners.items()
            for key, value in learner.state_dict().items()
        }
        state = {"behaviors": behaviors, "collector": self._collecting.state()}
        messages: list[Message] = []
        with suppress(Exception):  # a failure of the collector is told again, when it is received next
            messages = self._collecting.receive()  # the episodes that its state counts
        for message in messages:
            self._handle(message)
        state["report"] = self._run_logger.state()
        try:
            self._store.save(str(samples), tensors, state, replay if self._config.checkpoint.replay else None)
        except OSError as error:
            log.warning(f"The checkpoint could not be written: {error}. The one before is still there.")
        else:
            self._write_models(lambda: self._models.write_newest(self._learners, self._store))
        return samples

    def _write_models(self, write: Callable[[], None]) -> None:
        """A user's own network may take its time to be exported, which a signal does not wait for."""
        if not self._interrupt.late:
            with suppress(Interrupted), self._interrupt.breakable():
                write()

    @property
    def _finite(self) -> bool:
        return all(learner.finite for learner in self._learners.values())

    def _weights(self) -> dict[str, torch.Tensor]:
        return {
            f"{name}/{key}": value
            for name, learner in self._learners.items()
            for key, value in learner.algorithm.weights().items()
        }

    def _known(self, replay: Mapping[str, Snapshot] | None = None) -> dict[str, Any]:
        return {
            name: {
                "spec": learner.spec.to_dict(),
                "samples": learner.samples(replay[name] if replay else None),
                "demos": self._demos[name],
            }
            for name, learner in self._learners.items()
        }


def _tensors(checkpoint: Checkpoint, behavior: str) -> dict[str, torch.Tensor]:
    prefix = f"{behavior}/"
    return {
        key[len(prefix) :]: torch.from_numpy(value)
        for key, value in checkpoint.tensors.items()
        if key.startswith(prefix)
    }


def _initialize(algorithm: Algorithm, spec: BehaviorSpec, folder: str) -> None:
    """Takes the weights of the run in `folder`, and nothing else."""
    saved = load_checkpoint(folder)
    check_spec(spec, saved)
    try:
        algorithm.load_weights(_tensors(saved, spec.name))
    except (KeyError, RuntimeError) as error:
        raise UserError(f"init={folder}: its networks do not fit these settings: {error}") from error
