"""Observations of a spec as those of a Gymnasium space: what `envs.gym.observations` has made of them, undone.

Shapes: T observations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from envs.gym.observations import Space
from envs.spec import Array, channels_first


def restored(space: Space, rows: Sequence[Array]) -> Any:
    """Returns T observations of `space`: an array (T, ...), or dicts and tuples of such.

    Args:
        space: one that `observation_parts` takes.
        rows: for each of its parts (T, *shape).
    """
    return _restored(space, iter(rows), len(rows[0]))


def stacked(space: Space, values: Sequence[Any]) -> Any:
    """Returns values of a space, one after another, in the form of `restored`."""
    if isinstance(space, spaces.Dict):
        return {key: stacked(sub, [value[key] for value in values]) for key, sub in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(stacked(sub, [value[i] for value in values]) for i, sub in enumerate(space.spaces))
    return np.stack(values)


def _restored(space: Space, rows: Iterator[Array], count: int) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _restored(sub, rows, count) for key, sub in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_restored(sub, rows, count) for sub in space.spaces)
    shape = space.shape or ()
    if 0 in shape:  # holds nothing, and is no part
        return np.zeros((count, *shape), space.dtype)
    values = next(rows)
    if isinstance(space, spaces.Discrete):
        return values.argmax(1) + space.start
    if isinstance(space, spaces.MultiDiscrete):
        ends = np.cumsum(space.nvec.ravel().astype(np.int64))[:-1]
        choices = np.stack([group.argmax(1) for group in np.split(values, ends, axis=1)], axis=1)
        return (choices.reshape(count, *shape) + space.start).astype(space.dtype)
    if len(shape) == 4 and not channels_first(shape[1:]):  # frames whose channels have become those of one image
        frames, first, middle, last = shape
        values = np.moveaxis(values.reshape(count, first, middle, frames, last), 3, 1)
    return values.reshape(count, *shape).astype(space.dtype)
