"""What a run tells of itself: joins statistics, goal, progress, TensorBoard and summary."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from algorithms.metrics import NOT_FINITE, SKIPPED
from trainer.config.schema import TrainConfig, UnityConfig
from trainer.runtime.learner import Learner
from trainer.telemetry.console import Progress, Status, log, seconds_left
from trainer.telemetry.goal import PATIENCE, Goal
from trainer.telemetry.metrics import EpisodeStatistics, GameStatistics, Summary, TensorBoard
from trainer.telemetry.statistics import Episode, Statistics

_SHOW_SECONDS = 0.5


class RunLogger:
    """A run's figures. `state` is what `load_state` was given, grown on: they span all parts of a resumed run."""

    def __init__(self, config: TrainConfig, folder: Path, samples: int, state: Mapping[str, Any] | None) -> None:
        state = state or {}
        self._config, self._folder = config, folder
        self._goal = Goal(config.goal) if config.goal.metric is not None else None
        self._unity = isinstance(config.env, UnityConfig)
        self._episodes = EpisodeStatistics()
        self._by_behavior: dict[str, EpisodeStatistics] = defaultdict(EpisodeStatistics)
        self._game = GameStatistics()
        self._seconds_before: float = state.get("seconds", 0.0)
        self._supply_before: tuple[float, float] = tuple(state.get("supply", (0.0, 0.0)))
        if state:
            self._episodes.load_state(state["episodes"])
            for name, episodes in state.get("behaviors", {}).items():
                self._by_behavior[name].load_state(episodes)
            if self._goal and state["goal"]:
                self._goal.load_state(state["goal"])
        self._acting: dict[str, str] = {}
        self._samples_before = samples
        self._began = time.monotonic()
        self._statistics = Statistics.none()
        self.waited = 0.0
        """Seconds in which the learner had no samples to learn from; inline, those of the collector's turns."""
        self._board: TensorBoard | None = TensorBoard(folder, samples)
        self._skipped: dict[str, dict[str, float]] = dict(state.get("skipped", {}))
        """By behavior and name: updates left out, as last told."""
        self._progress = Progress(str(folder), folder)
        self._progress.__enter__()
        self._logged = self._began, samples, self._statistics, dict[str, float]()
        self._log_at = self._show_at = self._began + config.run.log_seconds

    @property
    def seconds(self) -> float:
        """Seconds of training, earlier parts of a resumed run included."""
        return self._seconds_before + time.monotonic() - self._began

    @property
    def reward_mean(self) -> float | None:
        """Mean reward of the last 100 episodes; None before there are so many."""
        return self._episodes.mean("reward") if self._episodes.full else None

    @property
    def goal_reached(self) -> bool:
        """Whether the goal, if there is one, was reached."""
        return self._goal is not None and self._goal.reached is not None

    def acting(self, behavior: str, words: str) -> None:
        """Notes and tells what a behavior acts with."""
        self._acting[behavior] = words
        log.info(f"behavior {behavior!r} acts in {words}")

    def episodes(self, behavior: str, finished: Sequence[Episode]) -> None:
        """Takes in episodes of a behavior, in the order in which they ended."""
        for episode in finished:
            values = self._episodes.add(episode.reward, episode.length, episode.metrics)
            self._by_behavior[behavior].add(episode.reward, episode.length, episode.metrics)
            if self._goal is None:
                continue
            if self._goal.metric in values or not self._unity:
                self._approach(self._goal, episode.samples, values)
            elif self._episodes.episodes == PATIENCE and self._goal.metric not in self._game.keys:
                # No error: Unity sends statistics whenever the game likes.
                known = ", ".join(sorted({*values, *self._game.keys}))
                log.warning(f"goal.metric={self._goal.metric} has not been seen so far; there is {known}")

    def game(self, samples: int, sent: Sequence[tuple[str, float, str]]) -> None:
        """Takes in what games have sent: key, value, and how it is summed up (see `GameStatistics`)."""
        for key, value, aggregation in sent:
            self._game.add(key, value, aggregation)
            if self._goal is not None and self._goal.metric == key and aggregation in ("average", "most_recent"):
                self._approach(self._goal, samples, {key: value})

    def statistics(self, statistics: Statistics) -> None:
        """Takes in the collector's latest figures."""
        self._statistics = statistics

    def picture(self, samples: int, file: Path) -> None:
        """Takes in a moving picture of an episode."""
        self._write_events(samples, lambda board: board.picture(samples, "play", file))

    def refresh(self, samples: int, learners: Mapping[str, Learner]) -> bool:
        """Shows, and at intervals logs, how the run stands; tells whether it logged."""
        now = time.monotonic()
        logs = now >= self._log_at
        if not logs and now < self._show_at:
            return False
        self._show_at = now + _SHOW_SECONDS
        status = self._status(now, samples, learners)
        self._progress.show(status)
        if logs:
            self._log_at = now + self._config.run.log_seconds
            self._progress.line(status)
            self._record(samples, *self._points(status, learners))
            self._logged = now, samples, self._statistics, self._learner_seconds(learners)
        return logs

    def finish(self, samples: int, learners: Mapping[str, Learner], stopped_by: str) -> None:
        """Writes the last points and `summary.json`."""
        now = time.monotonic()
        status = self._status(now, samples, learners)
        self._record(samples, *self._points(status, learners))
        acting = self._statistics.elapsed
        mean = self._episodes.mean("reward")
        moments = self._goal.moments if self._goal else {}
        reached = self._goal.reached if self._goal else None
        counted, supply = self._supply()
        summary = Summary(
            samples=samples,
            seconds=self.seconds,
            samples_per_second=(samples - self._samples_before) / acting if acting else 0.0,
            env_utilization=counted / supply if supply else None,
            episodes=self._episodes.episodes,
            episode_reward_mean=mean,
            stopped_by=stopped_by,
            goal_samples=reached.samples if reached else None,
            goal_seconds=reached.seconds if reached else None,
            goal_windows={str(n): moment._asdict() if moment else None for n, moment in moments.items()},
            extra={
                "updates": {name: learner.algorithm.updates for name, learner in learners.items()},
                "updates_achieved": {name: learner.achieved_ratio for name, learner in learners.items()},
                "dropped": {name: learner.algorithm.dropped for name, learner in learners.items()},
                "acting": self._acting,
                "layout": self._statistics.layout,
                "instances": {
                    "samples": self._statistics.samples.tolist(),
                    "spans": self._statistics.spans.tolist(),
                    "busy": self._statistics.busy.tolist(),
                },
            },
        )
        try:
            summary.write(self._folder)
        except OSError as error:
            log.warning(f"summary.json could not be written: {error}. One that was there before still is.")
        log.info(f"stopped by {stopped_by} after {samples:,} samples and {self.seconds:.0f} s: {self._folder}")

    def state(self) -> dict[str, Any]:
        """What a resumed run's run_logger starts from, as JSON."""
        return {
            "seconds": self.seconds,
            "supply": self._supply(),
            "episodes": self._episodes.state(),
            "behaviors": {name: episodes.state() for name, episodes in self._by_behavior.items()},
            "goal": self._goal.state() if self._goal else None,
            "skipped": self._skipped,
        }

    def close(self) -> None:
        """Ends display and event files."""
        if self._board is not None:
            with suppress(OSError):  # a disk that is full, with what was written last
                self._board.close()
        self._progress.__exit__(None, None, None)

    def _approach(self, goal: Goal, samples: int, values: Mapping[str, float]) -> None:
        """Shows the goal new values, and tells of windows over which it is reached now."""
        before = goal.moments
        goal.add(samples, self.seconds, values)
        for window, moment in goal.moments.items():
            if moment and not before[window]:
                log.info(
                    f"{goal.metric}: {goal.means[window]:.4g} over the last {window:,} samples, "
                    f"after {moment.samples:,} samples and {moment.seconds:.0f} s"
                )

    def _record(self, samples: int, scalars: dict[str, float], histograms: dict[str, list[float]]) -> None:
        def write(board: TensorBoard) -> None:
            board.scalars(samples, scalars)
            board.histograms(samples, histograms)
            board.flush()

        self._write_events(samples, write)

    def _write_events(self, samples: int, write: Callable[[TensorBoard], None]) -> None:
        """Writes to TensorBoard. That a disk refuses is told of once; what comes later is tried with a new writer."""
        refused = self._board is None
        try:
            board = self._board or TensorBoard(self._folder, samples)
            write(board)
        except OSError as error:  # its writer is lost with that
            self._board = None
            if not refused:
                log.warning(f"TensorBoard's events cannot be written: {error}. Later ones are tried again.")
        else:
            self._board = board
            if refused:
                log.info(f"TensorBoard's events are written again, from {samples:,} samples on.")

    def _tell_of_skipped(self, behavior: str, scalars: Mapping[str, float]) -> None:
        """Warns of updates that were left out since the last reading, and of what in them was not finite."""
        bad = ", ".join(key.removeprefix(NOT_FINITE) for key in scalars if key.startswith(NOT_FINITE))
        counts = {key: value for key, value in scalars.items() if key.endswith(f"/{SKIPPED}")}
        told = self._skipped.setdefault(behavior, {})
        for key, skipped in counts.items():
            new = skipped - told.get(key, 0.0)
            told[key] = skipped
            if new:
                part = key.removesuffix(f"/{SKIPPED}")
                whose = "updates" if part == "update" else f"updates of {part}"
                log.warning(
                    f"behavior {behavior!r}: {whose} skipped: {new:.0f}, as the gradient was not finite"
                    + (f"; nor was {bad}" if bad else "")
                )

    def _supply(self) -> tuple[float, float]:
        """Samples counted and what could have been delivered meanwhile, over all parts of the run."""
        counted, supply = self._statistics.supply()
        return self._supply_before[0] + counted, self._supply_before[1] + supply

    def _status(self, now: float, samples: int, learners: Mapping[str, Learner]) -> Status:
        then, samples_then, statistics, learning = self._logged
        interval = max(now - then, 1e-9)
        rate = (samples - samples_then) / interval
        recent = self._statistics.since(statistics)
        counted, supply = recent.supply()
        shares = {word: seconds / max(recent.elapsed, 1e-9) for word, seconds in recent.seconds.items()}
        for word, seconds in self._learner_seconds(learners).items():
            shares[word] = (seconds - learning.get(word, 0.0)) / interval
        goal = None
        if self._goal is not None and self._goal.target is not None:
            goal = self._goal.metric, self._goal.means[self._goal.window_samples], self._goal.target
        return Status(
            samples=samples,
            seconds=self.seconds,
            samples_per_second=rate,
            env_utilization=counted / supply if supply else None,
            reward=self._episodes.mean("reward"),
            goal=goal,
            shares=shares,
            seconds_left=seconds_left(self._config.stop, samples, self.seconds, rate),
        )

    def _learner_seconds(self, learners: Mapping[str, Learner]) -> dict[str, float]:
        """Where the learner's time went so far; the rest is spent on reports and checkpoints."""
        return {
            "updating": sum(learner.seconds for learner in learners.values()),
            "waiting for samples": self.waited,
        }

    def _points(
        self, status: Status, learners: Mapping[str, Learner]
    ) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Scalars and histograms, by TensorBoard's names; takes what games have sent."""
        game, histograms = self._game.take()
        scalars = {
            "run/samples_per_second": status.samples_per_second,
            "run/seconds": status.seconds,
            **{f"time/{word.replace(' ', '_')}": share for word, share in status.shares.items()},
            **self._episodes.scalars(),
            **game,
        }
        if status.env_utilization is not None:
            scalars["run/env_utilization"] = status.env_utilization
        if status.goal is not None and status.goal[1] is not None:
            scalars[f"goal/{status.goal[0]}"] = status.goal[1]
        shares = self._statistics.samples / max(1, self._statistics.samples.sum())
        if len(shares):
            scalars |= {"instances/smallest_share": float(shares.min()), "instances/largest_share": float(shares.max())}
        if len(shares) <= _SHARES_SHOWN:
            scalars |= {f"instances/share_{i}": float(share) for i, share in enumerate(shares)}
        named = self._unity or len(learners) > 1
        for name, learner in learners.items():
            own = _learner_scalars(learner)
            self._tell_of_skipped(name, own)
            scalars |= {f"{name}/{key}" if named else key: value for key, value in own.items()}
        for name, episodes in self._by_behavior.items() if named else ():
            scalars |= {f"{name}/{key}": value for key, value in episodes.scalars().items()}
        return scalars, histograms


_SHARES_SHOWN = 64


def _learner_scalars(learner: Learner) -> dict[str, float]:
    return {
        **learner.algorithm.metrics(),
        "update/achieved": learner.achieved_ratio,
        "update/count": learner.algorithm.updates,
        "update/dropped_samples": learner.algorithm.dropped,
    }
