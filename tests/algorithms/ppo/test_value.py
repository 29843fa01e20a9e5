"""The value of recurrent PPO: a state of its own, carried from rollout to rollout."""

import numpy as np
import pytest
import torch

from algorithms.policy import Policy
from algorithms.ppo.ppo import PPO
from algorithms.ppo.settings import PPOSettings
from algorithms.ppo.value import Value, with_own_heads
from algorithms.settings import Cell, MemorySettings, NetworkSettings
from buffers.rows import Layout, Rows, Writer
from envs.spec import BehaviorSpec, ObservationSpec
from tests.algorithms.test_recurrent_learning import CELLS, SPEC, ppo_of, wandered

CUED = BehaviorSpec("cued", (ObservationSpec("seen", (2,), "float32"),), 0, (2,))
AGENTS, STEPS = 10, 6


def gradients_of_values(ppo):
    """Of the values of a rollout, by the policy's parameters; None where there is none."""
    played = ppo._evaluate(ppo._reader.take(1, 1)).played
    features, _ = ppo.policy.features(played.inputs, played.recurrent_state)
    values = ppo.value(played.inputs, features, played.value_state)
    return torch.autograd.grad(values.sum(), list(ppo.policy.parameters()), allow_unused=True)


@CELLS
def test_the_policy_gets_no_gradient_of_the_value(cell):
    ppo, _ = wandered(ppo_of(cell))
    assert all(gradient is None for gradient in gradients_of_values(ppo))


def test_a_shared_trunk_shares_the_recurrent_state_as_well():
    ppo, _ = wandered(ppo_of(shared_trunk=True))
    assert ppo.value.recurrent_layer is None
    names = [name for name, _ in ppo.policy.named_parameters()]
    reached = {name for name, gradient in zip(names, gradients_of_values(ppo)) if gradient is not None}
    assert {"recurrent_layer.layer.weight_hh_l0", "trunk.layers.0.weight"} <= reached
    assert not [key for key in ppo.state_dict() if key.startswith("value_state/")]


def values_in_one_pass(ppo, rows, episode):
    """Values of an episode's rows, of all its observations at once."""
    (observations,) = rows.gather(np.array(episode), ("observation_0",))
    with torch.no_grad():
        inputs = ppo.policy.prepare([torch.from_numpy(observations)])
        nothing = torch.zeros(len(episode), 0)
        return ppo.value(inputs, nothing, torch.zeros(1, ppo.value.state_size)).numpy()


@CELLS
def test_values_over_many_rollouts_are_those_of_one_pass_over_each_episode(cell):
    ppo, wanderers = wandered(ppo_of(cell, normalize_returns=False), turns=500)
    found, behind = {}, {}
    next_values = ppo._next_values
    followed = []
    ppo._next_values = lambda *given: followed.append(next_values(*given)) or followed[-1]
    rollouts = 0
    while (rollout := ppo._reader.take(1, 1)) is not None:
        batch = ppo._evaluate(rollout)
        counted = batch.played.loss_mask.bool()
        found |= dict(zip(rollout.numbers.tolist(), batch.values[counted].tolist()))
        following = followed[-1][0][torch.from_numpy(rollout.ends)]
        behind |= dict(zip(rollout.numbers[rollout.ends].tolist(), following.tolist()))
        rollouts += 1
    assert rollouts > 5
    across = 0
    for episode in wanderers.episodes():
        expected = values_in_one_pass(ppo, wanderers.rows, episode)
        for i, number in enumerate(episode):
            if number in found:
                assert found[number] == pytest.approx(expected[i], abs=1e-5)
            if number in behind and i + 1 < len(episode):
                assert behind[number] == pytest.approx(expected[i + 1], abs=1e-5)
                across += episode[i + 1] in found
    assert across > 20, "of these segments another rollout went on with the episode"


def test_states_are_kept_for_rows_that_are_to_come_alone():
    ppo, wanderers = wandered(ppo_of(), turns=500)
    while (rollout := ppo._reader.take(1, 1)) is not None:
        ppo._evaluate(rollout)
        (final,) = wanderers.rows.gather(ppo._awaited._numbers, ("final",))
        assert not final.any()
        assert not np.isin(ppo._awaited._numbers, rollout.numbers).any()
        assert 0 < len(ppo._awaited._numbers) <= 4, "at most one for each agent"


def cued(ppo, rng, writer):
    """An episode of each agent, which shows 1 or -1 at first and pays as much at the end, whatever is done."""
    agents, cue = np.arange(AGENTS), rng.choice([-1.0, 1.0], AGENTS).astype(np.float32)
    nothing, never = np.zeros((AGENTS, 0), np.float32), np.zeros(AGENTS, np.bool_)
    mask, size = np.zeros((AGENTS, 0), np.bool_), ppo.policy.state_size
    states = np.zeros((AGENTS, size), np.float32)
    for step in range(STEPS):
        seen = np.zeros((AGENTS, 2), np.float32)
        seen[:, 0] = cue * (step == 0)
        seen[:, 1] = step == STEPS - 1
        last = step == STEPS - 1
        writer.append(
            agents, (seen,), mask, nothing, rng.integers(0, 2, (AGENTS, 1)).astype(np.int32),
            np.full(AGENTS, np.log(0.5), np.float32), ppo.updates + 1, cue * last, never | last, never,
            (seen[:0],), mask[:0], states, np.full(AGENTS, step), states[:0],
        )  # fmt: skip
    return cue


@pytest.mark.parametrize("cell", ["none", "lstm"])
def test_a_value_learns_what_only_its_memory_tells(cell):
    network = NetworkSettings([16], memory=MemorySettings(Cell[cell], 8, 8))
    size = AGENTS * STEPS * 2
    settings = PPOSettings(
        network=network, rollout_size=size, minibatch_size=size // 2, epochs=10, learning_rate=1e-2, vtrace=False,
        normalize_returns=False,
    )  # fmt: skip
    layout = Layout(CUED, network.memory.numbers)
    rows = Rows(layout, bytearray(layout.memory_bytes(4000)), 4000)
    ppo, writer, rng = PPO(CUED, settings, rows, "cpu", 1), Writer(rows), np.random.default_rng(0)
    for _ in range(15):
        cued(ppo, rng, writer), cued(ppo, rng, writer)
        ppo.update()
    assert ppo.updates == 15
    cued(ppo, rng, writer), cued(ppo, rng, writer)
    rollout = ppo._reader.take(ppo.updates + 1, 9)
    batch = ppo._evaluate(rollout)
    counted = slice(None) if batch.played.loss_mask is None else batch.played.loss_mask.bool()
    asked = torch.from_numpy(rollout.observations[0][:, 1] > 0)
    error = (batch.values[counted][asked, 0] - torch.from_numpy(rollout.rewards)[asked]).square().mean()
    if cell == "none":
        assert error > 0.8
    else:
        assert error < 0.1


@CELLS
def test_a_state_of_the_version_before_keeps_all_but_the_values_memory_and_head(cell):
    ppo, wanderers = wandered(ppo_of(cell))
    ppo.update()
    state = {key: x for key, x in ppo.state_dict().items() if not key.startswith("value_state/")}
    # The head saw six features of its own, and five of the policy's recurrent layer.
    own, policy = 3 * 6 + 6, len(state["optimizer/mean"]) - len(state["weights/value"])
    state["weights/value"] = torch.arange(own + 6 + 5 + 1.0)
    for name in ("optimizer/mean", "optimizer/square"):
        state[name] = torch.cat([state[name][: policy + own], torch.full((6 + 5 + 1,), 7.0)])
    other = PPO(SPEC, ppo.settings, wanderers.rows, "cpu", 9)
    fresh = other.vectors["value"].clone()
    other.load_state_dict(state)
    assert torch.equal(other.policy.flat, ppo.policy.flat)
    assert other.vectors["value"].tolist() == [*range(own), *fresh[own:].tolist()]
    mean = other.state_dict()["optimizer/mean"]
    assert torch.equal(mean[: policy + own], state["optimizer/mean"][: policy + own])
    assert not mean[policy + own :].any()
    other.update()
    assert other.updates == 2


@pytest.mark.parametrize(("before", "now"), [(3, 1), (1, 3), (2, 2)])
def test_the_first_head_is_taken_over_by_runs_with_other_reward_signals(before, now):
    policy = Policy(SPEC, NetworkSettings([8]), "ppo")
    old, new = Value(policy, False, before), Value(policy, False, now)
    flat = torch.cat([parameter.detach().flatten() for parameter in old.parameters()])
    moved = with_own_heads({"weights/value": flat}, new)["weights/value"]
    taken = Value(policy, False, now)
    torch.nn.utils.vector_to_parameters(moved, taken.parameters())
    torch.testing.assert_close(taken.head.weight[0], old.head.weight[0])
    torch.testing.assert_close(taken.head.bias[0], old.head.bias[0])
    if now > before:
        torch.testing.assert_close(taken.head.weight[1:], new.head.weight[1:])
    for own, others in zip(taken.own.parameters(), old.own.parameters()):
        torch.testing.assert_close(own, others)
