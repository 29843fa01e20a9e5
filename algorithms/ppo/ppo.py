"""Proximal policy optimisation (arXiv 1707.06347) with the decoupled objective for stale data (arXiv 2110.00641).

Three policies: *behaviour* acted (any of the last few versions), *proximal* is the policy as the update starts, and the
ratio that is clipped is that of the *current* policy over the proximal one; proximal over behaviour, truncated, weights
each row and corrects its targets (V-trace).

With a recurrent state, a rollout is learned from in sequences, which begin with the actor's state there.

Shapes: N rows of a rollout, S segments, Q sequences of L rows (of 1 without a recurrent state), padded to
P = Q * L rows, R numbers of a recurrent state (the policy's and the value's have as many), M rows of a minibatch, C
continuous actions, B branches as they are chosen, A mask entries, V values (`Algorithm.value_of`), W numbers that judge
a row: the values, and in `algorithms.poca` baselines behind them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from algorithms.base import Algorithm, Network
from algorithms.metrics import ERROR_VARIANCE, TARGET_VARIANCE, below, column_mean, mean, variance
from algorithms.networks.awaited import AwaitedStates
from algorithms.ops.cuda_graph import Graphed
from algorithms.policy import ActionDistribution
from algorithms.ppo.batch import PPOBatch, Transitions
from algorithms.ppo.losses import importance_weights, policy_loss, value_loss
from algorithms.ppo.settings import EntropyPer
from algorithms.ppo.value import Value, with_own_heads, with_own_memory
from algorithms.returns import estimate_returns
from algorithms.rewards.base import Earned
from algorithms.settings import scheduled
from buffers.rollout import Rollout, RolloutReader, cut

if TYPE_CHECKING:
    from algorithms.poca.critic import Group, GroupCritic


class PPO(Algorithm):
    """Learns `policy` from rollouts.

    Rows are taken to hold the version of the policy that acted: `updates` + 1 at its publication.
    """

    joint_optimizer = True
    value_of = "signal"
    value: Any
    """What judges rows, as `make_value` has made it."""

    def build(self) -> dict[str, Network]:
        """Makes the value, and the numbers that schedules move: plain ones would stay in a graph as they were."""
        settings = self.settings
        self._by_branch = settings.entropy_per is EntropyPer["branch"]
        self.updates_per_sample = 1 / settings.rollout_size
        # The samples of the rollout in hand, and as many more as the lag allows.
        self.tolerance = (settings.max_lag + 1) * settings.rollout_size
        self._reader = RolloutReader(self.rows, settings.rollout_size)
        self._replayed = Graphed(self._learn_some, self.device)
        self._clip, self._entropy, self._kl = torch.zeros(3, device=self.device)
        self._rate_factor = torch.ones((), device=self.device)
        self.value = self.make_value()
        self._awaited = AwaitedStates(self.value.state_size, self.device)
        self._discounts = torch.tensor(self.rewards.discounts, device=self.device)[:, None]
        return {"value": self.value}

    def make_value(self) -> Value | GroupCritic:
        """Returns the network that judges rows."""
        return Value(self.policy, self.settings.shared_trunk, len(self.rewards.discounts))

    def rescale_values(self, ratios: Tensor) -> None:
        """Multiplies what each head says, exactly. Adam's steps hardly depend on the size of gradients: they stay."""
        self.value.head.weight.mul_(ratios[:, None])
        self.value.head.bias.mul_(ratios)

    @property
    def dropped(self) -> int:
        """Rows never learned from: older than `max_lag` versions, or overwritten before their turn."""
        return self._reader.dropped

    def update(self) -> None:
        """Learns from one rollout; does nothing (`updates` stands still) if too few rows are fresh enough."""
        rollout = self._reader.take(self.updates + 1, self.settings.max_lag)
        if rollout is None:
            return
        # The normaliser stands still from acting to learning, so that what was acted is as likely when learned from.
        # Only the very first rollout is learned from as the normaliser sees it; weights tell how likely it was raw.
        first = self.normalizer.count == 0
        if first:
            self._normalize(rollout)
        batch = self._evaluate(rollout)
        sequences = len(batch.played.recurrent_state)
        size = self._minibatch(batch)
        orders = []
        for _ in range(self.settings.epochs):
            order = torch.randperm(sequences, generator=self.generator, device=self.device)
            # All minibatches have one size: the last one is filled up with sequences of the first.
            orders.append(torch.cat([order, order[: -sequences % size]]))
        self.learn_together((batch, torch.stack(orders)))
        if self.settings.target_kl is not None:
            self._adapt_rate(self._kl / (len(orders[-1]) // size), self.settings.target_kl)
        if not first:
            self._normalize(rollout)
        if self.cloning is not None:
            self.cloning.passes()
        self.updates += 1

    def learn_from(self, inputs: tuple[PPOBatch, Tensor]) -> None:
        """Learns from a rollout: from its sequences in one order (E, any) after another, some at a time."""
        batch, orders = inputs
        size = self._minibatch(batch)
        learn: Callable[[tuple[PPOBatch, Tensor]], None] = self._learn_some
        # With a recurrent state, rollouts differ in their sequences, and those of groups in who is there. Cloning draws
        # random numbers as it goes, and ends.
        same = batch.played.loss_mask is None and batch.played.group is None
        if same and not (self.cloning is not None and self.cloning.active):
            learn, batch = self._replayed, self._replayed.keep(batch)
        for order in orders:
            self._kl.zero_()
            for chosen in torch.split(order, size):
                self.step_together(learn, (batch, chosen))

    def moving(self) -> list[Tensor]:
        """Returns those of the base, and what schedules have come to."""
        return [*super().moving(), self._clip, self._entropy]

    def set_progress(self, samples: int) -> None:
        """Moves the schedules to `samples` samples."""
        super().set_progress(samples)
        self.optimizers["all"].learning_rate.mul_(self._rate_factor)
        chosen, horizon = self.settings, self.settings.schedule_samples
        self._clip.fill_(scheduled(chosen.clip, chosen.clip_end, horizon, samples))
        entropy_coef = ENTROPY_COEF if chosen.entropy_coef is None else chosen.entropy_coef
        self._entropy.fill_(scheduled(entropy_coef, chosen.entropy_coef_end, horizon, samples))

    def metrics(self) -> dict[str, float]:
        """Returns those of the base, what schedules have come to, and the deviation of continuous actions."""
        schedules = {"ppo/clip": float(self._clip), "ppo/entropy_coef": float(self._entropy)}
        log_std = self.policy.log_std
        deviation = {} if log_std is None else {"policy/deviation": float(log_std.detach().exp().mean())}
        return {**super().metrics(), **schedules, **deviation}

    def state_dict(self) -> dict[str, Tensor]:
        """Returns all that an exact continuation needs, the rows apart."""
        rollout = {f"rollout/{key}": torch.from_numpy(value) for key, value in self._reader.state().items()}
        awaited = self._awaited.state_dict() if self.value.state_size else {}
        rate = {"rate_factor": self._rate_factor.cpu().clone()}
        return {**super().state_dict(), **rate, **rollout, **{f"value_state/{key}": x for key, x in awaited.items()}}

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `weights` gave, also of earlier versions."""
        super().load_weights(with_own_heads(with_own_memory(state, self.value), self.value))

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave, also of earlier versions; the rows must be there already."""
        if "rate_factor" in state:  # earlier versions kept the rate
            self._rate_factor.copy_(state["rate_factor"])
        super().load_state_dict(with_own_memory(state, self.value))
        self._awaited.load_state_dict(below(state, "value_state/"))
        self._reader.load_state({key: value.numpy() for key, value in below(state, "rollout/").items()})

    def _adapt_rate(self, kl: Tensor, target: float) -> None:
        """Moves the learning rate so that the () KL divergence of an update stays near its target (as rsl_rl does)."""
        turn = torch.where(kl > 2 * target, 1 / RATE_TURN, torch.where(kl < target / 2, RATE_TURN, 1.0))
        before = self._rate_factor.clone()
        self._rate_factor.mul_(turn).clamp_(1 / LARGEST_RATE_FACTOR, LARGEST_RATE_FACTOR)
        self.optimizers["all"].learning_rate.mul_(self._rate_factor / before)

    def _normalize(self, rollout: Rollout) -> None:
        if self.policy.normalized_size:
            self.normalize(rollout.observations)

    @torch.no_grad()
    def _evaluate(self, rollout: Rollout) -> PPOBatch:
        """The rollout in sequences, with its proximal log-probabilities, advantages and targets."""
        settings = self.settings
        longest = int(np.diff(rollout.ends, prepend=-1).max())
        length = min(settings.network.sequence_length, longest)
        observations = tuple(self.move(x) for x in rollout.observations)
        mask, continuous, discrete = (self.move(x) for x in (rollout.mask, rollout.continuous, rollout.discrete))
        sequences = cut(rollout.ends, length)
        rows = self.move(sequences.rows.ravel())  # (P,) of each place
        places = self.move(np.flatnonzero(sequences.loss_mask))  # (N,) of each row

        def arranged(x: Tensor) -> Tensor:
            return x if length == 1 else x.index_select(0, rows)

        inputs = tuple(arranged(x) for x in self.policy.prepare(observations))
        starts = self._awaited.before(rollout)
        value_state, behind = self.value.replay(inputs, sequences, rollout.ends, starts, EVALUATED_AT_ONCE)
        self._awaited.keep(rollout, behind)
        played = Transitions(
            inputs,
            arranged(mask),
            arranged(continuous),
            arranged(self.policy.branches.index(discrete.long())),
            self.move(rollout.recurrent_state[sequences.rows[:, 0]]),
            value_state,
            None if length == 1 else self.move(sequences.loss_mask.ravel()).float(),
            self.group_of(rollout, arranged),
        )
        earned = self._score(rollout)
        log_prob, values = self._evaluate_sequences(played, length)
        joint = log_prob.sum(-1) if self._by_branch else log_prob
        proximal, judged = (x if length == 1 else x.index_select(0, places) for x in (joint, values))
        value = judged[:, : len(self.rewards.discounts)]
        weights = importance_weights(proximal, self.move(rollout.log_prob), settings.rho_clip)
        next_value, linked = self._next_values(rollout, value, earned.absorbing, behind)
        trace = weights if settings.vtrace else torch.ones_like(weights)
        by_value, targets = estimate_returns(
            earned.rewards, value.t(), next_value.t(), linked, trace, self._discounts, settings.gae_lambda
        )
        by_value = self.compare(by_value, judged)
        # Of all values together, in the game's units: what the policy is judged by.
        units = self.rewards.units
        in_all, error = units @ targets, units @ (targets - value.t())
        lag = self.updates + 1 - self.move(rollout.versions).float().mean()
        variances = {ERROR_VARIANCE: variance(error), TARGET_VARIANCE: variance(in_all)}
        self.log({**variances, "ppo/return": in_all.mean(), "ppo/lag": lag}, in_all.mean().isfinite())
        advantages = self.rewards.value_weights @ by_value
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        return PPOBatch(played, log_prob, arranged(weights), arranged(advantages), values, arranged(targets.t()))

    def group_of(self, rollout: Rollout, arranged: Callable[[Tensor], Tensor]) -> Group | None:
        """Returns the teammates of P rows, as `arranged` takes them from N; None where the value sees none."""
        return None

    def judge(self, played: Transitions, features: Tensor) -> Tensor:
        """Returns what rows are judged by, (P, W), of the policy's `features`."""
        values: Tensor = self.value(played.inputs, features, played.value_state)
        return values

    def compare(self, by_value: Tensor, judged: Tensor) -> Tensor:
        """Returns what the policy learns from, (V, N): what actions earned over the values, `by_value`."""
        return by_value

    def judge_behind(self, rollout: Rollout, absorbing: Tensor, behind: Tensor) -> Tensor:
        """Returns the values of what follows the segments, (S, V); see `_next_values`."""
        inputs = self.policy.prepare([self.move(x) for x in rollout.bootstrap_observations])
        features, _ = self.policy.features(inputs, self.move(rollout.bootstrap_state))
        values: Tensor = self.value(inputs, features, behind)
        return values

    def loss_of_values(self, judged: Tensor, batch: PPOBatch) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        """Returns the () loss of what rows (M, W) are judged by, that of the values (V,), and further metrics."""
        by_value = value_loss(judged, batch.values, batch.targets, self.settings.value_clip, batch.played.loss_mask)
        return by_value.mean(), by_value, {}

    def _score(self, rollout: Rollout) -> Earned:
        """What the rows earn, once the signals have learned from them and their returns are measured."""
        steps = self.steps_of(rollout) if self.rewards.look else None
        if steps is not None:
            with torch.enable_grad():
                self.rewards.learn(steps, self.settings.rollout_size)
        scores = self.rewards.score(self.move(rollout.rewards), steps)
        self.rewards.log(scores)
        self.measure(rollout, scores)
        return self.rewards.combine(scores)

    def _evaluate_sequences(self, played: Transitions, length: int) -> tuple[Tensor, Tensor]:
        """Log-probabilities (P,) or (P, C + B) of what was done, and what judges it (P, W), some sequences at once."""
        log_probs, values = [], []
        at_once = max(1, EVALUATED_AT_ONCE // length)
        for first in range(0, len(played.recurrent_state), at_once):
            part = played.part(first, first + at_once)
            features, _ = self.policy.features(part.inputs, part.recurrent_state)
            distribution = self.policy.distribution(features, part.mask)
            log_probs.append(self._log_prob(distribution, part.continuous, part.discrete))
            values.append(self.judge(part, features))
        return torch.cat(log_probs), torch.cat(values)

    def _next_values(
        self, rollout: Rollout, values: Tensor, absorbing: Tensor, behind: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(N, V) values of what followed each row, and (N,) whether that is the next row here.

        Where the episode terminated, that is the absorbing state, whose values are `absorbing` (V,); else the value
        goes on from its recurrent state `behind` (S, R) the segment.
        """
        linked = np.ones(len(rollout.numbers), np.bool_)
        linked[rollout.ends] = False
        bootstrapped = self.move(rollout.bootstrapped)[:, None]
        bootstrap = torch.where(bootstrapped, self.judge_behind(rollout, absorbing, behind), absorbing)
        following = values.roll(-1, 0)
        following[self.move(rollout.ends)] = bootstrap
        return following, self.move(linked)

    def _minibatch(self, batch: PPOBatch) -> int:
        """Returns how many sequences hold about as many of a rollout's rows as a minibatch should."""
        sequences = len(batch.played.recurrent_state)
        size: int = math.ceil(sequences * self.settings.minibatch_size / self.settings.rollout_size)
        return size

    def _learn_some(self, inputs: tuple[PPOBatch, Tensor]) -> None:
        """One gradient step on some sequences of a rollout."""
        rollout, chosen = inputs
        self.weight = None
        if self.shared is not None:
            loss_mask, count = rollout.played.loss_mask, len(chosen)
            if loss_mask is not None:
                loss_mask = loss_mask.view(len(rollout.played.recurrent_state), -1)[chosen].flatten()
            self.weight, chosen = self.shared.weight(loss_mask, count), chosen[self.shared.part(count)]
        self._learn(rollout.take(chosen))

    def _learn(self, batch: PPOBatch) -> None:
        """One gradient step on a minibatch: static shapes, and nothing waits for a result."""
        settings, weight = self.settings, self.weight
        played, loss_mask = batch.played, batch.played.loss_mask
        features, _ = self.policy.features(played.inputs, played.recurrent_state)
        distribution = self.policy.distribution(features, played.mask)
        log_prob = self._log_prob(distribution, played.continuous, played.discrete)
        if loss_mask is not None:  # what stands in a padded place may be impossible there: infinity times 0 is NaN
            counted = loss_mask[:, None] if self._by_branch else loss_mask
            log_prob = torch.where(counted > 0, log_prob, batch.proximal_log_prob)
        entropy = distribution.entropy(loss_mask)
        loss_policy = policy_loss(
            log_prob, batch.proximal_log_prob, batch.weights, batch.advantages, self._clip, loss_mask
        )
        of_values, by_value, others = self.loss_of_values(self.judge(played, features), batch)
        of_policy = loss_policy - self._entropy * self._paid(distribution, loss_mask)
        of_value = settings.value_weight * of_values
        if weight is not None:
            of_policy, of_value = weight * of_policy, weight * of_value
        of_policy = of_policy + self.cloning_loss()
        with torch.no_grad():
            log_ratio = log_prob - batch.proximal_log_prob
            log_ratio = log_ratio.sum(-1) if self._by_branch else log_ratio
            kl = mean(log_ratio.exp() - 1 - log_ratio, loss_mask)
            kl = kl if weight is None else weight * kl
        # Each is clipped by itself: large errors of the value would else leave nothing of the policy's gradient.
        losses = [of_policy, of_value] if settings.shared_trunk else [of_policy + of_value]
        finite = self.step("all", *losses, beside=kl)

        with torch.no_grad():
            self._kl += kl
            clipped = mean((log_ratio.exp() - 1).abs().gt(self._clip).float(), loss_mask)
            values = batch.values[:, : batch.targets.shape[1]]
            weight, value = mean(batch.weights, loss_mask), column_mean(values, loss_mask) @ self.rewards.units
            loss_value = by_value @ self.rewards.units.square()
            scalars = [loss_policy, loss_value, entropy, kl, clipped, weight, value]
            logged = {**dict(zip(METRICS, scalars)), **others}
            if self.policy.log_std is not None and distribution.discrete is not None:
                logged["policy/entropy_discrete"] = mean(distribution.discrete.entropy().sum(-1), loss_mask)
            self.log(logged, finite)

    def _paid(self, distribution: ActionDistribution, loss_mask: Tensor | None) -> Tensor | float:
        """Returns the () entropy that earns a bonus: that of choices alone, unless its weight is set."""
        if self.settings.entropy_coef is None:
            distribution = distribution._replace(continuous=None)
        if distribution.continuous is None and distribution.discrete is None:
            return 0.0
        return distribution.entropy_by_branch(loss_mask) if self._by_branch else distribution.entropy(loss_mask)

    def _log_prob(self, distribution: ActionDistribution, continuous: Tensor, discrete: Tensor) -> Tensor:
        """(P,) of whole actions, or (P, C + B) of each number and branch."""
        return (distribution.log_probs if self._by_branch else distribution.log_prob)(continuous, discrete)


ENTROPY_COEF = 0.01
"""Weight of the entropy bonus of choices, if none is set."""
RATE_TURN = 1.5
"""Factor by which an update may move the learning rate."""
LARGEST_RATE_FACTOR = 10.0
"""How far the learning rate may get from the one that is set, either way."""
METRICS = (
    "loss/policy",
    "loss/value",
    "policy/entropy",
    "policy/kl",
    "policy/clip_fraction",
    "policy/importance_weight",
    "ppo/value",
)
EVALUATED_AT_ONCE = 1024
"""Rows of one pass before the update; bounds the memory that images take."""
