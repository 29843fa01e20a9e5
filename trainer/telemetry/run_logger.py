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
from envs.parameters import Parameters
from envs.process.whole_files import write_whole
from envs.spec import Statistic, UserError
from trainer.config.saved import as_written
from trainer.config.schema import Tags, TrainConfig, behavior_config, overridden_settings, settings_of
from trainer.curriculum import Curriculum
from trainer.runtime.stop import endless
from trainer.telemetry.bottleneck import bottleneck
from trainer.telemetry.callbacks import Caller
from trainer.telemetry.console import Progress, log
from trainer.telemetry.diagnosis import Diagnosis
from trainer.telemetry.goal import PATIENCE, Goal
from trainer.telemetry.metrics import EpisodeStatistics, GameStatistics, finite
from trainer.telemetry.metrics_file import METRICS_FILE, MetricsFile, values_until
from trainer.telemetry.mlagents_tags import mlagents_tag
from trainer.telemetry.next_steps import next_steps
from trainer.telemetry.speed import RELIABLE_SECONDS, Measured, Speed
from trainer.telemetry.statistics import Episode
from trainer.telemetry.status import Curve, Status, aims, seconds_left
from trainer.telemetry.writers import Writers, find_writers

_SHOW_SECONDS = 0.5
_GOALS = ("average", "most_recent")
"""How statistics are summed up that a goal may look for."""


class League(Protocol):
    """What is logged of self-play."""

    @property
    def learning(self) -> tuple[str, int] | None:
        """The behavior and the team that learn; None before any was seen."""

    def ratings(self) -> dict[str, float]:
        """Returns by behavior its rating."""


class Learner(Protocol):
    """What is logged of a learner."""

    @property
    def seconds(self) -> float:
        """Seconds spent in updates so far."""

    @property
    def updates(self) -> int:
        """Updates so far, those of earlier parts of a resumed run included."""

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
        progress: Progress,
        caller: Caller | None = None,
        curriculum: Curriculum | None = None,
    ) -> None:
        """`progress` shows the figures; it is the caller's to close."""
        self.caller = caller or Caller()
        """Who asked for the run, and is told of it."""
        state = state or {}
        self._config, self._folder = config, folder
        self._curriculum = curriculum or Curriculum(Parameters({}))
        self._goal = Goal(config.goal) if config.goal.metric is not None else None
        self._goals: dict[str, Goal | None] = {}
        """By behavior, its own goal."""
        self._endless = endless(config)
        self._episodes = EpisodeStatistics()
        self._in_lessons = EpisodeStatistics()
        """Of the episodes that began in the lessons of now: those that `reward_mean` goes by."""
        self._in_lessons_of: dict[str, EpisodeStatistics] = defaultdict(EpisodeStatistics)
        """The same by behavior."""
        self._by_behavior: dict[str, EpisodeStatistics] = defaultdict(EpisodeStatistics)
        self._diagnoses: dict[str, Diagnosis] = {}
        self._fresh = config.init is None and (not state or "diagnoses" in state)
        """Whether the first episodes of the run are known, and those of a policy that had learned nothing."""
        self._game = GameStatistics()
        self._seconds_before = float(state.get("seconds", 0.0))
        if state:
            self._episodes.load_state(state["episodes"])
            self._in_lessons.load_state(state.get("lessons") or state["episodes"])
            for name, episodes in state.get("behaviors", {}).items():
                self._by_behavior[name].load_state(episodes)
            for name, episodes in state.get("lessons_of", state.get("behaviors", {})).items():
                self._in_lessons_of[name].load_state(episodes)
            for name, diagnosis in state.get("diagnoses", {}).items():
                self._diagnosis(name).load_state(diagnosis)
            if self._goal and state["goal"]:
                self._goal.load_state(state["goal"])
            for name, saved in state.get("goals", {}).items():
                if (goal := self._goal_of(name)) is not None:
                    goal.load_state(saved)
        self._acting: dict[str, str] = {}
        delivered, possible = state.get("supply", (0.0, 0.0))
        self.speed = Speed(samples, (float(delivered), float(possible)))
        self._ended: tuple[Measured, Measured] | None = None
        """What `end` has returned."""
        self._left_out: set[str] = set()
        """Names of metrics that were not finite, and reported."""
        self.waited = 0.0
        """Seconds in which the learner had no samples to learn from; inline, those of the collector's turns."""
        self._skipped: dict[str, dict[str, float]] = {
            name: dict(each) for name, each in state.get("skipped", {}).items()
        }
        """By behavior and name: updates skipped, as last reported."""
        self._progress = progress
        self._rewards = Curve(values_until(folder, "episode/reward", samples) if state else ())
        """The mean reward at each point of the metrics so far."""
        self.league: League | None = None
        """That of self-play, once the run has one."""
        self._goal_began: float | None = None
        """The mean of the goal's metric when it was first known."""
        self._metrics_file = Writers({METRICS_FILE: MetricsFile}, folder)
        self._writers = Writers(find_writers(config.run.loggers), folder)
        settings, overridden = as_written(config), overridden_settings(config.run)
        self._writers.write(samples, lambda writer: writer.settings(samples, settings, overridden))
        self._wait_at = self.speed.began
        self._show_at = self.speed.began + _SHOW_SECONDS
        self._log_at = self._next_log(samples)

    @property
    def seconds(self) -> float:
        """Seconds of training, earlier parts of a resumed run included."""
        return self._seconds_before + time.monotonic() - self.speed.began

    @property
    def reward_mean(self) -> float | None:
        """Mean reward of the last 100 episodes that began in the lessons of now; None before there are so many."""
        return self._in_lessons.mean("reward") if self._in_lessons.full else None

    @property
    def _reward(self) -> float | None:
        """Mean reward of the last 100 episodes, or of those so far."""
        return self._episodes.mean("reward")

    def reward_of(self, behavior: str) -> float | None:
        """Returns what `reward_mean` is, of one behavior."""
        episodes = self._in_lessons_of[behavior]
        return episodes.mean("reward") if episodes.full else None

    def has_reached_goal(self, behavior: str) -> bool:
        """Returns whether a behavior has a goal of its own, and has reached it."""
        goal = self._goal_of(behavior)
        return goal is not None and goal.reached is not None

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
            if not self._curriculum.counts(episode.lessons):
                continue
            self._in_lessons.add(episode.reward, episode.length, metrics)
            self._in_lessons_of[behavior].add(episode.reward, episode.length, metrics)
            goal = self._goal_of(behavior)
            if goal is not None and self._curriculum.finished:
                goal.add(episode.samples, self.seconds, values)
            if self._goal is None or not self._curriculum.finished:
                continue
            if self._goal.metric in values or not self._config.env.sends_statistics:
                self._add_to_goal(self._goal, episode.samples, values)
            elif self._episodes.episodes == PATIENCE and self._goal.metric not in self._game.keys:
                # No error: games send statistics whenever the game likes.
                known = ", ".join(sorted({*values, *self._game.keys}))
                log.warning(f"goal.metric={self._goal.metric} has not been seen so far; there is {known}")

    def begin_lessons(self) -> None:
        """Other lessons have begun: episodes of earlier ones do not count for rewards any more."""
        self._in_lessons = EpisodeStatistics()
        self._in_lessons_of.clear()

    def _goal_of(self, behavior: str) -> Goal | None:
        """Returns the goal of a behavior's own, if it has one."""
        if behavior not in self._goals:
            chosen = behavior_config(self._config, behavior).goal
            self._goals[behavior] = None if chosen.metric is None else Goal(chosen)
        return self._goals[behavior]

    def add_game_statistics(self, samples: int, sent: Sequence[Statistic]) -> None:
        """Adds what games have sent."""
        for key, value, aggregation, lessons in sent:
            if not self._finite({key: value}, "statistics"):
                continue
            self._game.add(key, value, aggregation)
            counts = self._curriculum.finished and self._curriculum.counts(lessons)
            if counts and self._goal is not None and self._goal.metric == key and aggregation in _GOALS:
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

    def wait(self, waiting_for: str) -> None:
        """Shows what the run waits for before its first sample."""
        if (now := time.monotonic()) >= self._wait_at:
            self._wait_at = now + _SHOW_SECONDS
            self._progress.wait(waiting_for)

    def refresh(self, samples: int, learners: Mapping[str, Learner]) -> bool:
        """Shows how the run stands, and logs it once an interval; returns whether it logged."""
        now = time.monotonic()
        logs = (now if self._config.run.log_samples is None else samples) >= self._log_at
        if not logs and now < self._show_at:
            return False
        self._show_at = now + _SHOW_SECONDS
        measured = self.speed.last(now, samples, self._learner_seconds(learners))
        status = self._status(samples, learners, measured)
        if self.speed.started:
            self._progress.show(status)
        if logs:
            self._log_at = self._next_log(samples)
            self._progress.line(status)
            self._write(samples, learners, measured.scalars())
            self.speed.note(now, samples, self._learner_seconds(learners))
        return logs

    def _next_log(self, samples: int) -> float:
        """Returns when it logs next: a time of the monotonic clock, or with `run.log_samples` a number of samples."""
        every = self._config.run.log_samples
        return time.monotonic() + self._config.run.log_seconds if every is None else samples + every - samples % every

    def end(self, samples: int, learners: Mapping[str, Learner]) -> tuple[Measured, Measured]:
        """Notes how the run stands when it ends, as nothing is collected while it is saved and evaluated.

        Returns what was measured over its last interval, and over all of it.
        """
        now, learning = time.monotonic(), self._learner_seconds(learners)
        self._ended = self.speed.last(now, samples, learning), self.speed.whole(now, samples, learning)
        self._progress.show(self._status(samples, learners, self._ended[1]), saving=True)
        return self._ended

    def finish(self, samples: int, learners: Mapping[str, Learner], stopped_by: str) -> None:
        """Writes the last points and `summary.json`, whose figures include earlier parts of a resumed run.

        `stopped_by` is `goal`, `samples`, `seconds`, `reward`, `behaviors`, `callback`, `interrupted` or `error`.
        """
        latest, whole = self._ended or self.end(samples, learners)
        reliable = latest.interval >= RELIABLE_SECONDS or self.speed.first
        metrics = self._write(samples, learners, latest.scalars() if reliable else {})
        moments = self._goal.moments if self._goal else {}
        reached = self._goal.reached if self._goal else None
        summary = {
            "samples": samples,
            "seconds": self.seconds,  # of training, the start of workers included
            "samples_per_second": whole.samples_per_second,
            "env_utilization": whole.env_utilization,  # an estimate from the instances' busy times
            "episodes": self._episodes.episodes,
            "episode_reward_mean": self._reward,
            "ratings": self.league.ratings() if self.league is not None else {},
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
            "layout": self.speed.statistics.layout,
            "instances": {key: getattr(self.speed.statistics, key).tolist() for key in ("samples", "spans", "busy")},
        }
        try:
            write_whole(self._folder / "summary.json", f"{json.dumps(summary, indent=2)}\n".encode())
        except OSError as error:
            log.warning(f"summary.json could not be written: {error}. An earlier one is kept.")
        after = f"{samples:,} samples and {self.seconds:.0f} s"
        self._progress.end(self._status(samples, learners, whole))
        for behavior, sentence in self._sentences().items():
            log.warning(f"At the end of the run: {self._of_behavior(behavior, sentence)}")
        log.info(f"The run ended ({stopped_by}) after {after}: {self._folder}")
        for line in next_steps(self._folder, list(learners)):
            log.info(line)

    def state(self) -> dict[str, Any]:
        """Returns what the logger of a resumed run continues from, as JSON can hold it."""
        return {
            "seconds": self.seconds,
            "supply": self.speed.supply(),
            "episodes": self._episodes.state(),
            "lessons": self._in_lessons.state(),
            "lessons_of": {name: episodes.state() for name, episodes in self._in_lessons_of.items()},
            "behaviors": {name: episodes.state() for name, episodes in self._by_behavior.items()},
            "goal": self._goal.state() if self._goal else None,
            "goals": {name: goal.state() for name, goal in self._goals.items() if goal is not None},
            "skipped": self._skipped,
            "diagnoses": {name: diagnosis.state() for name, diagnosis in self._diagnoses.items()},
        }

    def close(self) -> None:
        """Closes the metric writers."""
        self._metrics_file.close()
        self._writers.close()

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

    def _write(
        self, samples: int, learners: Mapping[str, Learner], speed: Mapping[str, float]
    ) -> dict[str, dict[str, float]]:
        """Gives all figures to the metric writers, `speed` among them; returns those of the learners by behavior."""
        metrics = {name: learner.metrics() for name, learner in learners.items()}
        for name, own in metrics.items():
            self._warn_of_skipped(name, own)
            if new := self._diagnosis(name).add(samples, own):
                log.warning(self._of_behavior(name, new))
        game, histograms = self._game.take()
        scalars = {**speed, **self._scalars(metrics), **game}
        if self._reward is not None:
            self._rewards.add(self._reward)

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
            fresh = self._fresh and behavior_config(self._config, behavior).init is None
            paid = [name for name, reward in rewards.items() if reward.pays]
            taught = bool(self._curriculum.lessons.at)  # the return stays as it is where the game gets harder
            against_itself = behavior_config(self._config, behavior).self_play.enabled  # who gets better, as it does
            judged = fresh and settings.cloning.demos is None and paid == [EXTRINSIC] and not taught
            judged = judged and not against_itself
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

    def _status(self, samples: int, learners: Mapping[str, Learner], measured: Measured) -> Status:
        config, goal, reward, first = self._config, self._goal, self._reward, self._rewards.first
        updates = sum(each.updates for each in learners.values())
        mean = goal.means[goal.window_samples] if goal else None
        self._goal_began = began = mean if self._goal_began is None else self._goal_began
        return Status(
            samples=samples,
            seconds=self.seconds,
            samples_per_second=measured.samples_per_second,
            games=config.instances,
            episodes=self._episodes.episodes,
            updates=updates,
            env_utilization=measured.env_utilization,
            reward=reward,
            ratings=self.league.ratings() if self.league is not None else {},
            rewards=self._rewards.points,
            goal=(goal.metric, mean, goal.target) if goal else None,
            aims=aims(config, samples, self.seconds, (reward if first is None else first, reward), (began, mean)),
            lessons=self._curriculum.described(),
            endless=self._endless,
            shares=measured.shares,
            seconds_left=seconds_left(config.stop, samples, self.seconds, measured.samples_per_second),
            bottleneck=bottleneck(config, measured.shares, measured.env_utilization) if updates else None,
            diagnosis=next((self._of_behavior(*each) for each in self._sentences().items()), None),
        )

    def _learner_seconds(self, learners: Mapping[str, Learner]) -> dict[str, float]:
        """Returns how the learner has spent its time so far; the rest went to logs and checkpoints."""
        return {"updating": sum(each.seconds for each in learners.values()), "waiting for samples": self.waited}

    def _scalars(self, metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        scalars = {
            "run/seconds": self.seconds,
            **self._episodes.scalars(),
            **self._curriculum.scalars(),
            **self.speed.instance_shares(),
        }
        if self.league is not None and (learning := self.league.learning) is not None:
            scalars["self_play/learning_team"] = float(learning[1])
        if self._goal is not None and (mean := self._goal.means[self._goal.window_samples]) is not None:
            scalars[f"goal/{self._goal.metric}"] = mean
        if len(self._config.env.behavior_names) == 1 and len(metrics) <= 1:
            return {**scalars, **next(iter(metrics.values()), {})}
        for name, own in metrics.items():
            scalars |= {f"{name}/{key}": value for key, value in own.items()}
        for name, episodes in self._by_behavior.items():
            scalars |= {f"{name}/{key}": value for key, value in episodes.scalars().items()}
        return scalars
