"""The losses and gradients of SAC's update, by autograd and accelerated, against those of papers' formulas."""

import numpy as np
import pytest
import torch
from torch import distributions as reference

from algorithms.policy import LOG_STD_RANGE
from algorithms.sac.sac import SAC
from algorithms.sac.settings import SACSettings
from algorithms.settings import Activation, Cell, MemorySettings, NetworkSettings
from buffers.rows import Layout, Rows, Writer
from envs.spec import BehaviorSpec, ObservationSpec
from tests.algorithms.networks.test_mlp import separate

VECTOR = (ObservationSpec("o", (3,), "float32"),)
IMAGE = (*VECTOR, ObservationSpec("i", (20, 20, 1), "uint8", 1 / 255))
LSTM = {"memory": MemorySettings(Cell["lstm"], 4, 6, 2)}
NETWORKS = {
    "MLP": (VECTOR, {}),
    "silu": (VECTOR, {"activation": Activation["silu"]}),
    "tanh": (VECTOR, {"activation": Activation["tanh"]}),
    "large": (VECTOR, {"hidden": [168, 168]}),
    "image": (IMAGE, {}),
    "own": (VECTOR, {"custom": "tests.algorithms.custom_toys:Trunk"}),
    "memory": (VECTOR, LSTM),
}
ACTIONS = {
    "continuous": (2, (), False, 0),
    "branches": (0, (3, 2), True, 0),
    "joint": (0, (3, 2), True, 6),
    "three branches": (0, (3, 2, 4), False, 0),
    "hybrid": (1, (3, 2), True, 0),
    "joint hybrid": (2, (3, 2), True, 6),
}


def filled(actions, network, **more):
    """A SAC beside a buffer of random steps, with critics and a policy far from their small first outputs."""
    continuous, branches, masked, joint = ACTIONS[actions]
    observations, chosen = NETWORKS[network]
    spec = BehaviorSpec("b", observations, continuous, branches, masked)
    settings = SACSettings(
        network=NetworkSettings(**{"hidden": [8, 7], "joint_choices": joint, **chosen}),
        batch_size=160,
        n_step=2,
        **more,
    )
    layout = Layout(spec, 8 if "memory" in chosen else 0)
    rows = Rows(layout, bytearray(layout.memory_bytes(600)), 600)
    writer, rng, place = Writer(rows), np.random.default_rng(0), np.zeros(4, np.int32)
    for _ in range(60):
        seen = tuple(
            (rng.random((4, *o.shape)) * (1 if o.dtype == "float32" else 255)).astype(o.dtype) for o in observations
        )
        mask = np.ones((4, sum(branches) * masked), np.bool_)
        mask[:, :1] = rng.random((4, mask[:, :1].shape[1])) < 0.5
        choices = np.ones((4, len(branches)), np.int32)
        ends, truncated = rng.random(4) < 0.1, rng.random(4) < 0.1
        final = tuple(x[truncated] for x in seen), mask[truncated]
        state = rng.normal(size=(4, layout.state_size)).astype(np.float32) * (place > 0)[:, None]
        acted = rng.uniform(-1, 1, (4, continuous)).astype(np.float32), choices, np.zeros(4, np.float32), 1
        more = (state, place.copy(), state[truncated]) if layout.state_size else ()
        rewards = rng.normal(size=4).astype(np.float32)
        writer.append(np.arange(4), seen, mask, *acted, rewards, ends, truncated, *final, *more)
        place = np.where(ends | truncated, 0, place + 1).astype(np.int32)
    sac = SAC(spec, settings, rows, "cpu", 1)
    torch.manual_seed(0)
    for vector in (sac.policy.flat[sac.policy.parameter_start :], sac.vectors["critics"], sac.vectors["targets"]):
        vector.copy_(torch.randn_like(vector) * 0.3)
    sac.networks.log_temperatures.data.copy_(torch.linspace(-1, 0, len(sac.networks.log_temperatures)))
    return sac


def at(network, inputs, batch, rows):
    """Features where networks look: with a memory of all places, of which some are taken."""
    if batch.places is None:
        half = len(batch.returns)
        return network.features([x[:half] if rows.start is None else x[half:] for x in inputs], batch.recurrent_state)[
            0
        ]
    return network.features(inputs, batch.recurrent_state)[0][batch.places[rows]]


def acts(policy, features, mask, noise):
    """Actions, their log-probabilities, and those of all choices."""
    outputs, size = policy.head(features), policy.spec.continuous_size
    mean, log_std = outputs[:, :size], outputs[:, size : 2 * size].clamp(*LOG_STD_RANGE)
    raw = mean + log_std.exp() * noise
    slope = 2 * (np.log(2) - raw - torch.nn.functional.softplus(-2 * raw))
    log_prob = (reference.Normal(mean, log_std.exp()).log_prob(raw) - slope).sum(-1)
    discrete = policy.branches.categorical(outputs[:, 2 * size :], mask) if policy.branches.count else None
    return raw.tanh(), log_prob, discrete


def soft(q, action, temperatures):
    """(N,) value and entropy by the smaller critic: q (2, N) or (2, N, B, K)."""
    actions, log_prob, discrete = action
    if discrete is None:
        return torch.minimum(q[0], q[1]) - temperatures[0] * log_prob
    log_probs = discrete.log_probs
    branches = log_probs.shape[1]
    if branches == 1:  # values of choices are compared one by one
        q = torch.minimum(q[0], q[1])[None].expand(2, -1, -1, -1)
    expected = (log_probs.exp() * q).sum((-2, -1))  # of each critic, over all branches together
    entropy = -(temperatures[-branches:, None] * log_probs.exp() * log_probs).sum((-2, -1))
    smaller = torch.where(expected[0] < expected[1], expected[0], expected[1]) + entropy
    return smaller - temperatures[0] * log_prob if actions.shape[1] else smaller


def reference_gradients(sac, batch):
    policy, critic, count = sac.policy, sac.networks.critic, len(batch.returns)
    inputs, temperatures = policy.prepare(batch.observations), sac.networks.log_temperatures.exp()
    loss_mask = torch.ones(count) if batch.loss_mask is None else batch.loss_mask
    steps, ends = slice(count), slice(count, None)

    def values(network, features, actions):
        outputs = separate(network.stack, torch.cat([features, actions], dim=-1))
        return network.by_head(outputs)

    now = acts(policy, at(policy, inputs, batch, steps), batch.mask[:count], batch.noise[:count])
    with torch.no_grad():
        then = acts(policy, at(policy, inputs, batch, ends), batch.mask[count:], batch.noise[count:])
        following = values(sac.networks.target_critic, at(sac.networks.target_critic, inputs, batch, ends), then[0])
        targets = batch.returns + batch.next_discount * soft(following, then, temperatures)
    features = at(critic, inputs, batch, steps)
    q = values(critic, features, batch.continuous)
    taken = q
    if policy.branches.count:
        taken = q.gather(-1, batch.discrete[None, ..., None].expand(2, -1, -1, 1))[..., 0].sum(-1)
    critic_loss = ((taken - targets).square() * loss_mask).sum() / (2 * loss_mask.sum())
    policy_q = values(critic, features.detach(), now[0]) if now[0].shape[1] else q.detach()
    policy_loss = -(soft(policy_q, now, temperatures) * loss_mask).sum() / loss_mask.sum()
    of_policy = torch.autograd.grad(policy_loss, list(policy.parameters()), retain_graph=True)
    return [*of_policy, *torch.autograd.grad(critic_loss, list(critic.parameters()))], policy_loss, critic_loss


CASES = [
    *((actions, network, {}) for actions in ACTIONS for network in NETWORKS),
    *((actions, network, {"dueling": True}) for actions in ("branches", "hybrid") for network in ("MLP", "memory")),
]


@pytest.mark.parametrize("accelerate", [True, False])
@pytest.mark.parametrize(("actions", "network", "more"), CASES)
def test_gradients_are_those_of_the_losses(actions, network, more, accelerate, monkeypatch):
    sac = filled(actions, network, accelerate=accelerate, **more)
    batch = sac._to_device(sac._draw(sac._replay, 160 if network != "memory" else 20))
    expected, policy_loss, critic_loss = reference_gradients(sac, batch)
    found = []
    monkeypatch.setattr(sac.optimizers["all"], "step", lambda parts: (found.extend(parts), torch.tensor(True))[1])
    sac.learn(batch)
    names = [name for part in (sac.policy, sac.networks.critic) for name, _ in part.named_parameters()]
    assert len(found) == len(expected) + 1 == len(names) + 1, "temperatures come last"
    for name, ours, theirs in zip(names, found, expected):
        torch.testing.assert_close(
            ours, theirs, atol=2e-5, rtol=2e-4, msg=lambda message, name=name: f"{name}: {message}"
        )
    assert any(part.abs().max() > 1e-3 for part in expected[: len(list(sac.policy.parameters()))])
    metrics = sac.metrics()
    assert metrics["loss/policy"] == pytest.approx(policy_loss.item(), rel=1e-4)
    assert metrics["loss/critic"] == pytest.approx(critic_loss.item(), rel=1e-4)
