"""The results of an evaluation in a run's folder: figures of each episode, their means, and videos.

```
evaluation/deterministic/                    or sampled/: TensorBoard's events, a point for each evaluation
evaluation/deterministic/<checkpoint>/       results.json, and episode-1.mp4, ... with video=true
```
"""

from __future__ import annotations

import json
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
    """A metric over several episodes."""

    mean: float
    min: float
    max: float


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
    content = {**asdict(evaluation), "figures": figures}
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
            del content["figures"]  # they follow from the episodes
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


def _figures(episodes: Sequence[PlayedEpisode]) -> dict[str, Figure]:
    values = {"reward": [each.reward for each in episodes], "length": [float(each.length) for each in episodes]}
    for name in sorted({name for each in episodes for name in each.metrics}):
        values[name] = [each.metrics[name] for each in episodes if name in each.metrics]
    return {name: Figure(float(np.mean(each)), min(each), max(each)) for name, each in values.items()}
