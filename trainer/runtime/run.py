"""A training run, in the learner's process: collect, update, log, save, until something ends it."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Any

from envs.process.lifetime import release_memory
from envs.spec import BehaviorSpec, UserError
from trainer.checkpoint import Checkpoint, CheckpointStore
from trainer.config.schema import TrainConfig
from trainer.runtime.behaviors import LATE_SECONDS, missing_behaviors
from trainer.runtime.collector_host import CollectorHandle
from trainer.runtime.device import learning_device
from trainer.runtime.evaluator import Evaluated, Evaluator
from trainer.runtime.ipc import Message, Shared
from trainer.runtime.learner import Learner, make_learner
from trainer.runtime.saver import Saver
from trainer.runtime.signals import PATIENCE_SECONDS, Interrupt, Interrupted
from trainer.runtime.stop import stop_reason
from trainer.saved_policy import saved_specs
from trainer.telemetry.console import log
from trainer.telemetry.profiler import tracer
from trainer.telemetry.run_logger import RunLogger


class Run:
    """The learners of a run, restored from a checkpoint if there is one, with its log and its checkpoints."""

    def __init__(
        self,
        config: TrainConfig,
        store: CheckpointStore,
        checkpoint: Checkpoint | None,
        interrupt: Interrupt,
        shared: Shared,
        logger: RunLogger,
    ) -> None:
        self._config, self._checkpoint, self._folder = config, checkpoint, store.folder.parent
        self._interrupt, self._shared, self._logger = interrupt, shared, logger
        self._saver = Saver(config, store, interrupt, logger.caller, resumed=checkpoint is not None)
        self._evaluator = Evaluator(config, self._folder, shared.samples)
        self._device = learning_device(config.device)
        self._learners: dict[str, Learner] = {}
        self._seen: list[str] = []
        """Behaviors that have appeared, in their order."""
        self._preparing: set[str] = set()
        """Behaviors that have appeared and may not act yet."""
        self._trace = tracer(config.run, self._folder, "learner")
        self._picture_at = time.monotonic()
        self._checkpoint_at = self._next_checkpoint()
        self._missing_at = float("inf")
        self._last_fault = ""
        """What has failed last of the instances, in words."""
        with interrupt.breakable():
            for spec in saved_specs(checkpoint).values() if checkpoint else ():
                self._add_learner(spec)  # even if it will not appear again

    def train(self, collector: CollectorHandle) -> None:
        """Trains until a goal, a limit or a signal ends the run; saves at the end, and also when something fails.

        Raises UserError if the last checkpoint could not be written.
        """
        self._collector = collector
        try:
            while (reason := self._reason_to_end()) is None:
                self._receive()
                self._prepare()
                self._update()
                self._log()
                self._save_if_due()
                self._collect()
        except Interrupted:
            log.warning(f"An update was broken off: it took more than {PATIENCE_SECONDS:g} s after the signal.")
            reason = "interrupted"
        except Exception:
            try:
                with suppress(Exception):  # raised again, or for another reason
                    self._receive()  # what led to it
                self._finish("error")
            except Exception:
                log.exception("What was learned since the last checkpoint could not be saved:")
            raise
        if not self._finish(reason) and self._interrupt.signal is None:
            raise UserError(
                "the last checkpoint could not be written, as said above, so what was learned since the one before is "
                f"lost. Once the cause is mended, resume={self._folder} goes on from there"
            )
        if reason == "seconds" and not self._shared.samples:
            failed = f"\nWhat failed last: {self._last_fault}" if self._last_fault else ""
            raise UserError(
                f"the {self._config.stop.seconds:g} s of stop.seconds were over before any agent had made a step: "
                f"nothing was learned.{failed}"
            )

    def _receive(self) -> None:
        """Handles what the collector has sent: behaviors, episodes and events."""
        for message in self._collector.receive():
            self._handle(message)

    def _prepare(self) -> None:
        """Goes on with what new behaviors learn before they act, and lets those act that are ready."""
        for name in [name for name in self._preparing if not self._learners[name].prepare()]:
            self._preparing.remove(name)
            self._collector.send("ready", name, self._learners[name].rate_limiter)

    def _update(self) -> None:
        """Makes one update of each behavior that is due for one."""
        for learner in self._learners.values():
            if learner.update_due():
                with self._interrupt.breakable():
                    learner.update()
                self._collector.notify_update()
                self._trace()

    def _log(self) -> None:
        """Shows and logs how the run stands, keeps the best weights, and asks for a picture of play now and then."""
        if self._logger.refresh(self._shared.samples, self._learners):
            self._keep_best()
        if self._seen:
            self._evaluator.offer(self._shared.samples, lambda: self._saver.weights(self._learners))
            self._add_evaluation(self._evaluator.take())
        now = time.monotonic()
        if now >= self._missing_at:
            self._missing_at = float("inf")
            self._warn_of_missing(f"within {LATE_SECONDS:.0f} s of the first behavior")
        if now >= self._picture_at and self._seen and self._config.run.picture_minutes:
            self._picture_at = now + 60 * self._config.run.picture_minutes
            self._collector.send("picture", content=self._folder / "pictures" / f"{self._shared.samples:09d}.gif")

    def _keep_best(self) -> None:
        """Keeps the weights if training's mean reward is the best so far; evaluations decide where there are some."""
        reward = self._logger.reward_mean
        if self._config.evaluate.every_samples is None and reward is not None and self._saver.is_best(reward):
            weights = self._saver.weights(self._learners)
            if weights is not None:
                self._saver.keep_best(self._learners, weights, reward)

    def _add_evaluation(self, evaluated: Evaluated | None) -> None:
        """Logs what weights have scored, and keeps them if they are the best so far."""
        if evaluated is None:
            return
        self._logger.add_evaluation(evaluated.samples, evaluated.figures(named=len(self._learners) > 1))
        if self._saver.is_best(evaluated.reward):
            self._saver.keep_best(self._learners, evaluated.weights, evaluated.reward)

    def _save_if_due(self) -> None:
        now = time.monotonic() if self._config.checkpoint.every_samples is None else self._shared.samples
        if now >= self._checkpoint_at and self._seen and self._collector.intact:
            self._save()
            release_memory()  # else the heap keeps what it took, and grew by 0.25 MiB each time
            self._checkpoint_at = self._next_checkpoint()

    def _next_checkpoint(self) -> float:
        """Returns when the next checkpoint is due: a time, or with `checkpoint.every_samples` a number of samples."""
        every, samples = self._config.checkpoint.every_samples, self._shared.samples
        if every is None:
            return time.monotonic() + self._config.checkpoint.every_seconds
        return samples + every - samples % every

    def _collect(self) -> None:
        """Lets the collector go on, until there may be something to learn or to handle."""
        start = time.perf_counter()
        self._collector.collect(
            lambda: bool(self._preparing) or any(learner.update_due() for learner in self._learners.values())
        )
        self._logger.waited += time.perf_counter() - start

    def _reason_to_end(self) -> str | None:
        """Returns what ends the run, if anything does. Unfinished steps are waited for, if that does not take long."""
        if self._interrupt.late:
            return "interrupted"
        if not self._collector.intact:
            return None
        if self._interrupt.signal is not None:
            return "interrupted"
        logger, samples = self._logger, self._shared.samples
        if logger.caller.error is not None:
            return "error"
        if logger.caller.stops and self._seen:  # else nothing would be saved
            return "callback"
        return stop_reason(self._config.stop, samples, logger.seconds, logger.reward_mean, logger.goal_reached)

    def _finish(self, reason: str) -> bool:
        """Saves, and writes what is to be known at the end; returns whether nothing of it was refused."""
        if not self._seen:  # what an earlier part of the run has left stays as it is
            log.info(f"The run ended ({reason}) before anything was learned: {self._folder}")
            return True
        if reason not in ("interrupted", "error"):
            self._add_evaluation(self._evaluator.finish())
        self._evaluator.close()
        self._keep_best()
        samples = self._save()
        self._warn_of_missing("in this run")
        self._logger.finish(self._shared.samples if samples is None else samples, self._learners, reason)
        return samples is not None

    def _save(self) -> int | None:
        """Writes a checkpoint, and returns how many samples it holds; None if none could be written."""
        if not self._collector.intact:
            log.warning("No checkpoint is written, because steps are unfinished. The one before is kept.")
            return None
        return self._saver.save(self._learners, self._state)

    def _state(self) -> dict[str, Any]:
        """Returns what a resumed run needs of the collector and of the log."""
        collector = self._collector.state()
        messages: list[Message] = []
        with suppress(Exception):  # a failure of the collector is raised again when messages are received next
            messages = self._collector.receive()  # the episodes that its state counts
        for message in messages:
            self._handle(message)
        return {"collector": collector, "report": self._logger.state()}

    def _handle(self, message: Message) -> None:
        logger, content = self._logger, message.content
        if message.kind == "spec":
            self._add_behavior(*content)
        elif message.kind == "episodes":
            logger.add_episodes(message.behavior, content)
        elif message.kind == "game":
            logger.add_game_statistics(self._shared.samples, content)
        elif message.kind == "acting":
            logger.add_actor(message.behavior, content)
        elif message.kind == "statistics":
            logger.statistics = content
        elif message.kind == "picture":
            logger.add_picture(self._shared.samples, content)
        elif message.kind == "lost":
            log.warning(content)
        else:
            if content.kind == "fault":
                self._last_fault = content.text
            log.log(logging.INFO if content.kind == "note" else logging.WARNING, content.text)

    def _add_behavior(self, spec: BehaviorSpec, place: int) -> None:
        """Makes the learner of a behavior that has appeared, if it has none; its agents act once that is prepared."""
        name = spec.name
        self._shared.assign(name, place)
        if name not in self._learners:
            self._add_learner(spec)
        elif difference := spec.difference(self._learners[name].spec):
            raise UserError(
                f"behavior {name!r} is not what it was before in this run: the environment has {difference}"
            )
        self._preparing.add(name)
        if not self._seen:
            self._missing_at = time.monotonic() + LATE_SECONDS
        if name not in self._seen:  # a new collector sends it again
            self._seen.append(name)

    def _add_learner(self, spec: BehaviorSpec) -> None:
        self._learners[spec.name] = make_learner(self._config, spec, self._shared, self._device, self._checkpoint)

    def _warn_of_missing(self, when: str) -> None:
        if missing := missing_behaviors(self._config, self._seen, when):
            log.warning(missing)
