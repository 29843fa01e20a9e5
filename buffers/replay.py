"""Uniform draws from the rows of a buffer, and n-step returns along their links.

Shapes: B rows of a batch, n steps of a walk.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from buffers.rows import Rows, observation_names
from envs.spec import Array


@dataclass
class Walk:
    """Walks of at most n steps along the links of B rows, each of one agent in one episode.

    A walk ends early where the episode terminated (`bootstrap` is 0, the number of the absorbing row), at a final row
    (truncated), or at a row that is not linked yet (bootstrap there; that row's reward is not used).
    """

    numbers: Array
    """(B, n) int64: the rows of each walk; behind its end, the number of its `bootstrap`."""
    valid: Array
    """(B, n) bool: which of them were steps. The first always is."""
    bootstrap: Array
    """(B,) int64: the row whose value stands for what comes after; 0 if terminated."""


class Walked(NamedTuple):
    """What agents saw and did at every step of walks; zeros, of the absorbing row, or whatever, where not valid."""

    observations: tuple[Array, ...]
    """For each observation (B, n, *shape)."""
    mask: Array
    """(B, n, A) bool."""
    continuous: Array
    """(B, n, C) float32."""
    discrete: Array
    """(B, n, D) int32."""


@dataclass
class Batch:
    """What an off-policy update needs of B rows. The arrays belong to the receiver."""

    numbers: Array
    """(B, n) int64, as in `Walk`."""
    valid: Array
    """(B, n) bool, as in `Walk`."""
    bootstrap: Array
    """(B,) int64, as in `Walk`."""
    observations: tuple[Array, ...]
    """For each observation (B, *shape)."""
    mask: Array
    """(B, A) bool."""
    continuous: Array
    """(B, C) float32."""
    discrete: Array
    """(B, D) int32."""
    rewards: Array
    """(B, n) float32: of each step, 0 where not valid."""
    bootstrap_discount: Array
    """(B,) float32: discount ** steps taken, or 0 if terminated."""
    end_discount: Array
    """(B,) float32: discount ** steps taken if terminated, else 0: weight of what the absorbing state is worth."""
    bootstrap_observations: tuple[Array, ...]
    """For each observation (B, *shape); zeros if terminated."""
    bootstrap_mask: Array
    """(B, A) bool; nothing allowed if terminated."""
    walked: Walked | None
    """Every step, where that was asked for."""

    def followed_by(self, other: Batch) -> Batch:
        """One batch of this and `other`, of the same spec and steps. Their numbers may be of different rows."""
        return Batch(*(_concatenated(getattr(self, f.name), getattr(other, f.name)) for f in fields(Batch)))


class Replay:
    """Draws from `rows` while a writer, in this process or another, goes on."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        names = observation_names(rows.layout.spec)
        self._start = (*names, "mask", "continuous", "discrete")
        self._bootstrap = (*names, "mask")

    def draw(self, rng: np.random.Generator, batch: int, steps: int) -> Walk:
        """Walk `steps` along the links of `batch` rows, drawn uniformly with replacement from those that are drawable.

        Where a walk's first number is beyond `rows.overwritten` after a gather, walk and gathered rows were whole.

        Raises:
            ValueError: no row is drawable; look at `rows.drawable_now` first.

        """
        links = self.rows.fields["next"]
        current = self._starts(rng, batch)
        numbers = np.empty((batch, steps), np.int64)
        alive = np.empty((batch, steps), np.bool_)
        going: Array = np.ones(batch, np.bool_)
        for step in range(steps):
            numbers[:, step] = current
            following = links.take(self.rows.slots(current), mode="clip")
            # A link may appear while the walk looks on: a walk that has once ended stays so.
            going &= following >= 0
            alive[:, step] = going
            current = np.where(going, following, current)
        # The absorbing row links to itself, so walks into it run on; its rows are no steps.
        return Walk(numbers, alive & (numbers > 0), current)

    def gather(self, numbers: Array, names: tuple[str, ...] | None = None) -> dict[str, Array]:
        """Copies of the named fields (all if None) at `numbers` (...), each (..., *shape)."""
        names = tuple(self.rows.fields) if names is None else names
        return dict(zip(names, self.rows.gather(numbers, names)))

    def sample(
        self, rng: np.random.Generator, batch: int, steps: int, discount: float, every_step: bool = False
    ) -> Batch:
        """Draw `batch` rows with their n-step returns; rows overwritten meanwhile are drawn again.

        Args:
            rng: the same state and the same rows give the same batch.
            batch: how many rows.
            steps: n, the longest walk.
            discount: of one step.
            every_step: whether to gather what was seen and done at every step, for `walked`.

        Raises:
            ValueError: no row is drawable; look at `rows.drawable_now` first.

        """
        result = self._attempt(rng, batch, steps, discount, every_step)
        torn = np.flatnonzero(result.numbers[:, 0] <= self.rows.overwritten)
        while torn.size:
            again = self._attempt(rng, torn.size, steps, discount, every_step)
            still = again.numbers[:, 0] <= self.rows.overwritten
            _replace(result, torn, again)
            torn = torn[still]
        return result

    def _attempt(self, rng: np.random.Generator, batch: int, steps: int, discount: float, every_step: bool) -> Batch:
        walk = self.draw(rng, batch, steps)
        walked = None
        if every_step:
            *observations, mask, continuous, discrete = self.rows.gather(walk.numbers, self._start)
            walked = Walked(tuple(observations), mask, continuous, discrete)
        *observations, mask, continuous, discrete = self.rows.gather(walk.numbers[:, 0], self._start)
        *bootstrap_observations, bootstrap_mask = self.rows.gather(walk.bootstrap, self._bootstrap)
        (rewards,) = self.rows.gather(walk.numbers, ("reward",))
        rewards *= walk.valid
        discounts = np.power(discount, np.arange(steps + 1), dtype=np.float32)
        worth = discounts[np.count_nonzero(walk.valid, axis=1)]
        ended = walk.bootstrap == 0
        return Batch(
            numbers=walk.numbers,
            valid=walk.valid,
            bootstrap=walk.bootstrap,
            observations=tuple(observations),
            mask=mask,
            continuous=continuous,
            discrete=discrete,
            rewards=rewards,
            bootstrap_discount=worth * ~ended,
            end_discount=worth * ended,
            bootstrap_observations=tuple(bootstrap_observations),
            bootstrap_mask=bootstrap_mask,
            walked=walked,
        )

    def _starts(self, rng: np.random.Generator, batch: int) -> Array:
        """Numbers (batch,) of drawable rows outside the guard zone, by rejection."""
        rows, links = self.rows, self.rows.fields["next"]
        head = rows.head
        oldest = max(0, rows.overwritten + rows.guard) + 1
        if head < oldest:
            raise ValueError("no row to draw: the buffer is empty")
        numbers: Array = rng.integers(oldest, head + 1, size=batch)
        rejected = np.flatnonzero(links.take(rows.slots(numbers), mode="clip") < 0)
        for _ in range(_REJECTIONS):
            if not rejected.size:
                return numbers
            again = rng.integers(oldest, head + 1, size=rejected.size)
            numbers[rejected] = again
            rejected = rejected[links.take(rows.slots(again), mode="clip") < 0]
        # Few rows are drawable, as at a run's start: look for them.
        every = np.arange(oldest, head + 1)
        drawable = every[links.take(rows.slots(every), mode="clip") >= 0]
        if not drawable.size:
            raise ValueError(f"no row to draw: none of rows {oldest} to {head} is complete and linked")
        numbers[rejected] = rng.choice(drawable, size=rejected.size)
        return numbers


_REJECTIONS = 8


def _replace(batch: Batch, places: Array, other: Batch) -> None:
    """Overwrite rows `places` of `batch` by those of `other`."""
    for field in fields(Batch):
        _overwrite(getattr(batch, field.name), places, getattr(other, field.name))


def _overwrite(mine: Any, places: Array, theirs: Any) -> None:
    if isinstance(mine, tuple):
        for old, new in zip(mine, theirs):
            _overwrite(old, places, new)
    elif mine is not None:
        mine[places] = theirs


def _concatenated(one: Any, other: Any) -> Any:
    if isinstance(one, Walked):
        return Walked(*(_concatenated(*pair) for pair in zip(one, other)))
    if isinstance(one, tuple):
        return tuple(_concatenated(*pair) for pair in zip(one, other))
    return None if one is None else np.concatenate((one, other))
