"""Values, baselines, targets and losses of POCA against numbers computed one by one, without masks or batches."""

import math

import numpy as np
import pytest
import torch

from algorithms.poca.poca import POCA
from algorithms.poca.settings import POCASettings
from algorithms.settings import Activation, NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec
from tests.trainer.runtime.test_groups import Team, going

GAMMA, LAMBDA, MOST = 0.9, 0.8, 4
NETWORK = NetworkSettings([8], Activation["tanh"], normalize=False)
SPEC = BehaviorSpec("team", (ObservationSpec("x", (1,), "float32"),), branches=(9,))


def weights(module):
    return {name: x.detach().double().numpy() for name, x in module.named_parameters()}


class ByHand:
    """The critic for one group, entity by entity."""

    def __init__(self, critic):
        self.w = weights(critic)

    def linear(self, name, x):
        return self.w[f"{name}.weight"] @ x + self.w[f"{name}.bias"]

    def entity(self, seen, stale=0.0, action=None):
        x = np.array([seen, stale])
        if action is None:
            return np.tanh(self.linear("observed", x))
        return np.tanh(self.linear("acting", np.concatenate([x, np.eye(9)[action]])))

    def judge(self, entities):
        """What these are worth together: four heads of two numbers each look at all."""
        normed = [norm(e) for e in entities]
        query, key, value = (
            [self.linear(f"attention.{name}", e) for e in normed] for name in ("query", "key", "value")
        )
        became = []
        for i, own in enumerate(normed):
            heard = []
            for head in (slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)):
                scores = [math.exp(query[i][head] @ k[head] / math.sqrt(2)) for k in key]
                heard.append(sum(score / sum(scores) * v[head] for score, v in zip(scores, value)))
            became.append(norm(self.linear("attention.out", np.concatenate(heard)) + own))
        features = np.tanh(self.linear("trunk.layers.0", np.mean(became, axis=0)))
        return float(self.linear("head", np.append(features, 2 * len(entities) / MOST - 1))[0])

    def value(self, seen):
        return self.judge([self.entity(x) for x in seen])

    def baseline(self, own, others):
        return self.judge([self.entity(own), *(self.entity(x, action=int(x) % 10) for x in others)])


def norm(x):
    return (x - x.mean()) / math.sqrt(x.var() + 1e-5)


def made(team, rows):
    """POCA that has taken its rollout of so many rows, and the critic by hand."""
    settings = POCASettings(
        network=NETWORK, rollout_size=rows, minibatch_size=rows, max_group=MOST, discount=GAMMA, gae_lambda=LAMBDA,
        normalize_returns=False, vtrace=False, value_clip=0.3,
    )  # fmt: skip
    poca = POCA(SPEC, settings, team.rows, "cpu", 5)
    rollout = poca._reader.take(1, 1)
    return poca, rollout, ByHand(poca.value)


@pytest.mark.parametrize("agents", [1, 2, 3])
def test_a_group_of_which_one_leaves(agents):
    """All decide; the last one leaves with -1, if there are others, who then earn 5 for the group, and all is over."""
    team = Team(mates=MOST - 1)
    first, second = [0.125, 1.125, 2.125][:agents], [3.25, 4.25, 5.25][:agents]
    alive = range(max(1, agents - 1))
    team.message(dict(enumerate(first)))
    left = {agents - 1: (-1, 0.5, "dead")} if agents > 1 else {}
    team.message({i: second[i] for i in alive}, {**{i: going(0.25, 0.5) for i in alive}, **left})
    team.message({}, dict.fromkeys(alive, (0.0, 5, "dead")))
    poca, rollout, hand = made(team, agents + len(alive))

    reward = 0.5 + 0.25 * len(alive) + (-1 if left else 0)
    now, later = hand.value(first), hand.value(second[: len(alive)])
    alone = [hand.baseline(x, [y for y in first if y != x]) for x in first]
    after = [hand.baseline(x, [y for y in second[: len(alive)] if y != x]) for x in second[: len(alive)]]
    going_on = reward + GAMMA * ((1 - LAMBDA) * later + LAMBDA * 5)
    leaving = reward + GAMMA * later
    expected = {}
    for i in range(agents):
        expected[first[i]] = now, alone[i], leaving if left and i == agents - 1 else going_on
    for i in alive:
        expected[second[i]] = later, after[i], 5.0
    seen = rollout.observations[0][:, 0]
    values, baselines, returns = np.array([expected[round(float(x), 3)] for x in seen]).T

    batch = poca._evaluate(rollout)
    np.testing.assert_allclose(batch.values, np.stack([values, baselines], 1), atol=1e-5)
    np.testing.assert_allclose(batch.targets[:, 0], returns, atol=1e-5)
    advantages = returns - baselines
    normed = (advantages - advantages.mean()) / (advantages.std(ddof=1) + 1e-8)
    np.testing.assert_allclose(batch.advantages, normed, atol=1e-5)

    # All have moved half of the way to their targets; by more than 0.3 counts as if by 0.3.
    def half_squared(before):
        now, clipped = (before + returns) / 2, before + np.clip((returns - before) / 2, -0.3, 0.3)
        return np.mean(0.5 * np.maximum((now - returns) ** 2, (clipped - returns) ** 2))

    moved = torch.from_numpy(np.stack([(values + returns) / 2, (baselines + returns) / 2], 1)).float()
    loss, of_values, logged = poca.loss_of_values(moved, batch)
    assert of_values.item() == pytest.approx(half_squared(values), abs=1e-5)
    assert logged["loss/baseline"].item() == pytest.approx(half_squared(baselines), abs=1e-5)
    assert loss.item() == pytest.approx(half_squared(values) + 0.5 * half_squared(baselines), abs=1e-5)


def test_a_teammate_that_takes_longer_is_marked():
    team = Team(mates=MOST - 1)
    team.message({0: 0.125, 1: 1.125})
    team.message({0: 2.125}, {0: going()})
    team.message({0: 3.125, 1: 4.125}, {0: going(), 1: going()})
    team.message({}, dict.fromkeys((0, 1), (0, 0, "dead")))
    poca, rollout, hand = made(team, 5)
    batch = poca._evaluate(rollout)
    (row,) = np.flatnonzero(rollout.observations[0][:, 0] == 2.125)
    value = hand.judge([hand.entity(2.125), hand.entity(1.125, 1.0)])
    baseline = hand.judge([hand.entity(2.125), hand.entity(1.125, 1.0, action=1)])
    np.testing.assert_allclose(batch.values[row], [value, baseline], atol=1e-5)


def test_an_agent_without_a_group_is_judged_alone():
    team = Team(mates=MOST - 1)
    team.message({0: 0.125, 1: 1.125}, group=0)
    team.message({}, {0: (1, 0, "dead"), 1: (2, 0, "cut", 7.125)})
    poca, rollout, hand = made(team, 2)
    batch = poca._evaluate(rollout)
    values = [hand.value([0.125]), hand.value([1.125])]
    np.testing.assert_allclose(batch.values, np.stack([values, values], 1), atol=1e-5)
    np.testing.assert_allclose(batch.targets[:, 0], [1, 2 + GAMMA * hand.value([7.125])], atol=1e-5)


def test_a_group_that_is_cut_off_goes_on_with_what_all_see_last():
    team = Team(mates=MOST - 1)
    team.message({0: 0.125, 1: 1.125})
    team.message({}, {0: (1, 0, "cut", 6.125), 1: (2, 0, "cut", 7.125)})
    poca, rollout, hand = made(team, 2)
    batch = poca._evaluate(rollout)
    np.testing.assert_allclose(batch.targets[:, 0], [3 + GAMMA * hand.value([6.125, 7.125])] * 2, atol=1e-5)
