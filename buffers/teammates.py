"""The teammates of the rows of a rollout: what they saw and did, each once, and which rows they belong to.

Shapes: N rows and S segments of a rollout, U rows of teammates, G teammates at most of any row, C continuous actions, D
discrete branches, A mask entries, R numbers of the recurrent state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from buffers.rows import Rows, observation_names
from envs.spec import Array


class Named(NamedTuple):
    """The teammates that some rows name."""

    places: Array
    """(N, G) int64, in the table of all teammates; 0 where there is none."""
    present: Array
    """(N, G) bool, whether there is one."""
    stale: Array
    """(N, G) bool: it had decided before, and was still at that."""


@dataclass
class Teammates:
    """Those of a rollout."""

    observations: tuple[Array, ...]
    """For each observation (U, *shape)."""
    mask: Array
    """(U, A) bool."""
    continuous: Array
    """(U, C) float32."""
    discrete: Array
    """(U, D) int32."""
    recurrent_state: Array
    """(U, R) float32, before their steps."""
    of_rows: Named
    """Those of the N rows, at the same decision."""
    of_bootstrap: Named
    """Those of what follows the S segments."""
    gone: Array
    """(S,) bool: the agent has left, and its teammates go on without it."""


def find_teammates(rows: Rows, numbers: Array, bootstrap: Array) -> Teammates:
    """Returns the teammates of the rows `numbers` (N,), and of those that follow the segments, `bootstrap` (S,).

    One whose row is overwritten, or was not saved, counts as absent.
    """
    (of_rows,) = rows.gather(numbers, ("mates",))
    of_bootstrap, final, terminated = rows.gather(bootstrap, ("mates", "final", "terminated"))
    named = np.concatenate([of_rows, of_bootstrap])
    wanted = np.abs(named)
    most = int(np.count_nonzero(wanted, axis=1).max(initial=0))
    wanted, stale = wanted[:, :most], named[:, :most] < 0
    table, places = np.unique(wanted, return_inverse=True)
    places = places.reshape(wanted.shape).astype(np.int64)
    if not len(table):
        table = np.zeros(1, np.int64)  # the absorbing row
    names = (*observation_names(rows.layout.spec), "mask", "continuous", "discrete", "number")
    *observations, mask, continuous, discrete, found = rows.gather(table, names)
    state = rows.gather(table, ("memory",))[0] if rows.layout.state_size else np.zeros((len(table), 0), np.float32)
    there = (found == table) & (table > rows.overwritten) & (table > 0)
    present = there[places] if most else wanted > 0
    split = len(numbers)
    here, behind = (Named(places[part], present[part], stale[part]) for part in (slice(split), slice(split, None)))
    return Teammates(tuple(observations), mask, continuous, discrete, state, here, behind, final & terminated)
