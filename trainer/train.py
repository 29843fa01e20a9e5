"""How a training run begins, in the order that loses the least time.

torch takes a second or more to import in each process that needs it, so nothing here does at the top: the collector's
process starts first, and instances start while it and this one import torch.
"""

from __future__ import annotations

from contextlib import ExitStack, closing, nullcontext, suppress
from pathlib import Path

from trainer.checkpoint import Checkpoint, CheckpointStore
from trainer.collecting import Collecting, Inline
from trainer.config import Mode, TrainConfig
from trainer.expected import expected_memory
from trainer.interrupt import Interrupt, Interrupted
from trainer.remote import Remote
from trainer.shared import SAMPLES, Shared


def train(config: TrainConfig, folder: Path, resume_from: Path | None = None) -> int:
    """Trains until something ends the run. Returns the exit status: 0, or 128 + the signal that interrupted it.

    Args:
        config: composed and checked.
        folder: the run's; it exists and holds `config.yaml`.
        resume_from: the folder of the run that goes on (the same as `folder`), or None for a new run.

    Raises:
        UserError: something that the user can mend came up on the way; what was learned is saved.
    """
    store = CheckpointStore(folder / "checkpoints", config.checkpoint.keep)
    checkpoint = store.load_latest() if resume_from else None
    inline = config.run.mode is Mode["inline"]
    with Interrupt() as interrupt, suppress(Interrupted), ExitStack() as ends:
        shared = _share(config, checkpoint)

        def collect() -> Collecting:
            # Inline, it waits for games to start. A process that is being started must not be lost sight of.
            with interrupt.breakable() if inline else nullcontext():
                resume = checkpoint.state["collector"] if checkpoint else None
                collecting = (Inline if inline else Remote)(config, folder, shared, resume)
            return ends.enter_context(closing(collecting))

        # What is resumed is restored before anything may add to it.
        early = None if inline or checkpoint else collect()
        from trainer.run import Run

        with Run(config, folder, store, checkpoint, interrupt, shared) as run:
            run.go(early or collect())
    return 0 if interrupt.signal is None else 128 + interrupt.signal


def _share(config: TrainConfig, checkpoint: Checkpoint | None) -> Shared:
    shared = Shared(*expected_memory(config), instances=config.env.instances)
    for name, saved in checkpoint.state["behaviors"].items() if checkpoint else ():
        shared.claim(name)
        shared.counters(name)[SAMPLES] = saved["samples"]
    return shared
