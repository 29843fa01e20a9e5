"""Sends a run's metrics to Weights & Biases: `pip install outstep[wandb]`, then `run.loggers=[tensorboard,wandb]`.

W&B's own environment variables say where to: WANDB_PROJECT (outstep), WANDB_ENTITY, WANDB_MODE=offline, and so on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from envs.process.whole_files import write_whole
from envs.spec import UserError
from trainer.telemetry.writers import MetricWriter, identity


class Wandb(MetricWriter):
    """Logs to one run of W&B, which a resumed run goes on with. Sending is done by W&B's own process.

    Its charts are by samples. Points that a resume has undone stay in W&B, beside those that are made again.
    """

    @classmethod
    def check(cls) -> None:
        """Refuses a run that would have to ask for a key in the middle of a start."""
        offline = os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun")
        if not (offline or wandb.api.api_key):
            raise UserError(
                "run.loggers: wandb has no key: call wandb login once, set WANDB_API_KEY, or set WANDB_MODE=offline"
            )

    def __init__(self, folder: Path, samples: int = 0) -> None:
        """Begins a run of W&B, or goes on with that of the run's folder."""
        known = identity(folder, "wandb")
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "outstep"),
            name=f"{folder.parent.name}/{folder.name}",
            dir=str(folder),
            id=known,
            resume="allow",
            settings=wandb.Settings(silent=True, console="off"),
        )
        if known is None:
            write_whole(folder / "wandb.id", self._run.id.encode())
        self._run.define_metric("samples", hidden=True)
        self._run.define_metric("*", step_metric="samples")

    def settings(self, samples: int, config: Mapping[str, Any], overridden: Mapping[str, str]) -> None:
        """Sends the configuration, and what was overridden under `overridden`."""
        self._run.config.update({**config, "overridden": dict(overridden)}, allow_val_change=True)

    def values(self, samples: int, seconds: float, values: Mapping[str, float]) -> None:
        """Sends the figures."""
        self._run.log({**values, "samples": samples, "seconds": seconds})

    def histograms(self, samples: int, histograms: Mapping[str, Sequence[float]]) -> None:
        """Sends histograms."""
        made = {name: wandb.Histogram(list(values)) for name, values in histograms.items()}
        self._run.log({**made, "samples": samples})

    def picture(self, samples: int, name: str, file: Path) -> None:
        """Sends a moving picture."""
        self._run.log({name: wandb.Video(str(file), format="gif"), "samples": samples})

    def close(self) -> None:
        """Waits until everything was sent."""
        self._run.finish()
