"""Soft actor-critic (arXiv 1801.01290, 1812.05905; branches as in arXiv 1910.07207) for hybrid actions.

Continuous actions go into the critics; each discrete branch comes out of them as a head: Q is the sum of the heads of
the choices taken, and expectations over branches are exact. Without branches there is one head of width 1. Few branches
are chosen as one (`network.joint_choices`), as a sum of heads knows nothing of how the choices of two go together.

With a memory, a batch is sequences whose steps are replayed one after another; policy and critics each remember. The
policy begins with what the actor remembered there, critics with nothing.

Shapes: W sequences of a batch, P places of each, L of them steps, those that only lead up to others included, N = W * L
(without memory P = 2, L = 1); R numbers of memory; n steps of a return; S = 2 critics, C continuous actions, B branches
as they are chosen, K choices of the largest, T = (C > 0) + B action blocks, each with a temperature.
"""

from __future__ import annotations

import copy
import math
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.imitation.demonstrations import Steps
from algorithms.metrics import (
    Averages,
    below,
    column_mean,
    load_numpy_state,
    load_torch_state,
    numpy_state,
    seeded,
)
from algorithms.networks.normalizer import Normalizer
from algorithms.ops.adam import FlatAdam, place
from algorithms.ops.cuda_graph import Graphed
from algorithms.ops.staging import Part, Staging
from algorithms.policy import Policy
from algorithms.returns import n_step_returns
from algorithms.rewards.registry import Demos, make_cloning, make_rewards
from algorithms.sac.batch import Batch
from algorithms.sac.critic import Critic
from algorithms.sac.update import Networks, sac_losses
from algorithms.settings import (
    RewardSettings,
    SACSettings,
    batch_sequences,
    demo_sequences,
    remembers,
    scheduled,
    sequence_length,
)
from buffers.replay import Replay, ReplayBatch
from buffers.rows import Rows
from envs.spec import Array, BehaviorSpec


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
        self._discounts = settings.discount ** torch.arange(settings.n_step, device=self.device).float()
        self._staging = Staging(self.device)
        self._replayed = Graphed(self._learn, self.device)
        self._build_networks(seed)
        self._rewards = make_rewards(rewards or RewardSettings(), self.policy, demos, seed)
        self.cloning = make_cloning(settings.cloning, self.policy, demos, seed)
        if self.cloning is not None and self.policy.normalized_size:
            self._normalize(self.cloning.normalized_rows)
        self._demos = None
        if settings.demos is not None:
            self._demos = Replay(demos[settings.demos], self._replay.length, burn_in)
        self._demo_sequences = demo_sequences(settings)
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
        own = drawn = self._draw(self._replay, batch_sequences(self.settings) - self._demo_sequences)
        if self._demos is not None:
            drawn = own.followed_by(self._draw(self._demos, self._demo_sequences))
        learned = drawn.learned
        if self.policy.normalized_size and self.updates % NORMALIZE_EVERY == 0:
            rows = [x[:, : learned.shape[1]][learned] for x in drawn.observations]
            self._normalize(self.policy.normalized_rows(rows))
        if self._rewards.look and own.learned.any():
            self._rewards.learn(self._steps(own, own.learned), 1 / self.updates_per_sample)
        if learned.any():
            batch = self._to_device(drawn)
            # Cloning draws random numbers as it goes, and comes and goes itself.
            (self._learn if self.cloning is not None and self.cloning.active else self._replayed)(batch)
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
        # Critics were `weights/critic` and `weights/target` while their last layer lay the other way round.
        return {
            "weights/policy": self.policy.flat.cpu().clone(),
            "weights/critics": self._critic_vector.cpu().clone(),
            "weights/targets": self._target_vector.cpu().clone(),
            "weights/temperatures": self._log_temperatures.cpu().clone(),
            "weights/normalizer": self._normalizer.state(),
        }

    def load_weights(self, state: dict[str, Tensor]) -> None:
        """Takes over what `weights` gave."""
        self.policy.flat.copy_(state["weights/policy"])
        self._critic_vector.copy_(state["weights/critics"])
        self._target_vector.copy_(state["weights/targets"])
        self._log_temperatures.copy_(state["weights/temperatures"])
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
            lambda: (Policy(spec, settings.network, "sac"), Critic(spec, settings.network, settings.dueling)), seed
        )
        self._critic.to(self.device)
        blocks = (spec.continuous_size > 0) + self.policy.branches.count
        self._log_temperatures = torch.full((blocks,), math.log(settings.temperature))
        published, critics = self.policy.flat.numel(), sum(p.numel() for p in self._critic.parameters())
        storage = torch.empty(published + critics + blocks, device=self.device)
        self._critic_vector = storage[published : published + critics]
        self.policy.move_to(storage[:published])
        place(self._critic.parameters(), self._critic_vector)
        place([self._log_temperatures], storage[published + critics :])

        self._target_vector = self._critic_vector.clone()
        self._target = copy.deepcopy(self._critic).requires_grad_(False)
        place(self._target.parameters(), self._target_vector)
        fixed = copy.deepcopy(self._critic).requires_grad_(False)
        place(fixed.parameters(), self._critic_vector)
        log_temperatures = nn.Parameter(self._log_temperatures, requires_grad=settings.learn_temperature)
        self._networks = Networks(self.policy, self._critic, fixed, self._target, log_temperatures)
        self._learned = self._networks.learned()
        self._accelerated = None
        if settings.accelerate:
            from algorithms.ops.sac_accelerator import accelerated_update

            self._accelerated = accelerated_update(self._networks)
        end = published + critics + (blocks if settings.learn_temperature else 0)
        learned = storage[self.policy.parameter_start : end]
        self._optimizer = FlatAdam(learned, settings.learning_rate, settings.max_gradient_norm)
        self._normalizer = Normalizer(self.policy.normalized_size)
        self._continuous_target = torch.full(
            (int(spec.continuous_size > 0),), settings.continuous_entropy * spec.continuous_size, device=self.device
        )

    def _draw(self, replay: Replay, sequences: int) -> ReplayBatch:
        settings = self.settings
        return replay.sample(self._rng, sequences, settings.n_step, settings.discount, every_step=self._rewards.look)

    def _normalize(self, rows: Array) -> None:
        self._normalizer.merge(rows)
        self._normalizer.publish(self.policy.shift, self.policy.scale)

    def _move(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def _steps(self, drawn: ReplayBatch, chosen: Array) -> Steps:
        """The steps of sequences that are `chosen`, (W, any) bool of their first places."""
        width = chosen.shape[1]
        arrays = (drawn.mask[:, :width], drawn.continuous[:, :width], drawn.discrete[:, :width])
        mask, continuous, discrete, terminated = (self._move(x[chosen]) for x in (*arrays, drawn.terminated[:, :width]))
        observations = tuple(self._move(x[:, :width][chosen]) for x in drawn.observations)
        following = tuple(self._move(x[:, 1 : width + 1][chosen]) for x in drawn.observations)
        return Steps(observations, mask, continuous, discrete.long(), terminated, following)

    def _to_device(self, drawn: ReplayBatch) -> Batch:
        """A batch, overwritten by the next one of the same shapes."""
        sequences, places = drawn.mask.shape[:2]
        length = drawn.learned.shape[1]
        observations = [x.reshape(sequences * places, *x.shape[2:]) for x in drawn.observations]
        first = places * np.arange(sequences)[:, None]
        both = np.concatenate(((first + np.arange(length)).ravel(), (first + drawn.bootstrap).ravel()))
        looked_at = both if self.policy.memory is None else None
        mask, continuous, discrete, memory, rewards, valid, next_discount, end_discount, learned, where, *seen = (
            self._staging.move(
                [
                    Part(drawn.mask.reshape(sequences * places, -1), both),
                    Part(drawn.continuous[:, :length].reshape(sequences * length, -1)),
                    Part(drawn.discrete[:, :length].reshape(sequences * length, -1), dtype=np.int64),
                    Part(drawn.memory),
                    Part(drawn.rewards),
                    Part(drawn.valid),
                    Part(drawn.bootstrap_discount.ravel()),
                    Part(drawn.end_discount.ravel()),
                    Part(drawn.learned.ravel(), dtype=np.float32),
                    Part(both),
                    *(Part(x, looked_at) for x in observations),
                ]
            )
        )
        steps = loss_mask = None
        if self._rewards.look:
            steps = self._steps(drawn, np.ones_like(drawn.valid))
            loss_mask = valid.clone()
            loss_mask[sequences - self._demo_sequences :] = False  # demonstrated
        scores = self._rewards.score(rewards, steps, loss_mask)
        # What the environment paid for a step that is not valid is 0 already.
        earned = scores.rewards * valid if self._rewards.look else scores.rewards
        returns = n_step_returns(earned, self._discounts)
        if self._rewards.look:  # what follows an end pays for ever
            returns += end_discount * scores.absorbing / (1 - self.settings.discount)
        return Batch(
            observations=tuple(seen),
            memory=memory,
            places=None if self.policy.memory is None else where,
            noise=torch.randn(len(where), continuous.shape[1], generator=self._generator, device=self.device),
            mask=mask,
            continuous=continuous,
            discrete=self.policy.branches.index(discrete),
            returns=returns,
            next_discount=next_discount,
            loss_mask=None if length == 1 else learned,
        )

    def _learn(self, batch: Batch) -> None:
        """One update on the device: static shapes, and nothing waits for a result."""
        target_entropies = self._target_entropies(batch)
        cloning = self.cloning is not None and self.cloning.active
        if self._accelerated is not None and not cloning:
            losses, gradients = self._accelerated(batch, target_entropies)
        else:
            losses = sac_losses(self._networks, batch, target_entropies)
            loss = losses.critic + losses.policy + losses.temperature
            if self.cloning is not None and cloning:
                loss = loss + self.cloning.loss()
            gradients = list(torch.autograd.grad(loss, self._learned))
        finite = self._optimizer.step(gradients)
        self._target_vector.lerp_(self._critic_vector, self.settings.target_rate)
        scalars = torch.stack([losses.critic, losses.policy, losses.value])
        self._averages.add(torch.cat([scalars, losses.entropies, losses.temperatures]), finite)

    def _target_entropies(self, batch: Batch) -> Tensor:
        """(T,) what the entropy of each block is held at."""
        if not self._spec.branches:
            return self._continuous_target
        choices = self.policy.branches.log_choices(batch.mask[: len(batch.returns)])
        loss_mask = batch.loss_mask if len(choices) > 1 else None
        return torch.cat([self._continuous_target, column_mean(choices, loss_mask) * self.settings.discrete_entropy])


NORMALIZE_EVERY = 10
"""Updates between two looks of the normaliser at a batch: its statistics need few rows, and a look is not free."""
TOLERANCE = 1000
"""Samples that the learner may lag behind before games are held back."""
