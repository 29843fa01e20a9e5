"""Soft actor-critic (arXiv 1801.01290, 1812.05905; branches as in arXiv 1910.07207) for hybrid actions.

Continuous actions go into the critics; each discrete branch comes out of them as a head: Q is the sum of the heads of
the choices taken, and expectations over branches are exact. Without branches there is one head of width 1. Few branches
are chosen as one (`network.joint_choices`), as a sum of heads knows nothing of how the choices of two go together.

With a memory, a batch is walks whose steps are replayed one after another; policy and critics each remember. The policy
begins with what the actor remembered there, critics with nothing.

Shapes: W walks of a batch, P places of each, L of them steps, those that only lead up to others included, N = W * L
(without memory P = 2, L = 1); R numbers of memory; n steps of a return; S = 2 critics, C continuous actions, B branches
as they are chosen, K choices of the largest, T = (C > 0) + B action blocks, each with a temperature.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from algorithms.bookkeeping import (
    Averages,
    below,
    column_mean,
    load_numpy_state,
    load_torch_state,
    mean,
    numpy_state,
    seeded,
)
from algorithms.custom import make_encoder
from algorithms.demonstrations import Steps
from algorithms.distributions import Categorical, chosen_branches
from algorithms.flat import FlatAdam, place
from algorithms.memory import make_memory
from algorithms.networks import StackedMLP
from algorithms.normalizer import Normalizer
from algorithms.policy import ActionDistribution, Policy
from algorithms.returns import n_step_returns
from algorithms.settings import (
    NetworkSettings,
    RewardSettings,
    SACSettings,
    batch_walks,
    demo_walks,
    remembers,
    scheduled,
    sequence_length,
)
from algorithms.signals import Demos, make_cloning, make_rewards
from buffers.replay import Batch as Walks
from buffers.replay import Replay
from buffers.rows import Rows
from envs.spec import Array, BehaviorSpec


class Batch(NamedTuple):
    """What one update learns from, on the device; observations are prepared."""

    inputs: tuple[Tensor, ...]
    """All places, walk by walk (W * P, ...); without memory steps, then ends (2 * N, ...)."""
    memory: Tensor
    """(W, R) of the policy before each walk."""
    steps: Tensor | slice
    """(N,) int64: where in the inputs the steps to learn from are."""
    ends: Tensor | slice
    """(N,) int64: where that is what lies behind the return that begins at each."""
    mask: Tensor
    """(N, A)."""
    continuous: Tensor
    """(N, C)."""
    discrete: Tensor
    """(N, B) int64, as they are chosen."""
    returns: Tensor
    """(N,) n-step."""
    next_mask: Tensor
    """(N, A) at the ends of returns."""
    next_discount: Tensor
    """(N,) weight of the value behind a return, 0 where the episode terminated."""
    counted: Tensor | None
    """(N,) float32, 0 where padded or replayed for the memory alone; None if all count."""


class Sampled(NamedTuple):
    """One action of a policy for each row: the continuous part drawn, the branches as whole distributions."""

    continuous: Tensor
    """(N, C)."""
    log_prob: Tensor
    """(N,) of the continuous part."""
    discrete: Categorical | None


def chosen_values(q: Tensor, discrete: Tensor) -> Tensor:
    """(S, N) values of the choices taken, from heads q (S, N, B, K) or (S, N, 1)."""
    if q.dim() == 3:
        return q[..., 0]
    choices = discrete[None, ..., None].expand(len(q), -1, -1, 1)
    return q.gather(-1, choices)[..., 0].sum(-1)


def soft_values(sampled: Sampled, q: Tensor, temperatures: Tensor) -> Tensor:
    """(N,) expected value plus entropy of a policy, from its heads q (S, N, B, K) or (S, N, 1)."""
    smaller = q.min(0).values
    if sampled.discrete is None:
        return smaller[:, 0] - temperatures[0] * sampled.log_prob
    log_probs = sampled.discrete.log_probs
    branches = log_probs.shape[1]
    values = (log_probs.exp() * (smaller - temperatures[-branches:, None] * log_probs)).sum((-2, -1))
    if sampled.continuous.shape[1]:
        values = values - temperatures[0] * sampled.log_prob
    return values


def critic_loss(values: Tensor, targets: Tensor, counted: Tensor | None = None) -> Tensor:
    """() mean squared error of both critics' values (S, N) against targets (N,)."""
    if counted is None:
        return F.mse_loss(values, targets.expand_as(values))
    return mean((values - targets).square(), counted)


def temperature_loss(log_temperatures: Tensor, entropies: Tensor, target_entropies: Tensor) -> Tensor:
    """() whose gradient raises a block's temperature (T,) while its entropy is below its target."""
    return (log_temperatures * (entropies - target_entropies).detach()).sum()


def block_entropies(sampled: Sampled, counted: Tensor | None = None) -> Tensor:
    """(T,) mean entropy of each action block."""
    parts = [-mean(sampled.log_prob, counted)[None]] if sampled.continuous.shape[1] else []
    if sampled.discrete is not None:
        parts.append(column_mean(sampled.discrete.entropy(), counted))
    return torch.cat(parts)


class Critic(nn.Module):
    """Twin critics in one batched pass over one encoder, and a memory of their own if the policy has one."""

    def __init__(self, spec: BehaviorSpec, settings: NetworkSettings) -> None:
        super().__init__()
        self.encoder = make_encoder(spec, settings)
        self.memory = make_memory(self.encoder.features, settings.memory)
        branches = chosen_branches(spec.branches, settings.joint_choices)
        self._heads = (len(branches), max(branches)) if branches else (1,)
        features = self.encoder.features if self.memory is None else self.memory.features
        self.stack = StackedMLP(2, features + spec.continuous_size, settings.hidden, math.prod(self._heads))

    def features(self, inputs: Sequence[Tensor], memory: Tensor) -> tuple[Tensor, Tensor]:
        """As `Policy.features`, of which only the number of sequences is taken: a critic begins each with nothing."""
        features: Tensor = self.encoder(inputs)
        return (features, memory) if self.memory is None else self.memory(features, torch.zeros_like(memory))

    def forward(self, features: Tensor, continuous: Tensor) -> Tensor:
        """Heads (S, N, B, K) or (S, N, 1) from features (N, F) and continuous actions (N, C)."""
        return self.stack(features, continuous).view(2, len(features), *self._heads)  # type: ignore[no-any-return]


class SAC:
    """Learns `policy` from `rows`. All randomness follows from `seed`."""

    publish_every = 4
    """Updates between publications of the policy: a fraction of a decision apart, and the copy is not free."""

    def __init__(
        self,
        spec: BehaviorSpec,
        settings: SACSettings,
        rows: Rows,
        device: torch.device | str,
        seed: int,
        rewards: RewardSettings | None = None,
        demos: Demos = MappingProxyType({}),
    ) -> None:
        """`demos` holds, by path, the demonstrations that the settings name."""
        self.settings = settings
        self.device = torch.device(device)
        self.updates = 0
        self.updates_per_sample = settings.updates_per_sample
        self.start_samples = settings.start_samples
        self.tolerance = max(TOLERANCE, 1 / settings.updates_per_sample)
        self.dropped = 0
        self._spec = spec
        burn_in = settings.network.memory.burn_in if remembers(settings) else 0
        self._replay = Replay(rows, sequence_length(settings), burn_in)
        self._rng = np.random.default_rng(seed)
        self._generator = torch.Generator(self.device).manual_seed(seed)
        self._discounts = settings.discount ** torch.arange(settings.steps, device=self.device).float()
        self._build_networks(seed)
        self._rewards = make_rewards(rewards or RewardSettings(), self.policy, demos, seed)
        self.cloning = make_cloning(settings.cloning, self.policy, demos, seed)
        if self.cloning is not None and self.policy.normalized_size:
            self._normalize(self.cloning.normalized_rows)
        self._demos = None
        if settings.demos is not None:
            self._demos = Replay(demos[settings.demos], self._replay.length, burn_in)
        self._demo_walks = demo_walks(settings)
        self._blocks = ["continuous"] * (spec.continuous_size > 0)
        self._blocks += [f"branch_{i}" for i in range(self.policy.branches.count)]
        self._averages = Averages(
            ["loss/critic", "loss/policy", "sac/value"]
            + [f"policy/entropy_{block}" for block in self._blocks]
            + [f"sac/temperature_{block}" for block in self._blocks],
            self.device,
        )

    def update(self) -> None:
        """One gradient step on actor, critics and temperatures, and one step of the targets."""
        own = drawn = self._draw(self._replay, batch_walks(self.settings) - self._demo_walks)
        if self._demos is not None:
            drawn = own.followed_by(self._draw(self._demos, self._demo_walks))
        learned = drawn.learned
        if self.policy.normalized_size and self.updates % NORMALIZE_EVERY == 0:
            rows = [x[:, : learned.shape[1]][learned] for x in drawn.observations]
            self._normalize(self.policy.normalized_rows(rows))
        if self._rewards.look and own.learned.any():
            self._rewards.learn(self._steps(own, own.learned), 1 / self.updates_per_sample)
        if learned.any():
            self._learn(self._to_device(drawn))
        self.updates += 1

    def set_progress(self, samples: int) -> None:
        """Moves the schedule to `samples` samples."""
        chosen = self.settings
        rate = scheduled(chosen.learning_rate, chosen.learning_rate_end, chosen.schedule_samples, samples)
        self._optimizer.learning_rate.fill_(rate)
        self._rewards.set_progress(samples)
        if self.cloning is not None:
            self.cloning.set_progress(samples)

    def metrics(self) -> dict[str, float]:
        """Means over the updates since the last reading, and updates skipped since the start."""
        return {
            **self._averages.read(),
            **self._rewards.metrics(),
            **(self.cloning.metrics() if self.cloning is not None else {}),
            "update/skipped_non_finite": self._optimizer.skipped(),
        }

    def weights(self) -> dict[str, Tensor]:
        """The networks and what they depend on, without the state of learning: for `load_weights`."""
        return {
            "weights/policy": self.policy.flat.cpu().clone(),
            "weights/critic": self._critic_vector.cpu().clone(),
            "weights/target": self._target_vector.cpu().clone(),
            "weights/temperatures": self._log_temperatures.detach().cpu().clone(),
            "weights/normalizer": self._normalizer.state(),
        }

    def load_weights(self, state: dict[str, Tensor]) -> None:
        """Takes over what `weights` gave."""
        self.policy.flat.copy_(state["weights/policy"])
        self._critic_vector.copy_(state["weights/critic"])
        self._target_vector.copy_(state["weights/target"])
        self._log_temperatures.data.copy_(state["weights/temperatures"])
        self._normalizer.load_state(state["weights/normalizer"])

    def state_dict(self) -> dict[str, Tensor]:
        """All that an exact continuation needs, the rows apart."""
        optimizer = {f"optimizer/{key}": value for key, value in self._optimizer.state_dict().items()}
        rate = self._optimizer.learning_rate.cpu().clone()
        return {
            **self.weights(),
            **optimizer,
            **{f"rewards/{key}": value for key, value in self._rewards.state_dict().items()},
            **{f"cloning/{key}": value for key, value in (self.cloning.state_dict() if self.cloning else {}).items()},
            "random/numpy": numpy_state(self._rng),
            "random/torch": self._generator.get_state().clone(),
            "learning_rate": rate,
            "updates": torch.tensor(self.updates),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        self.load_weights(state)
        self._optimizer.load_state_dict(below(state, "optimizer/"))
        self._optimizer.learning_rate.copy_(state["learning_rate"])
        self._rewards.load_state_dict(below(state, "rewards/"))
        if self.cloning is not None:
            self.cloning.load_state_dict(below(state, "cloning/"))
        load_numpy_state(self._rng, state["random/numpy"])
        load_torch_state(self._generator, state["random/torch"])
        self.updates = int(state["updates"])

    def _build_networks(self, seed: int) -> None:
        """All parameters in one vector: the policy (its normaliser's statistics first), critics, temperatures."""
        spec, settings = self._spec, self.settings
        self.policy, self._critic = seeded(
            lambda: (Policy(spec, settings.network, "sac"), Critic(spec, settings.network)), seed
        )
        blocks = (spec.continuous_size > 0) + self.policy.branches.count
        self._log_temperatures = nn.Parameter(torch.full((blocks,), math.log(settings.temperature)))
        published, critics = self.policy.flat.numel(), sum(p.numel() for p in self._critic.parameters())
        storage = torch.empty(published + critics + blocks, device=self.device)
        self._critic_vector = storage[published : published + critics]
        self.policy.move_to(storage[:published])
        place(self._critic.parameters(), self._critic_vector)
        place([self._log_temperatures], storage[published + critics :])

        self._target_vector = self._critic_vector.clone()
        self._target = copy.deepcopy(self._critic).requires_grad_(False)
        place(self._target.parameters(), self._target_vector)
        # The same weights once more, to which the policy's loss sends no gradient.
        self._frozen = copy.deepcopy(self._critic).requires_grad_(False)
        place(self._frozen.parameters(), self._critic_vector)

        self._parameters = [*self.policy.parameters(), *self._critic.parameters()]
        end = published + critics
        if settings.learn_temperature:
            self._parameters.append(self._log_temperatures)
            end += blocks
        learned = storage[self.policy.parameter_start : end]
        self._optimizer = FlatAdam(learned, settings.learning_rate, settings.max_gradient_norm)
        self._normalizer = Normalizer(self.policy.normalized_size)
        self._continuous_target = torch.full(
            (int(spec.continuous_size > 0),), settings.continuous_entropy * spec.continuous_size, device=self.device
        )

    def _draw(self, replay: Replay, walks: int) -> Walks:
        settings = self.settings
        return replay.sample(self._rng, walks, settings.steps, settings.discount, every_step=self._rewards.look)

    def _normalize(self, rows: Array) -> None:
        self._normalizer.merge(rows)
        self._normalizer.publish(self.policy.shift, self.policy.scale)

    def _move(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def _steps(self, drawn: Walks, chosen: Array) -> Steps:
        """The steps of walks that are `chosen`, (W, any) bool of their first places."""
        width = chosen.shape[1]
        arrays = (drawn.mask[:, :width], drawn.continuous[:, :width], drawn.discrete[:, :width])
        mask, continuous, discrete, terminated = (self._move(x[chosen]) for x in (*arrays, drawn.terminated[:, :width]))
        observations = tuple(self._move(x[:, :width][chosen]) for x in drawn.observations)
        following = tuple(self._move(x[:, 1 : width + 1][chosen]) for x in drawn.observations)
        return Steps(observations, mask, continuous, discrete.long(), terminated, following)

    def _to_device(self, drawn: Walks) -> Batch:
        move = self._move
        walks, places = drawn.mask.shape[:2]
        length = drawn.learned.shape[1]
        observations = [x.reshape(walks * places, *x.shape[2:]) for x in drawn.observations]
        first = places * np.arange(walks)[:, None]
        steps, ends = (first + np.arange(length)).ravel(), (first + drawn.bootstrap).ravel()
        if self.policy.memory is None:
            observations = [x[np.concatenate((steps, ends))] for x in observations]
        actions = (x[:, :length].reshape(walks * length, -1) for x in (drawn.mask, drawn.continuous, drawn.discrete))
        mask, continuous, discrete = (move(x) for x in actions)
        valid = move(drawn.valid)
        looked_at = counted = None
        if self._rewards.look:
            looked_at = self._steps(drawn, np.ones_like(drawn.valid))
            counted = valid.clone()
            counted[walks - self._demo_walks :] = False  # demonstrated
        scores = self._rewards.score(move(drawn.rewards), looked_at, counted)
        returns = n_step_returns(scores.rewards, valid, self._discounts).view(-1)
        if self._rewards.look:  # what follows an end pays for ever
            returns += move(drawn.end_discount.ravel()) * scores.absorbing / (1 - self.settings.discount)
        return Batch(
            inputs=self.policy.prepare([move(x) for x in observations]),
            memory=move(drawn.memory),
            steps=slice(0, len(steps)) if self.policy.memory is None else move(steps),
            ends=slice(len(steps), None) if self.policy.memory is None else move(ends),
            mask=mask,
            continuous=continuous,
            discrete=self.policy.branches.index(discrete.long()),
            returns=returns,
            next_mask=move(drawn.mask.reshape(walks * places, -1)[ends]),
            next_discount=move(drawn.bootstrap_discount.ravel()),
            counted=None if length == 1 else move(drawn.learned.ravel()).float(),
        )

    def _learn(self, batch: Batch) -> None:
        """One update on the device: static shapes, and nothing waits for a result."""
        counted = batch.counted
        temperatures = self._log_temperatures.detach().exp()
        features = _features(self._critic, batch, batch.steps)
        q = self._critic(features, batch.continuous)
        seen, seen_next = self._seen(batch)
        targets = self._targets(batch, seen_next, temperatures)
        loss_critic = critic_loss(chosen_values(q, batch.discrete), targets, counted)

        sampled = self._sample(self.policy.distribution(seen, batch.mask))
        # Critics and policy step together, so the critics that judge the policy are those just evaluated.
        judged = self._frozen(features.detach(), sampled.continuous) if self._spec.continuous_size else q.detach()
        loss_policy = -mean(soft_values(sampled, judged, temperatures), counted)
        loss = loss_critic + loss_policy
        entropies = block_entropies(sampled, counted)
        if self.settings.learn_temperature:
            loss = loss + temperature_loss(self._log_temperatures, entropies, self._target_entropies(batch))
        if self.cloning is not None and self.cloning.active:
            loss = loss + self.cloning.loss()

        finite = self._optimizer.step(torch.autograd.grad(loss, self._parameters))
        self._target_vector.lerp_(self._critic_vector, self.settings.target_rate)
        scalars = torch.stack([loss_critic, loss_policy, mean(targets, counted)])
        self._averages.add(torch.cat([scalars, entropies, temperatures]), finite)

    def _seen(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The policy's features at the steps, and at the ends without gradient: both in one pass if it remembers."""
        if self.policy.memory is not None:
            features, _ = self.policy.features(batch.inputs, batch.memory)
            return features[batch.steps], features[batch.ends].detach()
        with torch.no_grad():
            ends = _features(self.policy, batch, batch.ends)
        return _features(self.policy, batch, batch.steps), ends

    @torch.no_grad()
    def _targets(self, batch: Batch, seen: Tensor, temperatures: Tensor) -> Tensor:
        """(N,) n-step soft targets of the critics, of what the policy sees at the ends."""
        sampled = self._sample(self.policy.distribution(seen, batch.next_mask))
        q = self._target(_features(self._target, batch, batch.ends), sampled.continuous)
        return batch.returns + batch.next_discount * soft_values(sampled, q, temperatures)

    def _sample(self, distribution: ActionDistribution) -> Sampled:
        if distribution.continuous is None:
            empty = torch.zeros(1, 0, device=self.device)
            return Sampled(empty, empty.sum(-1), distribution.discrete)
        continuous, log_prob = distribution.continuous.sample(self._generator)
        return Sampled(continuous, log_prob, distribution.discrete)

    def _target_entropies(self, batch: Batch) -> Tensor:
        """(T,) what the entropy of each block is held at."""
        if not self._spec.branches:
            return self._continuous_target
        choices = self.policy.branches.log_choices(batch.mask)
        counted = batch.counted if len(choices) > 1 else None
        return torch.cat([self._continuous_target, column_mean(choices, counted) * self.settings.discrete_entropy])


def _features(network: Policy | Critic, batch: Batch, places: Tensor | slice) -> Tensor:
    """(N, F) of a network at (N,) places, where those before them have to be gone through if it remembers."""
    if network.memory is None:
        return network.features([x[places] for x in batch.inputs], batch.memory)[0]
    return network.features(batch.inputs, batch.memory)[0][places]


NORMALIZE_EVERY = 10
"""Updates between two looks of the normaliser at a batch: its statistics need few rows, and a look is not free."""
TOLERANCE = 1000
"""Samples that the learner may lag behind before games are held back."""
