"""Evaluation while training: a process of its own plays episodes with the newest weights, and nobody waits for it.

It is given weights only while it has nothing to do; what comes due meanwhile is left out. Inline the run waits for it,
so that it can be reproduced.
"""

from __future__ import annotations

import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from envs.process.lifetime import described_end, end_process, start_following
from envs.spec import UserError
from trainer.checkpoint import Checkpoint
from trainer.config.errors import one_line
from trainer.config.schema import Mode, TrainConfig
from trainer.evaluate.play import evaluate
from trainer.evaluate.results import PlayedEpisode
from trainer.runtime.collector_process import one_thread
from trainer.runtime.saver import Weights
from trainer.telemetry.console import log
from trainer.telemetry.metrics import DEVIATION

FAILURES = 3
"""After so many in a row there are no further evaluations."""
_END_SECONDS = 60.0
"""So long the end of a run waits for an evaluation that is under way."""
SEED = 1_000_000
"""Of the episodes, always the same; far from the seeds of training."""


class Evaluated(NamedTuple):
    """What some weights have scored."""

    samples: int
    """Of the run when it had these weights."""
    weights: Weights
    episodes: Sequence[PlayedEpisode]

    @property
    def rewards(self) -> dict[str, float]:
        """The mean reward of each behavior's episodes."""
        found: dict[str, list[float]] = defaultdict(list)
        for episode in self.episodes:
            found[episode.behavior].append(episode.reward)
        return {behavior: float(np.mean(each)) for behavior, each in found.items()}

    def figures(self, named: bool) -> dict[str, float]:
        """Returns means as metrics: `evaluation/reward` and so on, behind their behavior if `named`.

        `evaluation/reward_deviation` is the standard deviation of the rewards.
        """
        values: dict[str, list[float]] = defaultdict(list)
        for episode in self.episodes:
            above = f"{episode.behavior}/" if named else ""
            for name, value in {**episode.metrics, "reward": episode.reward, "length": episode.length}.items():
                values[f"{above}evaluation/{name}"].append(value)
        rewards = {name: each for name, each in values.items() if name.endswith("evaluation/reward")}
        spreads = {f"{name}{DEVIATION}": float(np.std(each, ddof=1)) for name, each in rewards.items() if len(each) > 1}
        return {name: float(np.mean(each)) for name, each in values.items()} | spreads


class Evaluator:
    """Has weights evaluated every `evaluate.every_samples` samples."""

    def __init__(self, config: TrainConfig, folder: Path, samples: int) -> None:
        self._config, self._folder = config, folder
        self._every = config.evaluate.every_samples
        self._due = 0 if self._every is None else samples + self._every - samples % self._every
        self._failures = 0
        self._given: tuple[int, Weights] | None = None
        """What is being evaluated."""
        self._connection: Connection | None = None

    def offer(self, samples: int, weights: Callable[[], Weights | None]) -> None:
        """Has the weights evaluated that the run has after so many samples, if that is due."""
        if self._every is None or samples < self._due or self._given or self._failures >= FAILURES:
            return
        self._due = samples + self._every - samples % self._every
        if (given := weights()) is None:
            return
        if self._connection is None:
            self._start()
        self._given = samples, given
        with suppress(OSError):  # it has ended, which `take` finds
            self._connection.send((given.tensors, given.behaviors))  # type: ignore[union-attr]

    def take(self) -> Evaluated | None:
        """Returns what was evaluated since the last call; inline, it waits for what is under way."""
        if self._given is None or self._connection is None:
            return None
        wait = None if self._config.run.mode is Mode["inline"] else 0
        return self._received() if self._connection.poll(wait) else None

    def finish(self) -> Evaluated | None:
        """Returns the evaluation that is under way at the end of a run, if it takes no longer than a minute."""
        if self._given is not None and self._connection is not None and self._connection.poll(_END_SECONDS):
            return self._received()
        return None

    def close(self) -> None:
        """Ends the process."""
        if self._connection is not None:
            self._connection.close()
            end_process(self._process)
            self._connection = None

    def _start(self) -> None:
        self._connection, theirs = Pipe()
        with one_thread():
            self._process = start_following("evaluator", play_evaluations, self._config, self._folder, theirs)
        theirs.close()

    def _received(self) -> Evaluated | None:
        assert self._given is not None  # noqa: S101
        assert self._connection is not None  # noqa: S101
        (samples, weights), self._given = self._given, None
        try:
            answer = self._connection.recv()
        except (EOFError, OSError):
            self.close()
            answer = described_end(self._process.exitcode)
        if not isinstance(answer, str):
            self._failures = 0
            return Evaluated(samples, weights, answer)
        self._failures += 1
        end = " There are no further evaluations." if self._failures == FAILURES else ""
        log.warning(f"The evaluation after {samples:,} samples failed: {answer} Training goes on.{end}")
        return None


def play_evaluations(config: TrainConfig, folder: Path, connection: Connection) -> None:
    """Plays the weights that it is sent, until its parent closes the connection: main function of the process."""
    config = replace(config, env=config.env.for_evaluation(config.evaluate.instances))
    place = folder / "checkpoints" / "evaluated"  # is not made
    with suppress(EOFError, OSError):
        while True:
            tensors, behaviors = connection.recv()
            checkpoint = Checkpoint(place, tensors, {"behaviors": behaviors}, {})
            try:
                answer: object = evaluate(config, checkpoint, config.evaluate.episodes, seed=SEED)
            except UserError as error:
                answer = f"{error}."
            except Exception as error:  # whatever it was, training goes on
                answer = f"{one_line(error)}.\n{traceback.format_exc()}"
            connection.send(answer)
