"""The base of algorithms that draw batches from a replay buffer, again and again: SAC, and TD3 in docs/extending.md.

With a recurrent state, a batch is sequences whose steps are replayed one after another. Its policy begins with what the
actor remembered there.

Shapes: W sequences of a batch, P places of each, L of them steps, those that only lead up to others included, N = W * L
(without a recurrent state P = 2, L = 1); R numbers of the state; A mask entries, C continuous actions, B branches as
they are chosen; V values (`Algorithm.value_of`).
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.base import Algorithm
from algorithms.imitation.demonstrations import Steps
from algorithms.metrics import below
from algorithms.ops.cuda_graph import Graphed
from algorithms.ops.staging import Part, Staging
from algorithms.returns import n_step_returns
from algorithms.rewards.scale import ReturnScale
from algorithms.settings import OffPolicySettings
from buffers.replay import Replay, ReplayBatch
from buffers.rollout import RolloutReader
from envs.spec import Array


class OffPolicyBatch(NamedTuple):
    """What one update learns from, on the device."""

    observations: tuple[Tensor, ...]
    """All places, sequence by sequence (W * P, ...); without a recurrent state steps, then ends (2 * N, ...)."""
    recurrent_state: Tensor
    """(W, R) the policy's recurrent state before each sequence."""
    places: Tensor | None
    """(2 * N,) int64, with a recurrent state: of the steps to learn from, and of what lies behind the return that
    begins at each (its end)."""
    noise: Tensor
    """(2 * N, C) standard normal, from which actions at steps and ends are drawn."""
    mask: Tensor
    """(2 * N, A) at steps, then at ends."""
    continuous: Tensor
    """(N, C)."""
    discrete: Tensor
    """(N, B) int64, as they are chosen."""
    returns: Tensor
    """(N,) n-step; (V, N) if there are several values."""
    next_discount: Tensor
    """(N,) or (V, N): weight of the value behind a return, 0 where the episode terminated."""
    loss_mask: Tensor | None
    """(N,) float32, 0 where padded or replayed for the recurrent state alone; None if all count."""

    def split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the rows (N, ...) at steps and at ends, of what a network makes of the observations."""
        rows = outputs if self.places is None else outputs[self.places]
        at_steps, at_ends = torch.split(rows, self.returns.shape[-1])
        return at_steps, at_ends

    def part(self, chosen: slice) -> OffPolicyBatch:
        """Returns some of the sequences."""
        count, steps = len(self.recurrent_state), self.returns.shape[-1]
        length, places = steps // count, len(self.observations[0]) // count

        def twice(x: Tensor) -> Tensor:  # (2 * N, ...) at steps, then at ends
            return x.reshape(2, count, length, *x.shape[1:])[:, chosen].flatten(0, 2)

        def of_steps(x: Tensor) -> Tensor:  # (..., N)
            return x.reshape(*x.shape[:-1], count, length)[..., chosen, :].flatten(-2)

        def of_places(x: Tensor) -> Tensor:  # (W * P, ...)
            return x.reshape(count, places, *x.shape[1:])[chosen].flatten(0, 1)

        rows = slice(chosen.start * length, chosen.stop * length)
        return OffPolicyBatch(
            observations=tuple(map(twice if self.places is None else of_places, self.observations)),
            recurrent_state=self.recurrent_state[chosen],
            places=None if self.places is None else twice(self.places) - chosen.start * places,
            noise=twice(self.noise),
            mask=twice(self.mask),
            continuous=self.continuous[rows],
            discrete=self.discrete[rows],
            returns=of_steps(self.returns),
            next_discount=of_steps(self.next_discount),
            loss_mask=None if self.loss_mask is None else self.loss_mask[rows],
        )


class OffPolicy(Algorithm):
    """Learns from batches of a replay buffer. An algorithm of this kind writes `build` and `learn`."""

    Settings = OffPolicySettings
    graphed = False
    """Whether `learn` may be replayed as a CUDA graph: it branches on no number, and draws no random ones."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        settings: OffPolicySettings = self.settings
        self.updates_per_sample = settings.updates_per_sample
        self.start_samples = settings.start_samples
        self.tolerance = max(TOLERANCE, 1 / settings.updates_per_sample)
        self._replay = Replay(self.rows, settings.network.sequence_length, settings.burn_in)
        discounts = np.array(self.rewards.discounts, np.float32)[:, None]
        self._powers = discounts ** np.arange(settings.n_step + 1, dtype=np.float32)  # (V, n + 1)
        self._discounts = self.move(self._powers[:, :-1].copy()).unbind()
        self._staging = Staging(self.device)
        self._replayed = Graphed(self.learn, self.device) if self.graphed else self.learn
        self._stream = RolloutReader(self.rows, MEASURED_AT_ONCE)
        self._demos = None
        if settings.demos is not None:
            self._demos = Replay(self.demos[settings.demos], settings.network.sequence_length, settings.burn_in)

    @abstractmethod
    def learn(self, batch: OffPolicyBatch) -> None:
        """Makes the gradient steps of one update; nothing waits for a result."""

    def update(self) -> None:
        """Draws a batch, lets normaliser and reward signals learn from it, and learns."""
        settings: OffPolicySettings = self.settings
        if self.rewards.scale is not None and self.updates % MEASURE_EVERY == 0:
            self._measure_new(self.rewards.scale)
        own = drawn = self._draw(self._replay, settings.batch_sequences - settings.demo_sequences)
        if self._demos is not None:
            drawn = own.followed_by(self._draw(self._demos, settings.demo_sequences))
        learned = drawn.learned
        if self.policy.normalized_size and self.updates % NORMALIZE_EVERY == 0:
            self.normalize([x[:, : learned.shape[1]][learned] for x in drawn.observations])
        if self.rewards.look and own.learned.any():
            self.rewards.learn(self._steps(own, own.learned), 1 / self.updates_per_sample)
        if learned.any():
            self.learn_together(self._to_device(drawn))
        if self.cloning is not None:
            self.cloning.passes()
        self.updates += 1

    def learn_from(self, inputs: OffPolicyBatch) -> None:
        """Makes the gradient steps of one update on a batch, or on this learner's part of it."""
        # Cloning draws random numbers as it goes, and comes and goes itself.
        learn = self.learn if self.cloning is not None and self.cloning.active else self._replayed
        self.step_together(learn if self.shared is None else self._learn_part, inputs)

    def _learn_part(self, batch: OffPolicyBatch) -> None:
        """Learns from this learner's part of a batch: from all of it if it is alone by now."""
        self.weight = None
        if self.shared is not None:
            count = len(batch.recurrent_state)
            self.weight = self.shared.weight(batch.loss_mask, count)
            batch = batch.part(self.shared.part(count))
        self.learn(batch)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns all that an exact continuation needs, the rows apart."""
        stream = self._stream.state() if self.rewards.scale is not None else {}
        return {**super().state_dict(), **{f"stream/{key}": torch.from_numpy(x) for key, x in stream.items()}}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave; the rows must be there already."""
        super().load_state_dict(state)
        if self.rewards.scale is not None:
            self._stream.load_state({key: value.numpy() for key, value in below(state, "stream/").items()})

    def _measure_new(self, scale: ReturnScale) -> None:
        """Lets rows that have come since move the scale of returns, before they are drawn; demonstrations first."""
        if not scale.count and self._demos is not None:
            self._measure_all(RolloutReader(self._demos.rows, MEASURED_AT_ONCE))
            scale.forget()
        self._measure_all(self._stream)

    def _measure_all(self, reader: RolloutReader) -> None:
        while (rollout := reader.take_any()) is not None:
            steps = self.steps_of(rollout) if self.rewards.look else None
            self.measure(rollout, self.rewards.score(self.move(rollout.rewards), steps))

    def _draw(self, replay: Replay, sequences: int) -> ReplayBatch:
        settings = self.settings
        # With several values these discounts only say where an episode has terminated.
        discount = settings.discount if len(self._powers) == 1 else 1.0
        return replay.sample(self.rng, sequences, settings.n_step, discount, every_step=self.rewards.look)

    def _steps(self, drawn: ReplayBatch, chosen: Array) -> Steps:
        """Returns the steps of sequences that are `chosen`, (W, any) bool of their first places."""
        width = chosen.shape[1]
        arrays = (drawn.mask[:, :width], drawn.continuous[:, :width], drawn.discrete[:, :width])
        mask, continuous, discrete, terminated = (self.move(x[chosen]) for x in (*arrays, drawn.terminated[:, :width]))
        observations = tuple(self.move(x[:, :width][chosen]) for x in drawn.observations)
        following = tuple(self.move(x[:, 1 : width + 1][chosen]) for x in drawn.observations)
        return Steps(observations, mask, continuous, discrete.long(), terminated, following)

    def _to_device(self, drawn: ReplayBatch) -> OffPolicyBatch:
        """Returns a batch, overwritten by the next one of the same shapes."""
        sequences, places = drawn.mask.shape[:2]
        length = drawn.learned.shape[1]
        observations = [x.reshape(sequences * places, *x.shape[2:]) for x in drawn.observations]
        first = places * np.arange(sequences)[:, None]
        both = np.concatenate(((first + np.arange(length)).ravel(), (first + drawn.bootstrap).ravel()))
        next_discounts, end_discounts = drawn.bootstrap_discount.ravel(), drawn.end_discount.ravel()
        if len(self._powers) > 1:
            powers = self._powers[:, drawn.lengths.ravel()]
            next_discounts, end_discounts = powers * next_discounts, powers * end_discounts
        looked_at = both if self.policy.recurrent_layer is None else None
        mask, continuous, discrete, state, rewards, valid, next_discount, end_discount, learned, where, *seen = (
            self._staging.move(
                [
                    Part(drawn.mask.reshape(sequences * places, -1), both),
                    Part(drawn.continuous[:, :length].reshape(sequences * length, -1)),
                    Part(drawn.discrete[:, :length].reshape(sequences * length, -1), dtype=np.int64),
                    Part(drawn.recurrent_state),
                    Part(drawn.rewards),
                    Part(drawn.valid),
                    Part(next_discounts),
                    Part(end_discounts),
                    Part(drawn.learned.ravel(), dtype=np.float32),
                    Part(both),
                    *(Part(x, looked_at) for x in observations),
                ]
            )
        )
        steps = loss_mask = None
        if self.rewards.look:
            steps = self._steps(drawn, np.ones_like(drawn.valid))
            loss_mask = valid.clone()
            loss_mask[sequences - self.settings.demo_sequences :] = False  # demonstrated
        scores = self.rewards.score(rewards, steps)
        self.rewards.log(scores, loss_mask)
        earned, absorbing = self.rewards.combine(scores)  # (V, W, any steps), (V,)
        if self.rewards.look:  # what the environment paid for a step that is not valid is 0 already
            earned = earned * valid
        by_value = [n_step_returns(each, powers) for each, powers in zip(earned.unbind(), self._discounts)]
        returns = by_value[0] if len(by_value) == 1 else torch.stack(by_value)
        if self.rewards.look:  # what follows an end pays for ever
            returns = returns + end_discount * (absorbing if len(by_value) == 1 else absorbing[:, None])
        return OffPolicyBatch(
            observations=tuple(seen),
            recurrent_state=state,
            places=None if self.policy.recurrent_layer is None else where,
            noise=torch.randn(len(where), continuous.shape[1], generator=self.generator, device=self.device),
            mask=mask,
            continuous=continuous,
            discrete=self.policy.branches.index(discrete),
            returns=returns,
            next_discount=next_discount,
            loss_mask=None if length == 1 else learned,
        )


M = TypeVar("M", bound=nn.Module)


def frozen(network: M) -> M:
    """Returns a copy of a network that is not learned, such as a target."""
    return copy.deepcopy(network).requires_grad_(False)


NORMALIZE_EVERY = 10
"""Updates between two looks of the normaliser at a batch: its statistics need few rows, and a look is not free."""
MEASURE_EVERY = 40
"""Updates between two looks of the scale of returns at all new rows. A look takes three quarters of an update's time at
2 x 64, so this costs 2 %; a reward that comes between two is bounded."""
MEASURED_AT_ONCE = 1024
"""Rows that are measured together: bounds the memory that images take."""
TOLERANCE = 1000
"""Samples that the learner may lag behind before games are throttled."""
