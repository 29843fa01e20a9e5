"""Sequences of Gymnasium as sets of entities, padded with zeros.

Shapes: n entities that are there, K at most, D numbers each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from envs.gym.values import WrongValue, shortened
from envs.spec import Array, ObservationSpec, UserError


def entities_spec(space: spaces.Sequence, name: str, where: str, most: int | None) -> ObservationSpec:
    """Returns the spec of a `Sequence(Box)` of at most `most` entities.

    Raises UserError if `most` is None, or its elements are no Box.
    """
    kind = space.feature_space
    if not isinstance(kind, spaces.Box) or not kind.shape or 0 in kind.shape:
        raise UserError(
            f"The {where} is {shortened(space)}: of sequences, those of a Box with at least one axis are served, such "
            "as Sequence(Box(-1, 1, (5,))); convert it by a wrapper (env.wrappers)."
        )
    if most is None:
        raise UserError(
            f"The {where} is {shortened(space)}, which may be of any length: say how many entities there can be at "
            "most by env.max_entities, such as env.max_entities=20. Sequences are padded to that with zeros."
        )
    return ObservationSpec(name, (most, math.prod(kind.shape)), "float32", entities=True)


def entities_writer(space: spaces.Sequence, spec: ObservationSpec) -> Callable[[Any, Array], None]:
    """Returns what puts a value of `space` into a row (K, D): the entities, and zeros behind them.

    It raises WrongValue for more than K entities, for what is not of the space's shape, and for what is not finite.
    """
    shape, (most, _), name = space.feature_space.shape, spec.shape, spec.name

    def write(value: Any, row: Array) -> None:
        try:
            entities = np.asarray(value)
        except ValueError as error:  # entities of several sizes
            raise WrongValue(f"observation {name!r} is no array: {error}; its space is {space}") from None
        count = len(entities) if entities.ndim else -1
        if count and (entities.shape[1:] != shape or entities.dtype.kind not in "biuf"):
            raise WrongValue(f"observation {name!r} is {shortened(value)}, outside of its space {shortened(space)}")
        if count > most:
            raise WrongValue(
                f"observation {name!r} holds {count} entities, more than env.max_entities={most}: raise that, or let "
                "the environment leave some out, such as those that are far away"
            )
        row[count:] = 0
        row[:count] = entities.reshape(count, -1) if count else 0
        if not np.isfinite(row).all():
            raise WrongValue(
                f"observation {name!r} holds {row[~np.isfinite(row)][0]}, where only finite numbers that fit into "
                "float32 can be learned from"
            )

    return write


def are_many(space: spaces.Sequence, value: Any) -> bool:
    """Returns whether a value is several sequences of `space`, and not one."""
    first: Any = value[0] if len(value) else ()
    return len(value) > 0 and np.ndim(first[0] if len(first) else ()) == len(space.feature_space.shape or ())
