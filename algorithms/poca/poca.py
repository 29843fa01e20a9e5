"""MA-POCA (arXiv 2111.05992): PPO for agents that are paid as a group.

The policy is PPO's, and sees one agent. The critic sees the group: its value, of which
returns are made, and for each agent a counterfactual baseline, with which the return is compared. An agent that leaves
before its group is followed by the value of its group without it, so it is paid for what the group achieves later.

Shapes: those of `algorithms.ppo.ppo`; G teammates of a row at most, U teammates of a rollout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from algorithms.imitation.demonstrations import Steps
from algorithms.metrics import column_mean
from algorithms.poca.critic import Group, GroupCritic
from algorithms.poca.losses import counterfactual_advantages, critic_loss
from algorithms.ppo.batch import PPOBatch, Transitions
from algorithms.ppo.losses import value_loss
from algorithms.ppo.ppo import PPO
from algorithms.rewards.action_inputs import ActionInputs
from buffers.rollout import Rollout
from buffers.teammates import Named, Teammates
from envs.spec import Array


class POCA(PPO):
    """Learns `policy` from rollouts whose rows name teammates."""

    value: GroupCritic

    def make_value(self) -> GroupCritic:
        """Returns the critic."""
        self._actions = ActionInputs(self.spec).to(self.device)
        return GroupCritic(self.policy, self._actions.features, len(self.rewards.discounts), self.settings.max_group)

    def group_of(self, rollout: Rollout, arranged: Callable[[Tensor], Tensor]) -> Group:
        """Returns the teammates of P rows, as `arranged` takes them from N."""
        group = self._group(rollout.recurrent_state, _teammates(rollout), _teammates(rollout).of_rows)
        return group.each(arranged)

    def judge(self, played: Transitions, features: Tensor) -> Tensor:
        """Returns values and, behind them, baselines: (P, 2 * V)."""
        assert played.group is not None  # noqa: S101 - `group_of` has made it
        return torch.cat(self.value(played.inputs, played.group), dim=1)

    def compare(self, by_value: Tensor, judged: Tensor) -> Tensor:
        """Returns what actions earned over the baselines (V, N)."""
        return counterfactual_advantages(by_value, *judged.chunk(2, dim=1))

    def judge_behind(self, rollout: Rollout, absorbing: Tensor, behind: Tensor) -> Tensor:
        """Returns the values of what follows the segments (S, V).

        An agent that has left is followed by its group in what the game pays. Other signals pay agents by themselves:
        there `absorbing` follows it, as with PPO.
        """
        teammates = _teammates(rollout)
        inputs = self.policy.prepare([self.move(x) for x in rollout.bootstrap_observations])
        group, gone = self._group(rollout.bootstrap_state, teammates, teammates.of_bootstrap), self.move(teammates.gone)
        values = self.value.values(inputs, group, gone)
        return torch.where(gone[:, None] & ~self.rewards.pays_game, absorbing, values)

    def loss_of_values(self, judged: Tensor, batch: PPOBatch) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        """Returns the () loss of values and baselines, that of the values (V,), and metrics of the baselines."""
        loss_mask = batch.played.loss_mask
        (values, baselines), (old_values, old_baselines) = judged.chunk(2, dim=1), batch.values.chunk(2, dim=1)
        of_values, of_baselines = (
            value_loss(now, old, batch.targets, self.settings.value_clip, loss_mask)
            for now, old in ((values, old_values), (baselines, old_baselines))
        )
        units = self.rewards.units
        metrics = {
            "loss/baseline": of_baselines.detach() @ units.square(),
            "poca/baseline": column_mean(old_baselines, loss_mask) @ units,
        }
        return critic_loss(of_values, of_baselines), of_values, metrics

    def _group(self, state: Array, teammates: Teammates, named: Named) -> Group:
        """Returns what the critic knows of the groups of agents with these recurrent states, and teammates so named."""
        mask, continuous, discrete = map(self.move, (teammates.mask, teammates.continuous, teammates.discrete))
        seen = tuple(map(self.move, teammates.observations))
        actions = self._actions(Steps((), mask, continuous, discrete.long(), mask[:, :0], ()))
        places, present, stale = map(self.move, named)
        states = self.move(teammates.recurrent_state)
        return Group(self.move(state), self.policy.prepare(seen), states, actions, places, present, stale.float())


def _teammates(rollout: Rollout) -> Teammates:
    assert rollout.teammates is not None  # noqa: S101 - the layout that POCA's settings ask for has them
    return rollout.teammates
