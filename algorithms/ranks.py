"""Gradient steps that several learners make together.

The first learner (rank 0) has the rows and does all that comes before gradient steps: it normalises, scores, and
estimates returns and advantages of whole batches. Then it passes on what there is to learn from. Each learner computes
the gradient of its part of each minibatch, weighed by the share of rows that count in it; the sum over all learners is
the gradient of the whole minibatch, and each makes the same step of Adam with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from algorithms.ops.adam import FlatAdam


class LearnerLost(RuntimeError):
    """Another learner has ended. Nothing was added up, so a gradient step can be made again, alone."""


class Ranks(Protocol):
    """The learners of one behavior, as each of them sees them."""

    rank: int
    """This one's number, from 0 on."""
    size: int
    """How many there are."""

    def send(self, given: Given) -> None:
        """Passes on what to learn from to all others, from rank 0; LearnerLost if one has ended."""

    def add_up(self, numbers: Tensor) -> None:
        """Replaces numbers by their sum over all learners, which all call this; LearnerLost if one has ended."""


class Given(NamedTuple):
    """What the other learners get before gradient steps. Tensors in tuples."""

    inputs: Any
    """What is learned from."""
    moments: tuple[Tensor, ...]
    """The states of optimisers, at the first time; then none, as all learners make the same steps."""
    moved: tuple[Tensor | None, ...]
    """Parameters and other numbers that steps depend on; None where they are as the last step left them."""


class SharedSteps:
    """One learner's part in gradient steps that are made together."""

    def __init__(self, ranks: Ranks, moments: Sequence[Tensor], moved: Sequence[Tensor]) -> None:
        """`moments` and `moved` are this learner's own tensors, as in `Given`."""
        self._ranks, self._moments, self._moved = ranks, moments, moved
        self._known: list[Tensor] | None = None
        """What the others have of `moved`."""
        self.rank, self.size, self.add_up = ranks.rank, ranks.size, ranks.add_up

    def send(self, inputs: Any) -> None:
        """Passes on what to learn from, and what has changed since the last steps."""
        if self._known is None:
            given = Given(inputs, tuple(self._moments), tuple(self._moved))
        else:
            changed = (None if torch.equal(now, known) else now for now, known in zip(self._moved, self._known))
            given = Given(inputs, (), tuple(changed))
        self._ranks.send(given)

    def remember(self) -> None:
        """Notes that all learners have made the same steps."""
        if self._known is None:
            self._known = [each.clone() for each in self._moved]
        for known, now in zip(self._known, self._moved):
            known.copy_(now)

    def take(self, given: Given) -> Any:
        """Takes over what was passed on; returns what to learn from."""
        for own, new in (*zip(self._moments, given.moments), *zip(self._moved, given.moved)):
            if new is not None:
                own.copy_(new)
        return given.inputs

    def part(self, count: int) -> slice:
        """Returns which of `count` sequences are this learner's: all where there are fewer than learners."""
        if count < self.size:
            return slice(0, count)
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def weight(self, loss_mask: Tensor | None, count: int) -> Tensor | float:
        """Returns the share of this learner's part in the rows that count; all learners' add up to 1.

        `loss_mask` (P,) float32 is that of all rows of `count` sequences; None if all count.
        """
        if count < self.size:
            return 1 / self.size
        own = self.part(count)
        if loss_mask is None:
            return float(own.stop - own.start) / count
        by_sequence = loss_mask.view(count, -1).sum(1)
        share: Tensor = by_sequence[own].sum() / by_sequence.sum().clamp(min=1)
        return share


class SharedLearning:
    """What an algorithm does to share its gradient steps with other learners.

    Its `update` calls `learn_together`, on rank 0 alone; its `learn_from` makes the gradient steps, on all.
    """

    optimizers: Mapping[str, FlatAdam]
    _storage: Tensor
    shared: SharedSteps | None = None
    """Its part in steps that are made together; None where it learns alone."""
    weight: Tensor | float | None = None
    """The share of rows in hand in a minibatch that several learners have: losses that are means are multiplied by it,
    so that those of all learners add up. None if it is whole."""

    def learn_from(self, inputs: Any) -> None:
        """Makes the gradient steps of one update on `inputs`, tensors in tuples: of this learner's part of them."""
        raise NotImplementedError

    def moving(self) -> list[Tensor]:
        """Returns what gradient steps depend on and what else may change it: parameters and schedules."""
        return [self._storage, *(each.learning_rate for each in self.optimizers.values())]

    def share(self, ranks: Ranks | None) -> None:
        """Lets gradient steps be made together with other learners, or alone again."""
        moments = [tensor for each in self.optimizers.values() for tensor in each.tensors.values()]
        self.shared = None if ranks is None else SharedSteps(ranks, moments, self.moving())
        self.weight = None
        for optimizer in self.optimizers.values():
            optimizer.add_up = None if ranks is None else ranks.add_up

    def learn_together(self, inputs: Any) -> None:
        """Calls `learn_from` here and, where there are other learners, there."""
        if self.shared is not None:
            self._unless_lost(self.shared.send, inputs)
        self.learn_from(inputs)
        if self.shared is not None:
            self.shared.remember()

    def follow(self, given: Given) -> None:
        """Makes the steps that rank 0 makes meanwhile, on another learner."""
        assert self.shared is not None  # noqa: S101 - only learners that share follow
        self.learn_from(self.shared.take(given))

    def step_together(self, learn: Callable[[Any], None], inputs: Any) -> None:
        """Calls `learn`, which makes one gradient step: once more, alone, if another learner ends meanwhile."""
        if not self._unless_lost(learn, inputs):
            learn(inputs)

    def _unless_lost(self, call: Callable[[Any], None], given: Any) -> bool:
        """Calls it, and returns whether that went well: if another learner has ended, rank 0 learns alone."""
        try:
            call(given)
        except LearnerLost:
            if self.shared is None or self.shared.rank:
                raise
            self.share(None)
            return False
        return True
