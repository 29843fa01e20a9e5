"""What a run records of itself: episode statistics, TensorBoard, and `summary.json`."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

EPISODES = 100
"""Episodes that means look back."""


class EpisodeStatistics:
    """Means over the last `EPISODES` episodes, of reward, length, and what environments report in `info`."""

    def __init__(self) -> None:
        self.episodes = 0
        """Episodes in all."""
        self._values: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=EPISODES))

    def add(self, reward: float, length: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Takes in an episode: its summed reward, its length in samples, and the numbers that its environment reported.

        Returns:
            All of them under one roof, as a goal may name them: `metrics`, `reward` and `length`.
        """
        values = {**metrics, "reward": reward, "length": float(length)}
        self.episodes += 1
        for name, value in values.items():
            self._values[name].append(float(value))
        return values

    def mean(self, name: str) -> float | None:
        """Mean of a metric; None before any episode had it."""
        values = self._values.get(name)
        return sum(values) / len(values) if values else None

    @property
    def full(self) -> bool:
        """Whether `EPISODES` episodes have ended: until then, means come by luck."""
        return self.episodes >= EPISODES

    def scalars(self) -> dict[str, float]:
        """The means by TensorBoard's names: `episode/reward`, `episode/length`, `episode/<metric>`."""
        return {f"episode/{name}": sum(values) / len(values) for name, values in self._values.items()}

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to go on, as JSON."""
        return {"episodes": self.episodes, "values": {name: list(values) for name, values in self._values.items()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state`."""
        self.episodes = state["episodes"]
        for name, values in state["values"].items():
            self._values[name] = deque(values, maxlen=EPISODES)


class GameStatistics:
    """What games have sent since it was last taken: values by key, each with how it wants to be summed up."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = defaultdict(list)
        self._kinds: dict[str, str] = {}

    @property
    def keys(self) -> Set[str]:
        """All keys that have come so far."""
        return self._kinds.keys()

    def add(self, key: str, value: float, aggregation: str) -> None:
        """Takes in a value; `aggregation` is `average`, `most_recent`, `sum` or `histogram`."""
        self._values[key].append(value)
        self._kinds[key] = aggregation

    def take(self) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Scalars and histograms by TensorBoard's names, `game/<key>`; begins anew."""
        taken, self._values = self._values, defaultdict(list)
        scalars, histograms = {}, {}
        for key, values in taken.items():
            if self._kinds[key] == "histogram":
                histograms[f"game/{key}"] = values
            elif self._kinds[key] == "sum":
                scalars[f"game/{key}"] = sum(values)
            elif self._kinds[key] == "most_recent":
                scalars[f"game/{key}"] = values[-1]
            else:
                scalars[f"game/{key}"] = sum(values) / len(values)
        return scalars, histograms


class TensorBoard:
    """Writes a run's events. All points stand at their number of samples."""

    def __init__(self, folder: Path, samples: int = 0) -> None:
        """Points beyond `samples`, left by a part of the run that a resume has undone, are hidden.

        Raises:
            OSError: the disk is full. It also comes of every other call, and then nothing more can be written.
        """
        from torch.utils.tensorboard import SummaryWriter

        # A full disk is met here: the writer meets it in a thread, which leaves a traceback and an empty file behind.
        folder.mkdir(parents=True, exist_ok=True)
        _write_aside(folder / "events.tmp", bytes(_ROOM))
        (folder / "events.tmp").unlink()
        self._writer: Any = SummaryWriter(str(folder), purge_step=samples or None)

    def scalars(self, samples: int, values: Mapping[str, float]) -> None:
        """One point for each of `values`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, samples)

    def histograms(self, samples: int, values: Mapping[str, Sequence[float]]) -> None:
        """One histogram for each of `values`."""
        for name, each in values.items():
            with contextlib.suppress(ValueError):  # all of them lie beyond its bins
                self._writer.add_histogram(name, np.array(each), samples)

    def picture(self, samples: int, name: str, file: Path) -> None:
        """A moving picture, from a GIF file."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        # add_video needs moviepy, and without it prints a line and writes nothing.
        with Image.open(file) as gif:
            width, height = gif.size
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=file.read_bytes())
        self._writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), samples)

    def flush(self) -> None:
        """Makes what was written visible."""
        self._writer.flush()

    def close(self) -> None:
        """Writes what is left and ends."""
        self._writer.close()


@dataclass
class Summary:
    """What `summary.json` holds."""

    samples: int
    """Samples in all, earlier parts of a resumed run included; so with all that follows."""
    seconds: float
    """Seconds of training, the start of workers included."""
    samples_per_second: float
    env_utilization: float | None
    """Samples over what the instances could have delivered: an estimate from their busy times."""
    episodes: int
    episode_reward_mean: float | None
    """Of the last 100 episodes."""
    stopped_by: str
    """`goal`, `samples`, `seconds`, `reward`, `interrupted` or `error`."""
    goal_samples: int | None = None
    """When the goal was reached over its window; null = never, or no goal."""
    goal_seconds: float | None = None
    goal_windows: dict[str, dict[str, float] | None] = field(default_factory=dict)
    """For each window of samples, when the goal was first reached over it: `samples` and `seconds`."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further figures, by name; they stand beside the others."""

    def write(self, folder: Path) -> None:
        """Writes `summary.json` into the run's folder; a reader never sees half of it."""
        values = asdict(self)
        values |= values.pop("extra")
        aside = folder / "summary.json.tmp"
        _write_aside(aside, f"{json.dumps(values, indent=2)}\n".encode())
        aside.replace(folder / "summary.json")


_ROOM = 2**16
"""Bytes without which it is not worth while to begin a file of events: some minutes' points."""


def _write_aside(file: Path, data: bytes) -> None:
    """Writes a file, or leaves none if the disk refuses."""
    try:
        file.write_bytes(data)
    except OSError:
        file.unlink(missing_ok=True)
        raise
