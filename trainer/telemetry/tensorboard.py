"""Writes a run's figures as TensorBoard's events, beside the run's other files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from envs.process.whole_files import write_whole
from trainer.telemetry.writers import MetricWriter

_ROOM = 2**16
"""Bytes without which it is not useful to begin a file of events: the points of some minutes."""


class TensorBoard(MetricWriter):
    """Writes events, each at its number of samples."""

    def __init__(self, folder: Path, samples: int | None = None) -> None:
        """Hides points beyond `samples`, if given: an earlier part of the run has left them, or one that was killed.

        Raises OSError if the disk is full. Every other method may raise it too: then nothing more can be written.
        """
        from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

        # A full disk is met here: the writer meets it in a thread, which leaves a traceback and an empty file behind.
        write_whole(folder / "events.tmp", bytes(_ROOM))
        (folder / "events.tmp").unlink()
        # The last point of the part before stands at `samples`, and stays.
        self._writer: Any = SummaryWriter(str(utf8_path(folder)), purge_step=None if samples is None else samples + 1)

    def values(self, samples: int, seconds: float, values: Mapping[str, float]) -> None:
        """Writes a scalar for each of `values`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, samples)
        self._writer.flush()

    def histograms(self, samples: int, histograms: Mapping[str, Sequence[float]]) -> None:
        """Writes a histogram for each of `histograms`."""
        for name, values in histograms.items():
            with suppress(ValueError):  # all of them lie beyond its bins
                self._writer.add_histogram(name, np.array(values), samples)
        self._writer.flush()

    def picture(self, samples: int, name: str, file: Path) -> None:
        """Writes a moving picture."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        # add_video needs moviepy, and without it prints a line and writes nothing.
        with Image.open(file) as gif:
            width, height = gif.size
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=file.read_bytes())
        self._writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), samples)

    def settings(self, samples: int, config: Mapping[str, Any], overridden: Mapping[str, str]) -> None:
        """Writes the configuration as text, and what was overridden for the page HPARAMS, once a run."""
        from torch.utils.tensorboard.summary import hparams

        as_yaml = yaml.safe_dump(dict(config), sort_keys=False)
        self._writer.add_text("config", "\n".join(f"    {line}" for line in as_yaml.splitlines()), samples)
        if not samples:
            for summary in hparams(dict(overridden), {"episode/reward": None}):  # type: ignore[no-untyped-call]
                self._writer.file_writer.add_summary(summary)
        self._writer.flush()

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()


def utf8_path(folder: Path) -> Path:
    """Returns a folder's path in UTF-8, as TensorBoard needs it: on Linux by a descriptor where its own is not."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        return Path(f"/proc/self/fd/{os.open(folder, os.O_RDONLY)}")
    return folder
