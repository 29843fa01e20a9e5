"""Logs how a run goes: gathers its figures, shows them, gives them to the metric writers, and writes a summary."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from algorithms.metrics import NOT_FINITE, SKIPPED
from algorithms.rewards.registry import EXTRINSIC
from envs.process.whole_files import write_whole
from envs.spec import UserError
from trainer.config.saved import as_written
from trainer.config.schema import Tags, TrainConfig, overridden_settings, settings_of
from trainer.telemetry.callbacks import Caller
from trainer.telemetry.console import Progress, Status, log, seconds_left
from trainer.telemetry.diagnosis import Diagnosis
from trainer.telemetry.goal import PATIENCE, Goal
from trainer.telemetry.metrics import EpisodeStatistics, GameStatistics, finite
from trainer.telemetry.metrics_file import METRICS_FILE, MetricsFile
from trainer.telemetry.mlagents_tags import mlagents_tag
from trainer.telemetry.next_steps import next_steps
from trainer.telemetry.statistics import Episode, Statistics
from trainer.telemetry.writers import Writers, find_writers

_SHOW_SECONDS = 0.5
_SHARES_SHOWN = 64
"""Up to so many instances, the share of samples of each is a metric of its own."""


class Learner(Protocol):
    """What is logged of a learner."""

    @property
    def seconds(self) -> float:
        """Seconds spent in updates so far."""

    def metrics(self) -> dict[str, float]:
        """Metrics since they were last read; `update/count`, `update/achieved` and `update/dropped_samples` in all."""


class RunLogger:
    """Gathers and logs a run's figures. In a resumed run it continues from the `state` of the logger before."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        samples: int,
        state: Mapping[str, Any] | None,
        caller: Caller | None = None,
    ) -> None:
        self.caller = caller or Caller()
        """Who asked for the run, and is told of it."""
        state = state or {}
        self._config, self._folder = config, folder
        self._goal = Goal(config.goal) if config.goal.metric is not None else None
        self._env = config.env
        self._episodes = EpisodeStatistics()
        self._by_behavior: dict[str, EpisodeStatistics] = defaultdict(EpisodeStatistics)
        self._diagnoses: dict[str, Diagnosis] = {}
        self._fresh = config.init is None and (not state or "diagnoses" in state)
        """Whether the first episodes of the run are known, and those of a policy that had learned nothing."""
        self._game = GameStatistics()
        self._seconds_before = float(state.get("seconds", 0.0))
        delivered, possible = state.get("supply", (0.0, 0.0))
        self._supply_before = float(delivered), float(possible)
        if state:
            self._episodes.load_state(state["episodes"])
            for name, episodes in state.get("behaviors", {}).items():
                self._by_behavior[name].load_state(episodes)
            for name, diagnosis in state.get("diagnoses", {}).items():
                self._diagnosis(name).load_state(diagnosis)
            if self._goal and state["goal"]:
                self._goal.load_state(state["goal"])
        self._acting: dict[str, str] = {}
        self._samples_before = samples
        self._began = time.monotonic()
        self.statistics = Statistics.none()
        """The collector's latest figures."""
        self._left_out: set[str] = set()
        """Names of metrics that were not finite, and reported."""
        self.waited = 0.0
        """Seconds in which the learner had no samples to learn from; inline, those of the collector's turns."""
        self._skipped: dict[str, dict[str, float]] = dict(state.get("skipped", {}))
        """By behavior and name: updates skipped, as last reported."""
        self._progress = Progress(str(folder), folder, quiet=not self.caller.verbose)
        self._progress.__enter__()
        self._metrics_file = Writers({METRICS_FILE: MetricsFile}, folder)
        self._writers = Writers(find_writers(config.run.loggers), folder)
        settings, overridden = as_written(config), overridden_settings(config.run)
        self._writers.write(samples, lambda writer: writer.settings(samples, settings, overridden))
        self._logged = self._began, samples, self.statistics, dict[str, float]()
        self._show_at = self._began + config.run.log_seconds
        self._log_at = self._next_log(samples)

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

    def add_actor(self, behavior: str, description: str) -> None:
        """Logs how the actions of a behavior are computed."""
        self._acting[behavior] = description
        log.info(f"Behavior {behavior!r} acts in {description}.")

    def add_episodes(self, behavior: str, finished: Sequence[Episode]) -> None:
        """Adds episodes of a behavior, in the order in which they ended."""
        for episode in finished:
            self.caller.played(behavior, episode)
            metrics = self._finite(episode.metrics, "info")
            values = self._episodes.add(episode.reward, episode.length, metrics)
            self._by_behavior[behavior].add(episode.reward, episode.length, metrics)
            self._diagnosis(behavior).add_episode(episode.reward)
            if self._goal is None:
                continue
            if self._goal.metric in values or not self._env.sends_statistics:
                self._add_to_goal(self._goal, episode.samples, values)
            elif self._episodes.episodes == PATIENCE and self._goal.metric not in self._game.keys:
                # No error: games send statistics whenever the game likes.
                known = ", ".join(sorted({*values, *self._game.keys}))
                log.warning(f"goal.metric={self._goal.metric} has not been seen so far; there is {known}")

    def add_game_statistics(self, samples: int, sent: Sequence[tuple[str, float, str]]) -> None:
        """Adds what games have sent: key, value, and how to summarize it (see `GameStatistics`)."""
        for key, value, aggregation in sent:
            if not self._finite({key: value}, "statistics"):
                continue
            self._game.add(key, value, aggregation)
            if self._goal is not None and self._goal.metric == key and aggregation in ("average", "most_recent"):
                self._add_to_goal(self._goal, samples, {key: value})

    def _finite(self, metrics: Mapping[str, float], source: str) -> dict[str, float]:
        """Returns the metrics that are finite; the others are reported once. UserError if a goal looks for one."""
        kept = finite(metrics)
        for name in metrics.keys() - kept.keys():
            if self._goal is not None and self._goal.metric == name:
                raise UserError(
                    f"goal.metric={name} is {metrics[name]} in the {source} of a game: it must always be a finite "
                    "number. Leave it out where there is none"
                )
            if name not in self._left_out:
                self._left_out.add(name)
                log.warning(
                    f"{name} is {metrics[name]} in the {source} of a game, which is no finite number: it is left out "
                    "of the metrics whenever that is so."
                )
        return kept

    def add_picture(self, samples: int, file: Path) -> None:
        """Writes a moving picture of an episode."""
        self._writers.write(samples, lambda writer: writer.picture(samples, "play", file))

    def add_evaluation(self, samples: int, figures: Mapping[str, float]) -> None:
        """Logs what the weights after so many samples have scored, as a point of its own."""
        words = ", ".join(f"{name.replace('evaluation/', '')} {value:.4g}" for name, value in figures.items())
        log.info(f"Evaluation after {samples:,} samples: {words}")
        self._write_values(samples, figures)

    def refresh(self, samples: int, learners: Mapping[str, Learner]) -> bool:
        """Shows how the run stands, and logs it once an interval; returns whether it logged."""
        now = time.monotonic()
        logs = (now if self._config.run.log_samples is None else samples) >= self._log_at
        if not logs and now < self._show_at:
            return False
        self._show_at = now + _SHOW_SECONDS
        status = self._status(now, samples, learners)
        self._progress.show(status)
        if logs:
            self._log_at = self._next_log(samples)
            self._progress.line(status)
            self._write(samples, status, learners)
            self._logged = now, samples, self.statistics, self._learner_seconds(learners)
        return logs

    def _next_log(self, samples: int) -> float:
        """Returns when it logs next: a time of the monotonic clock, or with `run.log_samples` a number of samples."""
        every = self._config.run.log_samples
        return time.monotonic() + self._config.run.log_seconds if every is None else samples + every - samples % every

    def finish(self, samples: int, learners: Mapping[str, Learner], stopped_by: str) -> None:
        """Writes the last points and `summary.json`, whose figures include earlier parts of a resumed run.

        `stopped_by` is `goal`, `samples`, `seconds`, `reward`, `callback`, `interrupted` or `error`.
        """
        now = time.monotonic()
        status = self._status(now, samples, learners)
        metrics = self._write(samples, status, learners)
        acting = self.statistics.elapsed
        moments = self._goal.moments if self._goal else {}
        reached = self._goal.reached if self._goal else None
        counted, supply = self._supply()
        summary = {
            "samples": samples,
            "seconds": self.seconds,  # of training, the start of workers included
            "samples_per_second": (samples - self._samples_before) / acting if acting else 0.0,
            "env_utilization": counted / supply if supply else None,  # an estimate from the instances' busy times
            "episodes": self._episodes.episodes,
            "episode_reward_mean": self._episodes.mean("reward"),
            "stopped_by": stopped_by,
            # When the goal was reached over its window, and over each; null = never, or no goal.
            "goal_samples": reached.samples if reached else None,
            "goal_seconds": reached.seconds if reached else None,
            "goal_windows": {str(n): moment._asdict() if moment else None for n, moment in moments.items()},
            "updates": {name: each["update/count"] for name, each in metrics.items()},
            "updates_achieved": {name: each["update/achieved"] for name, each in metrics.items()},
            "dropped": {name: each["update/dropped_samples"] for name, each in metrics.items()},
            "diagnosis": self._sentences(),  # by behavior, what is wrong; none if all is well
            "acting": self._acting,
            "layout": self.statistics.layout,
            "instances": {key: getattr(self.statistics, key).tolist() for key in ("samples", "spans", "busy")},
        }
        try:
            write_whole(self._folder / "summary.json", f"{json.dumps(summary, indent=2)}\n".encode())
        except OSError as error:
            log.warning(f"summary.json could not be written: {error}. An earlier one is kept.")
        after = f"{samples:,} samples and {self.seconds:.0f} s"
        for behavior, sentence in self._sentences().items():
            log.warning(f"At the end of the run: {self._of_behavior(behavior, sentence)}")
        log.info(f"The run ended ({stopped_by}) after {after}: {self._folder}")
        for line in next_steps(self._folder, list(learners)):
            log.info(line)

    def state(self) -> dict[str, Any]:
        """Returns what the logger of a resumed run continues from, as JSON can hold it."""
        return {
            "seconds": self.seconds,
            "supply": self._supply(),
            "episodes": self._episodes.state(),
            "behaviors": {name: episodes.state() for name, episodes in self._by_behavior.items()},
            "goal": self._goal.state() if self._goal else None,
            "skipped": self._skipped,
            "diagnoses": {name: diagnosis.state() for name, diagnosis in self._diagnoses.items()},
        }

    def close(self) -> None:
        """Closes the metric writers and ends the display."""
        self._metrics_file.close()
        self._writers.close()
        self._progress.__exit__(None, None, None)

    def _add_to_goal(self, goal: Goal, samples: int, values: Mapping[str, float]) -> None:
        """Adds values to the goal, and logs over which windows it is reached now."""
        before = goal.moments
        goal.add(samples, self.seconds, values)
        for window, moment in goal.moments.items():
            if moment and not before[window]:
                log.info(
                    f"{goal.metric}: {goal.means[window]:.4g} over the last {window:,} samples, "
                    f"after {moment.samples:,} samples and {moment.seconds:.0f} s"
                )

    def _write(self, samples: int, status: Status, learners: Mapping[str, Learner]) -> dict[str, dict[str, float]]:
        """Gives all figures to the metric writers, and returns those of the learners by behavior."""
        metrics = {name: learner.metrics() for name, learner in learners.items()}
        for name, own in metrics.items():
            self._warn_of_skipped(name, own)
            if new := self._diagnosis(name).add(samples, own):
                log.warning(self._of_behavior(name, new))
        game, histograms = self._game.take()
        scalars = self._scalars(status, metrics) | game

        self._write_values(samples, scalars, list(metrics))
        if histograms:
            self._writers.write(samples, lambda writer: writer.histograms(samples, histograms))
        self.caller.logged(samples, scalars)
        return metrics

    def _write_values(self, samples: int, scalars: Mapping[str, float], behaviors: Sequence[str] = ()) -> None:
        """Gives figures to `metrics.jsonl`, and to the metric writers under the names that they are to have."""
        seconds, named = self.seconds, dict(scalars)
        self._metrics_file.write(samples, lambda file: file.values(samples, seconds, scalars))
        if self._config.run.tags is Tags.mlagents:
            named = {mlagents_tag(name, behaviors): value for name, value in scalars.items()}
        self._writers.write(samples, lambda writer: writer.values(samples, seconds, named))

    def _diagnosis(self, behavior: str) -> Diagnosis:
        """Returns the diagnosis of a behavior, begun with its first episode or metrics."""
        if behavior not in self._diagnoses:
            settings, rewards = settings_of(self._config, behavior)
            paid = [name for name, reward in rewards.items() if reward.pays]
            judged = self._fresh and settings.cloning.demos is None and paid == [EXTRINSIC]
            self._diagnoses[behavior] = Diagnosis(judged)
        return self._diagnoses[behavior]

    def _sentences(self) -> dict[str, str]:
        """Returns by behavior what is wrong."""
        found = {name: diagnosis.sentence for name, diagnosis in self._diagnoses.items()}
        return {name: sentence for name, sentence in found.items() if sentence is not None}

    def _of_behavior(self, behavior: str, sentence: str) -> str:
        return sentence if len(self._diagnoses) == 1 else f"Behavior {behavior!r}: {sentence}"

    def _warn_of_skipped(self, behavior: str, scalars: Mapping[str, float]) -> None:
        """Warns of updates that were skipped since the last reading, and names what in them was not finite."""
        bad = ", ".join(key.removeprefix(NOT_FINITE) for key in scalars if key.startswith(NOT_FINITE))
        counts = {key: value for key, value in scalars.items() if key.endswith(f"/{SKIPPED}")}
        reported = self._skipped.setdefault(behavior, {})
        for key, skipped in counts.items():
            new = skipped - reported.get(key, 0.0)
            reported[key] = skipped
            if new:
                part = key.removesuffix(f"/{SKIPPED}")
                whose = "updates" if part == "update" else f"updates of {part}"
                log.warning(
                    f"Behavior {behavior!r}: {new:.0f} {whose} skipped, because the gradient was not finite"
                    + (f"; neither was {bad}." if bad else ".")
                )

    def _supply(self) -> tuple[float, float]:
        """Returns the samples, and how many could have been delivered meanwhile, over all parts of the run."""
        counted, supply = self.statistics.supply()
        return self._supply_before[0] + counted, self._supply_before[1] + supply

    def _status(self, now: float, samples: int, learners: Mapping[str, Learner]) -> Status:
        then, samples_then, statistics, learning = self._logged
        interval = max(now - then, 1e-9)
        rate = (samples - samples_then) / interval
        recent = self.statistics.since(statistics)
        counted, supply = recent.supply()
        shares = {word: seconds / max(recent.elapsed, 1e-9) for word, seconds in recent.seconds.items()}
        for word, seconds in self._learner_seconds(learners).items():
            shares[word] = (seconds - learning.get(word, 0.0)) / interval
        goal = None
        if self._goal is not None:
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
            diagnosis=next((self._of_behavior(*each) for each in self._sentences().items()), None),
        )

    def _learner_seconds(self, learners: Mapping[str, Learner]) -> dict[str, float]:
        """Returns how the learner has spent its time so far; the rest went to logs and checkpoints."""
        return {"updating": sum(each.seconds for each in learners.values()), "waiting for samples": self.waited}

    def _scalars(self, status: Status, metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        scalars = {
            "run/samples_per_second": status.samples_per_second,
            "run/seconds": status.seconds,
            **{f"time/{name.replace(' ', '_')}": share for name, share in status.shares.items()},
            **self._episodes.scalars(),
        }
        if status.env_utilization is not None:
            scalars["run/env_utilization"] = status.env_utilization
        if status.goal is not None and status.goal[1] is not None:
            scalars[f"goal/{status.goal[0]}"] = status.goal[1]
        shares = self.statistics.samples / max(1, self.statistics.samples.sum())
        if len(shares):
            scalars |= {"instances/smallest_share": float(shares.min()), "instances/largest_share": float(shares.max())}
        if len(shares) <= _SHARES_SHOWN:
            scalars |= {f"instances/share_{i}": float(share) for i, share in enumerate(shares)}
        if len(self._env.behaviors) == 1 and len(metrics) <= 1:
            return {**scalars, **next(iter(metrics.values()), {})}
        for name, own in metrics.items():
            scalars |= {f"{name}/{key}": value for key, value in own.items()}
        for name, episodes in self._by_behavior.items():
            scalars |= {f"{name}/{key}": value for key, value in episodes.scalars().items()}
        return scalars
