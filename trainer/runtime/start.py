"""Starts a training run, in the order that takes the least time.

torch takes a second or more to import in each process, so nothing is imported here that needs it: the collector's
process starts first, and instances start while both processes import torch.
"""

from __future__ import annotations

import itertools
import re
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from envs.spec import UserError
from trainer.checkpoint import Checkpoint, CheckpointStore
from trainer.config.saved import save_config
from trainer.config.schema import Mode, TrainConfig
from trainer.runtime.behaviors import known_behaviors
from trainer.runtime.collector_host import CollectorHandle, InlineCollector
from trainer.runtime.collector_process import CollectorProcess
from trainer.runtime.ipc import SAMPLES, Shared
from trainer.runtime.run_lock import run_lock
from trainer.runtime.signals import Interrupt, Interrupted


def start(config: TrainConfig) -> int:
    """Trains by a composed and checked configuration, in a new folder or a resumed run's; returns the exit status."""
    if config.resume is not None:
        folder = Path(config.resume)
    else:
        choices = config.run.choices
        name = config.run.name or choices.get("experiment") or f"{choices['env']}_{choices['algorithm']}"
        config = replace(config, run=replace(config.run, name=name))
        folder = _new_folder(config)
    with run_lock(folder):
        return train(config, folder)


def _new_folder(config: TrainConfig) -> Path:
    """Makes the run's folder, with its `config.yaml`; `=` and `:` are kept out of its name, for Hydra and Windows."""
    name = re.sub(r"[^\w.+-]", "-", config.run.name or "")
    folder = Path(config.run.dir or Path("runs") / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    try:
        if config.run.dir is None:
            numbered = (folder.with_name(f"{folder.name}_{count}") for count in itertools.count(2))
            folder = next(each for each in itertools.chain([folder], numbered) if not each.exists())
        folder.mkdir(parents=True, exist_ok=config.run.dir is not None)
        save_config(config, folder)
    except OSError as error:
        raise UserError(
            f"the run's folder {folder} cannot be written ({error.strerror}): name another, run.dir="
        ) from error
    return folder


def train(config: TrainConfig, folder: Path) -> int:
    """Trains until something ends the run. Returns the exit status: 0, or 128 + the signal that interrupted it.

    Args:
        config: composed and checked.
        folder: the run's folder; it exists and holds `config.yaml`.

    Raises:
        UserError: something failed that the user can mend; what was learned is saved.
    """
    store = CheckpointStore(folder / "checkpoints", config.checkpoint.keep)
    checkpoint = store.load_latest() if config.resume else None
    inline = config.run.mode is Mode["inline"]
    with Interrupt() as interrupt, suppress(Interrupted), ExitStack() as ends:
        shared = _share(config, checkpoint)

        def start_collector() -> CollectorHandle:
            # Inline, it waits for games to start. Starting a process must not be broken off: it would be left behind.
            with interrupt.breakable() if inline else nullcontext():
                resume = checkpoint.state["collector"] if checkpoint else None
                make = InlineCollector if inline else CollectorProcess
                collector = make(config, folder, shared, resume)
            return ends.enter_context(closing(collector))

        # A resumed run restores its rows first, before anything may be added to them.
        early = None if inline or checkpoint else start_collector()
        from trainer.runtime.run import Run
        from trainer.telemetry.run_logger import RunLogger

        logger = RunLogger(config, folder, shared.samples, checkpoint.state["report"] if checkpoint else None)
        with closing(logger):
            run = Run(config, store, checkpoint, interrupt, shared, logger)
            run.train(early or start_collector())
    return 0 if interrupt.signal is None else 128 + interrupt.signal


def _share(config: TrainConfig, checkpoint: Checkpoint | None) -> Shared:
    shared = Shared(*known_behaviors(config), instances=config.env.instances)
    for name, saved in checkpoint.state["behaviors"].items() if checkpoint else ():
        shared.claim(name)
        shared.counters(name)[SAMPLES] = saved["samples"]
    return shared
