"""Soft actor-critic (arXiv 1801.01290, 1812.05905; branches as in arXiv 1910.07207) for hybrid actions.

Continuous actions go into the critics; each discrete branch comes out of them as a head: Q is the sum of the heads of
the choices taken, and expectations over branches are exact. Without branches there is one head of width 1. Few branches
are chosen as one (`network.joint_choices`), as a sum of heads knows nothing of how the choices of two go together.

Shapes: N rows of a batch, n steps of a walk, S = 2 critics, C continuous actions, B branches as they are chosen, K
choices of the largest, T = (C > 0) + B action blocks, each with a temperature.
"""

from __future__ import annotations

import copy
import math
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from algorithms.bookkeeping import Averages, below, load_numpy_state, load_torch_state, numpy_state, seeded
from algorithms.custom import make_encoder
from algorithms.demonstrations import Steps
from algorithms.distributions import Categorical, chosen_branches
from algorithms.flat import FlatAdam, place
from algorithms.networks import StackedMLP
from algorithms.normalizer import Normalizer
from algorithms.policy import ActionDistribution, Policy
from algorithms.returns import n_step_returns
from algorithms.settings import NetworkSettings, RewardSettings, SACSettings, demo_rows, scheduled
from algorithms.signals import Demos, make_cloning, make_rewards
from buffers.replay import Batch as DrawnRows
from buffers.replay import Replay
from buffers.rows import Rows
from envs.spec import Array, BehaviorSpec


class Batch(NamedTuple):
    """What one update learns from, on the device; observations are prepared."""

    inputs: tuple[Tensor, ...]
    mask: Tensor
    continuous: Tensor
    """(N, C)."""
    discrete: Tensor
    """(N, B) int64, as they are chosen."""
    returns: Tensor
    """(N,) n-step."""
    next_discount: Tensor
    """(N,) weight of the value at the end of the walk, 0 where the episode terminated."""
    next_inputs: tuple[Tensor, ...]
    next_mask: Tensor


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


def critic_loss(values: Tensor, targets: Tensor) -> Tensor:
    """() mean squared error of both critics' values (S, N) against targets (N,)."""
    return F.mse_loss(values, targets.expand_as(values))


def temperature_loss(log_temperatures: Tensor, entropies: Tensor, target_entropies: Tensor) -> Tensor:
    """() whose gradient raises a block's temperature (T,) while its entropy is below its target."""
    return (log_temperatures * (entropies - target_entropies).detach()).sum()


def block_entropies(sampled: Sampled) -> Tensor:
    """(T,) mean entropy of each action block."""
    parts = [-sampled.log_prob.mean()[None]] if sampled.continuous.shape[1] else []
    if sampled.discrete is not None:
        parts.append(sampled.discrete.entropy().mean(0))
    return torch.cat(parts)


class Critic(nn.Module):
    """Twin critics in one batched pass over one encoder."""

    def __init__(self, spec: BehaviorSpec, settings: NetworkSettings) -> None:
        super().__init__()
        self.encoder = make_encoder(spec, settings)
        branches = chosen_branches(spec.branches, settings.joint_choices)
        self._heads = (len(branches), max(branches)) if branches else (1,)
        inputs = self.encoder.features + spec.continuous_size
        self.stack = StackedMLP(2, inputs, settings.hidden, math.prod(self._heads))

    def forward(self, features: Tensor, continuous: Tensor) -> Tensor:
        """Heads (S, N, B, K) or (S, N, 1) from encoded observations (N, F) and continuous actions (N, C)."""
        x = torch.cat([features, continuous], dim=-1) if continuous.shape[1] else features
        return self.stack(x).view(2, len(features), *self._heads)  # type: ignore[no-any-return]


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
        self._replay = Replay(rows)
        self._rng = np.random.default_rng(seed)
        self._generator = torch.Generator(self.device).manual_seed(seed)
        self._discounts = settings.discount ** torch.arange(settings.steps, device=self.device).float()
        self._build_networks(seed)
        self._rewards = make_rewards(rewards or RewardSettings(), self.policy, demos, seed)
        self.cloning = make_cloning(settings.cloning, self.policy, demos, seed)
        if self.cloning is not None and self.policy.normalized_size:
            self._normalize(self.cloning.normalized_rows)
        self._demos = Replay(demos[settings.demos]) if settings.demos is not None else None
        self._demo_rows = demo_rows(settings)
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
        own = drawn = self._draw(self._replay, self.settings.batch_size - self._demo_rows)
        if self._demos is not None:
            drawn = own.followed_by(self._draw(self._demos, self._demo_rows))
        if self.policy.normalized_size and self.updates % NORMALIZE_EVERY == 0:
            self._normalize(self.policy.normalized_rows(drawn.observations))
        if self._rewards.look:
            self._rewards.learn(*self._first_steps(own), 1 / self.updates_per_sample)
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

    def _draw(self, replay: Replay, rows: int) -> DrawnRows:
        settings = self.settings
        return replay.sample(self._rng, rows, settings.steps, settings.discount, every_step=self._rewards.look)

    def _normalize(self, rows: Array) -> None:
        self._normalizer.merge(rows)
        self._normalizer.publish(self.policy.shift, self.policy.scale)

    def _move(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def _first_steps(self, drawn: DrawnRows) -> tuple[Steps, Tensor]:
        """The steps with which walks begin, and whether each ended its episode."""
        ended = (drawn.bootstrap == 0) & (np.count_nonzero(drawn.valid, axis=1) == 1)
        mask, continuous, discrete = (self._move(x) for x in (drawn.mask, drawn.continuous, drawn.discrete))
        observations = tuple(self._move(x) for x in drawn.observations)
        return Steps(observations, mask, continuous, discrete.long()), self._move(ended)

    def _all_steps(self, drawn: DrawnRows) -> Steps | None:
        """All steps of walks, one walk after another; None if no reward looks at them."""
        if drawn.walked is None:
            return None
        observations = tuple(self._move(x).flatten(0, 1) for x in drawn.walked.observations)
        mask, continuous, discrete = (self._move(x).flatten(0, 1) for x in drawn.walked[1:])
        return Steps(observations, mask, continuous, discrete.long())

    def _to_device(self, drawn: DrawnRows) -> Batch:
        move = self._move
        counted = None
        if self._rewards.look:
            counted = move(drawn.valid).clone()
            counted[len(counted) - self._demo_rows :] = False  # demonstrated
        scores = self._rewards.score(move(drawn.rewards), self._all_steps(drawn), counted)
        returns = n_step_returns(scores.rewards, move(drawn.valid), self._discounts)
        if self._rewards.look:  # what follows an end pays for ever
            returns += move(drawn.end_discount) * scores.absorbing / (1 - self.settings.discount)
        return Batch(
            inputs=self.policy.prepare([move(x) for x in drawn.observations]),
            mask=move(drawn.mask),
            continuous=move(drawn.continuous),
            discrete=self.policy.branches.index(move(drawn.discrete).long()),
            returns=returns,
            next_discount=move(drawn.bootstrap_discount),
            next_inputs=self.policy.prepare([move(x) for x in drawn.bootstrap_observations]),
            next_mask=move(drawn.bootstrap_mask),
        )

    def _learn(self, batch: Batch) -> None:
        """One update on the device: static shapes, and nothing waits for a result."""
        temperatures = self._log_temperatures.detach().exp()
        features = self._critic.encoder(batch.inputs)
        q = self._critic(features, batch.continuous)
        targets = self._targets(batch, temperatures)
        loss_critic = critic_loss(chosen_values(q, batch.discrete), targets)

        sampled = self._sample(self.policy(batch.inputs, batch.mask))
        # Critics and policy step together, so the critics that judge the policy are those just evaluated.
        judged = self._frozen(features.detach(), sampled.continuous) if self._spec.continuous_size else q.detach()
        loss_policy = -soft_values(sampled, judged, temperatures).mean()
        loss = loss_critic + loss_policy
        entropies = block_entropies(sampled)
        if self.settings.learn_temperature:
            loss = loss + temperature_loss(self._log_temperatures, entropies, self._target_entropies(batch.mask))
        if self.cloning is not None and self.cloning.active:
            loss = loss + self.cloning.loss()

        finite = self._optimizer.step(torch.autograd.grad(loss, self._parameters))
        self._target_vector.lerp_(self._critic_vector, self.settings.target_rate)
        scalars = torch.stack([loss_critic, loss_policy, targets.mean()])
        self._averages.add(torch.cat([scalars, entropies, temperatures]), finite)

    @torch.no_grad()
    def _targets(self, batch: Batch, temperatures: Tensor) -> Tensor:
        """(N,) n-step soft targets of the critics."""
        sampled = self._sample(self.policy(batch.next_inputs, batch.next_mask))
        q = self._target(self._target.encoder(batch.next_inputs), sampled.continuous)
        return batch.returns + batch.next_discount * soft_values(sampled, q, temperatures)

    def _sample(self, distribution: ActionDistribution) -> Sampled:
        if distribution.continuous is None:
            empty = torch.zeros(1, 0, device=self.device)
            return Sampled(empty, empty.sum(-1), distribution.discrete)
        continuous, log_prob = distribution.continuous.sample(self._generator)
        return Sampled(continuous, log_prob, distribution.discrete)

    def _target_entropies(self, mask: Tensor) -> Tensor:
        """(T,) what the entropy of each block is held at."""
        if not self._spec.branches:
            return self._continuous_target
        choices = self.policy.branches.log_choices(mask).mean(0) * self.settings.discrete_entropy
        return torch.cat([self._continuous_target, choices])


NORMALIZE_EVERY = 10
"""Updates between two looks of the normaliser at a batch: its statistics need few rows, and a look is not free."""
TOLERANCE = 1000
"""Samples that the learner may lag behind before games are held back."""
