"""The results of an evaluation in a run's folder: figures of each episode, their means, and videos.

```
evaluation/deterministic/                    or sampled/: TensorBoard's events, a point for each evaluation
evaluation/deterministic/<checkpoint>/       results.json, and episode-1.mp4, ... with video=true
```
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.process.whole_files import flush, write_flushed
from trainer.data_files import read_json

RESULTS = "results.json"


@dataclass(frozen=True)
class PlayedEpisode:
    """One episode that was played."""

    behavior: str
    reward: float
    length: int
    metrics: dict[str, float]
    """The numbers that its environment reported at its end."""
    video: str | None = None
    """The name of its file, beside `results.json`."""


class Figure(NamedTuple):
    """A metric over several episodes. Of a single one there is no deviation and no interval."""

    mean: float
    min: float
    max: float
    deviation: float | None
    """The standard deviation from episode to episode."""
    low: float | None
    """The lower end of the 95 % interval of the mean, as of `mean_interval`."""
    high: float | None
    """Its upper end."""


class Wins(NamedTuple):
    """How many episodes were won, of those that report whether they were."""

    won: int
    episodes: int
    low: float
    """The lower end of the 95 % interval of the share that is won, as of `share_interval`."""
    high: float
    """Its upper end."""


@dataclass(frozen=True)
class Evaluation:
    """What `results.json` holds."""

    checkpoint: str
    """The name of its folder."""
    samples: int
    """How many samples it had learned from."""
    deterministic: bool
    """Whether the likeliest actions were taken, or actions were drawn."""
    seed: int
    played_at: str
    """ISO 8601, with the zone."""
    env: dict[str, Any]
    """The configuration of the environment that was played."""
    episodes: list[PlayedEpisode]

    @property
    def figures(self) -> dict[str, dict[str, Figure]]:
        """By behavior and name: `reward`, `length`, and what its episodes end with."""
        behaviors = sorted({each.behavior for each in self.episodes})
        return {name: _figures([each for each in self.episodes if each.behavior == name]) for name in behaviors}

    @property
    def wins(self) -> dict[str, Wins]:
        """By behavior: how many episodes were won; none of behaviors whose episodes report no success."""
        found: dict[str, list[bool]] = {}
        for each in self.episodes:
            if (is_won := won(each.metrics)) is not None:
                found.setdefault(each.behavior, []).append(is_won)
        return {name: Wins(sum(each), len(each), *share_interval(sum(each), len(each))) for name, each in found.items()}


def place_of(run: Path, deterministic: bool) -> Path:
    """Returns the folder of a run's evaluations, by how actions were chosen."""
    return run / "evaluation" / ("deterministic" if deterministic else "sampled")


def save_evaluation(evaluation: Evaluation, run: Path, videos: Mapping[str, Path]) -> Path:
    """Writes an evaluation in place of an earlier one of the same checkpoint; returns its folder.

    Args:
        evaluation: with the names of its videos.
        run: the run's folder.
        videos: by name, the files that are moved there.
    """
    folder = place_of(run, evaluation.deterministic) / evaluation.checkpoint
    aside = folder.with_name(f".aside-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, file in videos.items():
        file.replace(aside / name)
        flush(aside / name)
    by_behavior = evaluation.figures.items()
    figures = {behavior: {name: each._asdict() for name, each in found.items()} for behavior, found in by_behavior}
    wins = {behavior: each._asdict() for behavior, each in evaluation.wins.items()}
    content = {**asdict(evaluation), "figures": figures, "wins": wins}
    write_flushed(aside / RESULTS, f"{json.dumps(content, indent=2)}\n".encode())
    flush(aside)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)
    flush(folder.parent)
    return folder


def load_evaluations(run: Path) -> list[tuple[Path, Evaluation]]:
    """Returns a run's evaluations and their folders, the newest first; those that cannot be read are skipped."""
    found = []
    for file in run.glob(f"evaluation/*/[!.]*/{RESULTS}"):
        try:
            content = read_json(file)
            del content["figures"]  # they follow from the episodes, as do wins
            content.pop("wins", None)
            content["episodes"] = [PlayedEpisode(**each) for each in content["episodes"]]
            evaluation = Evaluation(**content)
            _check_types(evaluation)
            found.append((file.parent, evaluation))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
            continue
    return sorted(found, key=lambda each: each[1].played_at, reverse=True)


def _check_types(evaluation: Evaluation) -> None:
    """Raises an error of data if an evaluation that was read does not hold what it should."""
    texts = [evaluation.checkpoint, evaluation.played_at]
    numbers: list[float] = [evaluation.samples, evaluation.seed]
    for each in evaluation.episodes:
        texts += [each.behavior, each.video or "", *each.metrics]
        numbers += [each.reward, each.length, *each.metrics.values()]
    if not all(isinstance(text, str) for text in texts) or not isinstance(evaluation.env, dict):
        raise TypeError("a number stands where a name should")
    if any(isinstance(number, bool) or not isinstance(number, (int, float)) for number in numbers):
        raise TypeError("something else stands where a number should")
    for number in numbers:
        float(number)  # OverflowError if it has too many digits


def scalars(evaluation: Evaluation, named: bool) -> dict[str, float]:
    """Returns the figures as metrics, their means by the names of a run's own; with behaviors if `named`."""
    points: dict[str, float] = {}
    for behavior, each in evaluation.figures.items():
        for name, figure in each.items():
            key = f"{behavior}/episode/{name}" if named else f"episode/{name}"
            points |= {key: figure.mean, f"{key}_min": figure.min, f"{key}_max": figure.max}
    return points


def won(metrics: Mapping[str, float]) -> bool | None:
    """Returns whether an episode was won, by what its environment reported at its end; None if it does not say."""
    return next((metrics[name] >= 0.5 for name in _SUCCESS if name in metrics), None)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns the 95 % interval of the mean of two values or more, by Student's distribution.

    Another seed's episodes would have a mean within it 19 times of 20, if single values are not too unlike each other.
    """
    freedom = len(values) - 1
    # Beyond the table an expansion in 1 / freedom is right to three digits.
    quantile = _STUDENT[freedom - 1] if freedom <= len(_STUDENT) else 1.96 + 2.372 / freedom + 2.822 / freedom**2
    mean, margin = float(np.mean(values)), quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean - margin, mean + margin


def share_interval(hits: float, of: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of a share (doi 10.1080/01621459.1927.10502953), which holds near 0 and 1 too."""
    share, z = hits / of, 1.96
    middle = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    margin = z / (1 + z**2 / of) * math.sqrt(share * (1 - share) / of + (z / (2 * of)) ** 2)
    return max(0.0, middle - margin), min(1.0, middle + margin)


def _figures(episodes: Sequence[PlayedEpisode]) -> dict[str, Figure]:
    values = {"reward": [each.reward for each in episodes], "length": [float(each.length) for each in episodes]}
    for name in sorted({name for each in episodes for name in each.metrics}):
        values[name] = [each.metrics[name] for each in episodes if name in each.metrics]
    return {name: _figure(each) for name, each in values.items()}


def _figure(values: Sequence[float]) -> Figure:
    deviation, low, high = None, None, None
    if len(values) > 1:
        deviation = float(np.std(values, ddof=1))
        low, high = mean_interval(values)
    return Figure(float(np.mean(values)), min(values), max(values), deviation, low, high)


_SUCCESS = ("is_success", "success", "won", "battle_won", "solved")
"""What environments call it: Gymnasium-Robotics and Stable-Baselines3, Meta-World and ManiSkill, games, SMAC, ours."""
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Quantiles at 97.5 % of Student's distribution with 1, 2, ... degrees of freedom."""
