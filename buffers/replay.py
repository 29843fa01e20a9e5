"""Uniform draws from the rows of a buffer, and n-step returns along their links.

Shapes: B sequences of a batch, T of their steps learned from (1 without a recurrent state), n steps of a return,
S = T + n - 1 steps of a sequence, P places looked at, A mask entries, C continuous actions, D discrete branches, R
numbers of the state.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from buffers.rows import Rows, observation_names
from envs.spec import Array


class RowSequences(NamedTuple):
    """Sequences of at most S steps along the links of B rows, each of one agent in one episode.

    A sequence ends early where the episode terminated (at 0, the number of the absorbing row), at a final row
    (truncated), or at a row that is not linked yet (bootstrap there; that row's reward is not used).
    """

    numbers: Array
    """(B, S + 1) int64: the rows of each sequence; at and behind its end the row whose value stands for the rest."""
    valid: Array
    """(B, S) bool: which of them were steps. The first always is."""


class ReplayBatch(NamedTuple):
    """What an off-policy update needs of B sequences. The arrays belong to the receiver.

    Places are those of a sequence's rows that are looked at: all S + 1 where `every_step` or T > 1, else the first and
    that behind the return.
    """

    numbers: Array
    """(B, S + 1) int64, as in `RowSequences`."""
    valid: Array
    """(B, S) bool, as in `RowSequences`."""
    learned: Array
    """(B, T) bool: steps that are learned from; the others are padding, or only lead up to these."""
    observations: tuple[Array, ...]
    """For each observation (B, P, *shape); zeros behind an end by the game's own rules."""
    mask: Array
    """(B, P, A) bool; nothing allowed behind such an end."""
    continuous: Array
    """(B, P - 1, C) float32."""
    discrete: Array
    """(B, P - 1, D) int32."""
    rewards: Array
    """(B, S) float32: of each step, 0 where not valid."""
    bootstrap: Array
    """(B, T) int64: the place behind the return that begins at each step."""
    bootstrap_discount: Array
    """(B, T) float32: discount ** steps of that return, or 0 if the episode terminated with it."""
    end_discount: Array
    """(B, T) float32: discount ** steps of it if terminated, else 0: weight of the value of the absorbing state."""
    recurrent_state: Array
    """(B, R) float32: the actor's recurrent state before the sequences' first steps; R is 0 without."""

    @property
    def terminated(self) -> Array:
        """(B, S) bool: which steps ended their episode, by its own rules."""
        ends: Array = self.valid & (self.numbers[:, 1:] == 0)
        return ends

    @property
    def lengths(self) -> Array:
        """(B, T) int64: steps of the return that begins at each step."""
        learning = self.learned.shape[1]
        taken = self.valid.sum(axis=1, keepdims=True)
        lengths: Array = np.clip(taken - np.arange(learning), 0, self.valid.shape[1] - learning + 1)
        return lengths

    def followed_by(self, other: ReplayBatch) -> ReplayBatch:
        """One batch of this and `other`, of the same spec and steps. Their numbers may be of different rows."""
        return ReplayBatch(*map(_concatenated, self, other))


class Replay:
    """Draws from `rows` while a writer, in this process or another, goes on.

    With a `length` above 1, sequences begin at every `length`-th step of an episode. From one that does not
    begin its episode, the first `burn_in` steps are not learned from, and `burn_in` more follow the `length`: so each
    step is learned from in exactly one sequence, and mostly with a recurrent state that is up to date. Steps of a
    sequence whose beginning is overwritten are lost with it.
    """

    def __init__(self, rows: Rows, length: int = 1, burn_in: int = 0) -> None:
        self.rows = rows
        self.length, self.burn_in = length, burn_in
        names = observation_names(rows.layout.spec)
        self._seen = (*names, "mask")
        self._done = ("continuous", "discrete")

    def draw(self, rng: np.random.Generator, batch: int, steps: int) -> RowSequences:
        """Follows the links of `batch` sampleable rows, drawn uniformly with replacement, for `steps`.

        Where a sequence's first number is beyond `rows.overwritten` after a gather, it and the gathered rows are whole.
        Raises ValueError if no row is sampleable; look at `rows.sampleable_now` first.
        """
        links = self.rows.fields["next"]
        current = self._starts(rng, batch)
        numbers = np.empty((batch, steps + 1), np.int64)
        alive = np.empty((batch, steps), np.bool_)
        going: Array = np.ones(batch, np.bool_)
        for step in range(steps):
            numbers[:, step] = current
            following = links.take(self.rows.slots(current), mode="clip")
            # A link may appear while the sequence looks on: a sequence that has once ended stays so.
            going &= following >= 0
            alive[:, step] = going
            current = np.where(going, following, current)
        numbers[:, steps] = current
        # The absorbing row links to itself, so sequences into it run on; its rows are no steps.
        return RowSequences(numbers, alive & (numbers[:, :steps] > 0))

    def sample(
        self, rng: np.random.Generator, batch: int, steps: int, discount: float, every_step: bool = False
    ) -> ReplayBatch:
        """Returns `batch` sequences with their n-step returns.

        Those whose rows were overwritten meanwhile are drawn again; so are, a few times, those that nothing is learned
        from, as the sequence before it took all that was left of its episode.

        Args:
            rng: the same state and the same rows give the same batch.
            batch: how many sequences.
            steps: n, the longest return.
            discount: of one step.
            every_step: whether every place is looked at.

        Raises:
            ValueError: no row is sampleable; look at `rows.sampleable_now` first.
        """
        result = self._attempt(rng, batch, steps, discount, every_step)
        attempts, unfit = 1, self._unfit(result, True)
        while unfit.size:
            again = self._attempt(rng, unfit.size, steps, discount, every_step)
            attempts += 1
            for mine, theirs in zip(result, again):
                _overwrite(mine, unfit, theirs)
            unfit = unfit[self._unfit(again, attempts < _REJECTIONS)]
        return result

    def _unfit(self, drawn: ReplayBatch, picky: bool) -> Array:
        """Places of sequences that were overwritten before they were gathered or, if `picky`, teach nothing."""
        unfit = drawn.numbers[:, 0] <= self.rows.overwritten
        if picky and self.length > 1:
            unfit |= ~drawn.learned.any(axis=1)
        return np.flatnonzero(unfit)

    def _attempt(
        self, rng: np.random.Generator, batch: int, steps: int, discount: float, every_step: bool
    ) -> ReplayBatch:
        learning = self.length + self.burn_in
        numbers, valid = self.draw(rng, batch, learning + steps - 1)
        taken = np.add.reduce(valid, axis=1, dtype=np.int64, keepdims=True)
        discounts = np.power(discount, np.arange(steps + 1), dtype=np.float32)
        # Where the return that begins at each step ends: n steps on, or where the sequence does.
        if learning == 1:
            ends, weight, terminated = taken, discounts.take(taken), numbers[:, -1:] == 0
        else:
            begins = np.arange(learning)
            ends = np.minimum(begins + steps, np.maximum(taken, begins))
            weight, terminated = discounts[ends - begins], np.take_along_axis(numbers, ends, axis=1) == 0
        slots = looked_at = self.rows.slots(numbers)
        if learning == 1 and not every_step:
            looked_at, ends = slots[:, ::steps], np.ones((batch, 1), np.int64)  # the first and the last
        *observations, mask = self.rows.at(looked_at, self._seen)
        continuous, discrete = self.rows.at(looked_at[:, :-1], self._done)
        (rewards,) = self.rows.at(slots[:, :-1], ("reward",))
        rewards *= valid
        learned = valid[:, :learning].copy()
        state = np.zeros((batch, 0), np.float32)
        if self.rows.layout.state_size:
            state, position = self.rows.gather(numbers[:, 0], ("memory", "position"))
            learned[:, : self.burn_in] &= (position == 0)[:, None]
        return ReplayBatch(
            numbers=numbers,
            valid=valid,
            learned=learned,
            observations=tuple(observations),
            mask=mask,
            continuous=continuous,
            discrete=discrete,
            rewards=rewards,
            bootstrap=ends,
            bootstrap_discount=weight * ~terminated,
            end_discount=weight * terminated,
            recurrent_state=state,
        )

    def _starts(self, rng: np.random.Generator, batch: int) -> Array:
        """Numbers (batch,) of rows outside the guard zone with which a sequence may begin, by rejection."""
        rows = self.rows
        head = rows.head
        oldest = max(0, rows.overwritten + rows.guard) + 1
        if head < oldest:
            raise ValueError("no row to draw: the buffer is empty")
        numbers: Array = rng.integers(oldest, head + 1, size=batch)
        rejected = np.flatnonzero(~self._begins(numbers))
        for _ in range(_REJECTIONS):
            if not rejected.size:
                return numbers
            # Of so many, about one for each that is missing is taken.
            again = rng.integers(oldest, head + 1, size=rejected.size * self.length)
            again = again[self._begins(again)][: rejected.size]
            numbers[rejected[: again.size]] = again
            rejected = rejected[again.size :]
        # Few rows will do, as at a run's start: look for them. If a buffer holds no sequence's beginning, any will do.
        every = np.arange(oldest, head + 1)
        sampleable = every[rows.fields["next"].take(rows.slots(every), mode="clip") >= 0]
        if not sampleable.size:
            raise ValueError(f"no row to draw: none of rows {oldest} to {head} is complete and linked")
        possible = sampleable[self._begins(sampleable)]
        numbers[rejected] = rng.choice(possible if possible.size else sampleable, size=rejected.size)
        return numbers

    def _begins(self, numbers: Array) -> Array:
        """Whether a sequence may begin with each of these rows: sampleable ones, and where sequences begin."""
        slots = self.rows.slots(numbers)
        may: Array = self.rows.fields["next"].take(slots, mode="clip") >= 0
        if self.length > 1:
            may &= self.rows.fields["position"].take(slots, mode="clip") % self.length == 0
        return may


_REJECTIONS = 8


def _overwrite(mine: Any, places: Array, theirs: Any) -> None:
    if isinstance(mine, tuple):
        for old, new in zip(mine, theirs):
            _overwrite(old, places, new)
    else:
        mine[places] = theirs


def _concatenated(one: Any, other: Any) -> Any:
    if isinstance(one, tuple):
        return tuple(_concatenated(*pair) for pair in zip(one, other))
    return np.concatenate((one, other))
