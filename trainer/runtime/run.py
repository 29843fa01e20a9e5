"""A training run, in the learner's process: collect, update, log, save, until something ends it."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import numpy as np

from envs.api import begun_counts
from envs.process.lifetime import release_memory
from envs.spec import BehaviorSpec, UserError
from trainer.checkpoint import Checkpoint, CheckpointStore, restoring
from trainer.config.schema import TrainConfig, behavior_config
from trainer.curriculum import Curriculum
from trainer.runtime.behaviors import LATE_SECONDS, missing_behaviors
from trainer.runtime.collector_host import CollectorHandle
from trainer.runtime.device import learning_device
from trainer.runtime.evaluator import Evaluated, Evaluator
from trainer.runtime.ipc import Message, Shared
from trainer.runtime.learner import Learner, make_learner
from trainer.runtime.learners import Learners
from trainer.runtime.saver import Saver, Score
from trainer.runtime.signals import PATIENCE_SECONDS, Interrupt, Interrupted
from trainer.runtime.stop import behavior_end, has_end, stop_reason
from trainer.saved_policy import saved_specs
from trainer.selfplay.league import League
from trainer.telemetry.console import log
from trainer.telemetry.profiler import tracer
from trainer.telemetry.run_logger import RunLogger
from trainer.telemetry.statistics import Episode


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
        curriculum: Curriculum,
        others: Learners | None = None,
    ) -> None:
        """`others` are the learners beside this one, if there are any."""
        self._others = others
        self._config, self._checkpoint, self._folder = config, checkpoint, store.folder.parent
        self._interrupt, self._shared, self._logger, self._curriculum = interrupt, shared, logger, curriculum
        self._saver = Saver(config, store, interrupt, logger.caller, resumed=checkpoint is not None)
        self._evaluator = Evaluator(config, self._folder, shared.samples)
        self._device = learning_device(config.device, config.learners)
        self._begun_before = np.zeros_like(shared.begun)
        """Episodes that each instance had begun in earlier parts of the run."""
        with self._restoring():
            if checkpoint is not None:
                known = begun_counts(checkpoint.state["collector"]["manager"])[: len(self._begun_before)]
                self._begun_before[: len(known)] = known
            self._league = League(config, checkpoint.state.get("self_play") if checkpoint else None)
        logger.league = self._league
        self._learners: dict[str, Learner] = {}
        self._seen: list[str] = []
        """Behaviors that have appeared, in their order."""
        self._may_end: list[str] = []
        """Behaviors for which something is set that ends their learning, and that it has not ended."""
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
                self._end_behaviors()
                self._change_opponents(self._league.advance())
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
            self._change_opponents(self._league.plays(name))
            self._collector.send("ready", name, self._learners[name].rate_limiter)

    def _update(self) -> None:
        """Makes one update of each behavior that is due for one."""
        for learner in self._learners.values():
            if learner.update_due():
                with self._interrupt.breakable():
                    learner.update()
                self._collector.notify_update()
                self._trace()

    def _change_opponents(self, changed: bool) -> None:
        """Tells the collector who learns in self-play, and against whom, if that has `changed`."""
        if changed:
            self._collector.send("self_play", content=self._league.now)

    def _end_behaviors(self) -> None:
        """Lets behaviors that have reached what ends them learn no more."""
        for name in tuple(self._may_end):
            learner, logger = self._learners[name], self._logger
            reward = logger.reward_of(name) if self._curriculum.finished else None
            goal_reached = logger.has_reached_goal(name)
            chosen, rating = behavior_config(self._config, name), self._league.rating_of(name)
            end = behavior_end(chosen, learner.samples(), reward, goal_reached, rating)
            if end is None:
                continue
            self._may_end.remove(name)
            learner.end(end)
            log.info(
                f"Behavior {name!r} has reached {end[0]}={end[1]} after {learner.samples():,} samples: "
                "it learns no more, its agents act on."
            )
            if name not in self._preparing:
                self._collector.send("ready", name, learner.rate_limiter)

    def _log(self) -> None:
        """Shows and logs how the run stands, keeps the best weights, and asks for a picture of play now and then."""
        if not self._logger.speed.started:
            self._logger.wait(self._awaited())
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

    def _awaited(self) -> str:
        """Returns what the first sample waits for, in words."""
        if self._preparing:
            return "learning from demonstrations before the first sample"
        begun = np.count_nonzero(self._shared.begun > self._begun_before)
        return f"{begun:,} of {self._config.instances:,} games have started"

    def _keep_best(self) -> None:
        """Keeps weights of behaviors whose mean reward, or rating in self-play, is their best so far.

        Evaluations decide instead where there are any; not in self-play, where they play against themselves.
        """
        lessons, evaluated = self._curriculum.rank, self._config.evaluate.every_samples is not None
        found = {
            name: self._league.rating_of(name) if self._league.plays(name) else self._logger.reward_of(name)
            for name in self._learners
            if self._league.plays(name) or not evaluated
        }
        better = self._saver.better(
            {name: Score(lessons, reward) for name, reward in found.items() if reward is not None}
        )
        if better and (weights := self._saver.weights(self._learners)) is not None:
            self._saver.keep_best(self._learners, weights, better)

    def _add_evaluation(self, evaluated: Evaluated | None) -> None:
        """Logs what weights have scored, and keeps them if they are the best so far."""
        if evaluated is None:
            return
        self._logger.add_evaluation(evaluated.samples, evaluated.figures(named=len(self._learners) > 1))
        rewards = {name: each for name, each in evaluated.rewards.items() if not self._league.plays(name)}
        scores = {name: Score(0, reward) for name, reward in rewards.items()}  # always of the last lessons
        if better := self._saver.better(scores):
            self._saver.keep_best(self._learners, evaluated.weights, better)

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
        reward = logger.reward_mean if self._curriculum.finished else None
        rating = self._league.rating
        reason = stop_reason(self._config.stop, samples, logger.seconds, reward, logger.goal_reached, rating)
        if reason is None and self._seen and all(self._learners[name].ended for name in self._seen):
            return "behaviors"
        return reason

    def _finish(self, reason: str) -> bool:
        """Saves, and writes what is to be known at the end; returns whether nothing of it was refused."""
        if not self._seen:  # what an earlier part of the run has left stays as it is
            log.info(f"The run ended ({reason}) before anything was learned: {self._folder}")
            return True
        self._logger.end(self._shared.samples, self._learners)
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
        return {
            "collector": collector,
            "report": self._logger.state(),
            "curriculum": self._curriculum.state(),
            "self_play": self._league.state(),
        }

    def _handle(self, message: Message) -> None:
        logger, content = self._logger, message.content
        if message.kind == "spec":
            self._add_behavior(*content)
        elif message.kind == "episodes":
            logger.add_episodes(message.behavior, content)
            name = message.behavior
            rating = self._league.rating_of(name)
            if rating is None and self._league.plays(name):
                rating = math.nan
            self._teach(
                self._curriculum.add_episode(name, each, self._progress(name, each), rating) for each in content
            )
        elif message.kind == "matches":
            self._change_opponents(self._league.see(*content))
        elif message.kind == "game":
            logger.add_game_statistics(self._shared.samples, content)
            self._teach(map(self._curriculum.add_statistic, content))
        elif message.kind == "acting":
            logger.add_actor(message.behavior, content)
        elif message.kind == "statistics":
            logger.speed.add(content)
        elif message.kind == "picture":
            logger.add_picture(self._shared.samples, content)
        elif message.kind == "lost":
            log.warning(content)
        else:
            if content.kind == "fault":
                self._last_fault = content.text
            log.log(logging.INFO if content.kind == "note" else logging.WARNING, content.text)

    def _progress(self, behavior: str, episode: Episode) -> float:
        """Returns which share of the training was done when an episode ended: of its behavior's, or of the run's."""
        own, samples = behavior_config(self._config, behavior).stop.samples, self._config.stop.samples
        if own is not None and behavior in self._learners:
            return self._learners[behavior].samples() / own
        return episode.samples / samples if samples else 0.0

    def _teach(self, said: Iterable[list[str]]) -> None:
        """Says what the curriculum has `said` of episodes, and lets the collector begin new lessons, if any have."""
        for line in itertools.chain.from_iterable(said):
            log.info(line)
        if self._shared.lessons != self._curriculum.lessons:
            self._shared.lessons = self._curriculum.lessons
            self._logger.begin_lessons()
            self._collector.send("lessons")

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

    def _restoring(self) -> AbstractContextManager[None]:
        """Returns what turns errors over what the run goes on from, if it goes on, into one message."""
        return restoring(self._checkpoint.path) if self._checkpoint is not None else nullcontext()

    def _add_learner(self, spec: BehaviorSpec) -> None:
        name = spec.name
        self._learners[name] = make_learner(self._config, spec, self._shared, self._device, self._checkpoint)
        if self._others is not None:
            self._others.share(self._learners[name].algorithm)
        with self._restoring():
            self._league.add(self._learners[name])
        if self._learners[name].ended is None and has_end(behavior_config(self._config, name)):
            self._may_end.append(name)

    def _warn_of_missing(self, when: str) -> None:
        if missing := missing_behaviors(self._config, self._seen, when):
            log.warning(missing)
        if missed := self._curriculum.missing(self._seen):
            log.warning(f"{', '.join(missed)}: no such behavior has appeared {when}, so this lesson does not end.")
