"""Metric writers: where a run's figures go, besides `metrics.jsonl`, `train.log` and `summary.json`.

`run.loggers=[tensorboard,my_writers:Csv]` chooses them by name or import path. A new built-in one is a file of its own
and a line in `WRITERS`.
"""

from __future__ import annotations

import importlib.util
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from envs.imports import Registry
from envs.spec import UserError

_log = logging.getLogger("outstep")


class MetricWriter(ABC):
    """Writes a run's figures. Only `values` has to be written; the rest does nothing unless a writer overrides it.

    It is made as `Class(folder, samples)`: the run's folder, and the samples at which its figures begin. A resumed run
    makes a new one: what an earlier one has written beyond `samples` was undone by the resume. Methods are called
    between updates, so slow work belongs in a thread. Errors are reported and never end the run: after an OSError (a
    full disk, a lost network) a new writer is made for what comes next, after any other error the writer is left off.
    """

    @classmethod  # noqa: B027
    def check(cls) -> None:
        """Raises UserError before a run starts if the writer could not work: without a key, a server, a library."""

    def __init__(self, folder: Path, samples: int) -> None:  # noqa: B027
        """Opens what is written to."""

    @abstractmethod
    def values(self, samples: int, seconds: float, values: Mapping[str, float]) -> None:
        """Writes figures by name, such as `episode/reward`, once a logging interval.

        Args:
            samples: of the run so far.
            seconds: of training so far, earlier parts of a resumed run included.
            values: the figures.
        """

    def histograms(self, samples: int, histograms: Mapping[str, Sequence[float]]) -> None:  # noqa: B027
        """Writes the values whose distribution a game has asked to be shown, by name."""

    def picture(self, samples: int, name: str, file: Path) -> None:  # noqa: B027
        """Writes a moving picture, which lies in a GIF file."""

    def settings(self, samples: int, config: Mapping[str, Any], overridden: Mapping[str, str]) -> None:  # noqa: B027
        """Writes with what a run, or its resumed part, begins.

        Args:
            samples: at which it begins.
            config: its configuration, nested as in `config.yaml`.
            overridden: by dotted key, what was given in place of defaults, the choices `env` and `algorithm` among it.
        """

    def close(self) -> None:  # noqa: B027
        """Writes what is left, at the end of the run."""


WRITERS: Registry[type[MetricWriter]] = Registry(
    "metric writer",
    "outstep.writers",
    {
        "tensorboard": "trainer.telemetry.tensorboard:TensorBoard",
        "csv": "trainer.telemetry.csv_file:CsvFile",
        "wandb": "trainer.telemetry.wandb_writer:Wandb",
        "mlflow": "trainer.telemetry.mlflow_writer:Mlflow",
    },
)
_LIBRARIES = ("wandb", "mlflow")
"""Writers that bear the name of the library, and of the extra, that they need."""


def identity(folder: Path, service: str) -> str | None:
    """Returns by what a service knows the run in `folder`, from its `<service>.id`; None if it does not yet."""
    file = folder / f"{service}.id"
    return file.read_text(encoding="utf-8").strip() if file.exists() else None


class Writers:
    """All metric writers of a run, opened by the first write."""

    def __init__(self, classes: Mapping[str, type[MetricWriter]], folder: Path) -> None:
        """Args: the writers' classes by the names that messages call them; the run's folder."""
        self._folder = folder
        self._classes = dict(classes)
        self._open: dict[str, MetricWriter] = {}
        self._failing: set[str] = set()

    def write(self, samples: int, write: Callable[[MetricWriter], None]) -> None:
        """Calls `write` with each writer. A failure is reported once, and so is the end of it."""
        for name, make in list(self._classes.items()):
            try:
                if name not in self._open:
                    self._open[name] = make(self._folder, samples)
                write(self._open[name])
            except OSError as error:
                self._open.pop(name, None)  # not closed: that may wait for ever where nothing can be written
                if name not in self._failing:
                    _log.warning(f"The metric writer {name} cannot write: {error}. Later figures are tried again.")
                self._failing.add(name)
            except (Exception, SystemExit) as error:
                del self._classes[name]
                self._open.pop(name, None)
                what = f"{type(error).__name__}: {error}"
                _log.warning(f"The metric writer {name} failed ({what}). It is left off for the rest of the run.")
            else:
                if name in self._failing:
                    self._failing.remove(name)
                    _log.info(f"The metric writer {name} writes again, from {samples:,} samples on.")

    def close(self) -> None:
        """Closes all that are open."""
        for writer in self._open.values():
            with suppress(Exception, SystemExit):  # as a disk that is full refuses what was written last
                writer.close()


def find_writers(names: Sequence[str]) -> dict[str, type[MetricWriter]]:
    """Returns writers' classes by the names in `run.loggers`.

    Raises:
        UserError: one is unknown, given twice, no writer, or could not work.
    """
    found: dict[str, type[MetricWriter]] = {}
    for name in names:
        if name in found:
            raise UserError(f"run.loggers=[{', '.join(names)}] names {name} twice: name each metric writer once")
        if name in _LIBRARIES and importlib.util.find_spec(name) is None:
            raise UserError(f"run.loggers: {name} is not installed: pip install 'outstep[{name}]'")
        writer = WRITERS.find(name, "run.loggers")
        if not (isinstance(writer, type) and issubclass(writer, MetricWriter)):
            raise UserError(
                f"run.loggers: {name} is not a subclass of trainer.telemetry.writers.MetricWriter: derive it"
            )
        if missing := sorted(writer.__abstractmethods__):
            raise UserError(f"run.loggers: {name} lacks {', '.join(missing)}: every metric writer needs it")
        writer.check()
        found[name] = writer
    return found
