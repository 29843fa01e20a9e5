"""The device on which updates run. Imports torch only when it is used, because that takes seconds."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trainer.config.schema import Device

if TYPE_CHECKING:
    import torch

_log = logging.getLogger("outstep")


def gpu_trouble() -> str | None:
    """Returns why torch cannot compute on a GPU here, as the end of a sentence about it; None if it can."""
    import torch

    if not torch.cuda.is_available():
        return "finds no GPU"
    try:
        torch.zeros(1, device="cuda").add_(1).cpu()
    except RuntimeError as error:  # no code for so old or new a card, or its memory is full
        return f"cannot compute on the GPU that it finds: {str(error).strip().splitlines()[0]}"
    return None


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Lets torch compute in one thread within the context: several would get in the way of what steps the games."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def learning_device(device: Device, learners: int = 1) -> torch.device:
    """Returns the device of a run that is checked: with `auto` a GPU if torch can compute on one, for one learner."""
    import torch

    if learners > 1:
        return torch.device("cpu")
    if device is not Device["auto"]:
        return torch.device(device.name)
    trouble = gpu_trouble()
    if trouble is not None and torch.cuda.is_available():
        _log.warning(f"Updates run on the CPU: torch {torch.__version__} {trouble}.")
    return torch.device("cuda" if trouble is None else "cpu")
