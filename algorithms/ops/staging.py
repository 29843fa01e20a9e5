"""Arrays on their way to the device: side by side in one block, so that one copy takes them all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.spec import Array


class Part(NamedTuple):
    """An array to be moved: all of it, or what is at (M,) `places` along its first axis."""

    array: Array
    places: Array | None = None
    dtype: Any = None
    """What its numbers become; None = what they are. Not with `places`."""


class Staging:
    """Moves arrays into tensors that stay where they are: each move overwrites the last.

    On a GPU two blocks of pinned memory take turns, so that one is filled while the other may still be read: nobody
    waits for a device that is less than two moves behind. Elsewhere the tensors lie in the block that is filled.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._forms: list[_Form] = []

    def move(self, parts: Sequence[Part]) -> list[Tensor]:
        """Tensors of `parts`: the same ones at every call, as long as shapes are."""
        forms = [_form(part) for part in parts]
        if forms != self._forms:
            self._lay_out(forms)
        memory, views, read = self._blocks[0]
        if read is not None:
            read.synchronize()
        for view, part in zip(views, parts):
            if not view.size:
                continue
            if part.places is None:
                np.copyto(view, part.array)
            else:
                part.array.take(part.places, axis=0, out=view, mode="clip")
        if read is not None:
            self._moved.copy_(memory, non_blocking=True)
            read.record()
            self._blocks.reverse()
        return self._tensors

    def _lay_out(self, forms: list[_Form]) -> None:
        self._forms = forms
        ends = np.cumsum([-(-form.bytes // ALIGNMENT) * ALIGNMENT for form in forms])
        size, starts = int(ends[-1]), [0, *ends[:-1].tolist()]
        on_gpu = self._device.type == "cuda"
        self._blocks = []
        for _ in range(2 if on_gpu else 1):
            memory = torch.empty(size, dtype=torch.uint8, pin_memory=on_gpu)
            views = [memory.numpy()[i : i + f.bytes].view(f.dtype).reshape(f.shape) for i, f in zip(starts, forms)]
            read = torch.cuda.Event() if on_gpu else None  # type: ignore[no-untyped-call]
            self._blocks.append((memory, views, read))
        self._moved = torch.empty(size, dtype=torch.uint8, device=self._device) if on_gpu else memory
        self._tensors = [
            self._moved[start : start + form.bytes].view(torch.from_numpy(view).dtype).view(form.shape)
            for start, form, view in zip(starts, forms, views)
        ]


class _Form(NamedTuple):
    shape: tuple[int, ...]
    dtype: Any

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * int(self.dtype.itemsize)


def _form(part: Part) -> _Form:
    array, places, dtype = part
    shape = array.shape if places is None else (len(places), *array.shape[1:])
    return _Form(shape, array.dtype if dtype is None else np.dtype(dtype))


ALIGNMENT = 64
"""Bytes: that of a cache line, and more than any number needs."""
