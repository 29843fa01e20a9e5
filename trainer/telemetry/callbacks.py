"""The Python program that asked for a run: it is told how the run goes, and may stop it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainer.telemetry.statistics import Episode

LogCallback = Callable[[int, "Mapping[str, float]"], object]
"""Called once a logging interval with the samples so far and all metrics by name."""
EpisodeCallback = Callable[[str, Episode], object]
"""Called with the behavior's name and each of its episodes, once it has ended."""
CheckpointCallback = Callable[[Path], object]
"""Called with the folder of each checkpoint, once it is written: of the newest, and of the best."""


@dataclass
class Caller:
    """Calls the functions that a program has given, in the learner's process, between updates.

    One that returns True stops the run. What one raises ends it as an error does, saved; then it is raised again.
    """

    on_log: LogCallback | None = None
    on_episode: EpisodeCallback | None = None
    on_checkpoint: CheckpointCallback | None = None
    verbose: bool = True
    """Whether messages and progress are shown, besides `train.log`."""
    stops: bool = field(default=False, init=False)
    """Whether a function has asked the run to stop."""
    error: BaseException | None = field(default=None, init=False)
    """What a function has raised: then none is called any more."""

    def logged(self, samples: int, values: Mapping[str, float]) -> None:
        """Tells of a logging interval."""
        self._call(self.on_log, samples, values)

    def played(self, behavior: str, episode: Episode) -> None:
        """Tells of an episode that has ended."""
        self._call(self.on_episode, behavior, episode)

    def saved(self, checkpoint: Path) -> None:
        """Tells of a checkpoint."""
        self._call(self.on_checkpoint, checkpoint)

    def _call(self, function: Callable[..., Any] | None, *arguments: Any) -> None:
        if function is None or self.error is not None:
            return
        try:
            answer = function(*arguments)
        except BaseException as error:  # also sys.exit: the run is saved before it goes on its way
            self.error = error
            return
        if isinstance(answer, (bool, np.bool_)) and answer:
            self.stops = True
