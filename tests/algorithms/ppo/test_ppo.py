import math
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch

from algorithms.networks.distributions import Categorical, Gaussian
from algorithms.policy import LOG_STD_RANGE, ActionDistribution
from algorithms.ppo.losses import importance_weights, policy_loss, value_loss
from algorithms.ppo.ppo import PPO
from algorithms.ppo.settings import EntropyPer, PPOSettings
from algorithms.settings import Cell, MemorySettings, NetworkSettings
from buffers.rows import Layout, Rows, Writer
from envs.spec import BehaviorSpec, ObservationSpec
from tests.algorithms.loops import Loop, evaluate, learn_hybrid_toy, make_rows

SPEC = BehaviorSpec("b", (ObservationSpec("o", (3,), "float32"), ObservationSpec("p", (2,), "uint8")), 2, (3, 2), True)
SMALL = PPOSettings(network=NetworkSettings([16]), rollout_size=40, minibatch_size=16, epochs=2)
SAMPLES = 15_000
CARTPOLE = PPOSettings(
    network=NetworkSettings([64, 64]),
    rollout_size=512,
    minibatch_size=128,
    epochs=10,
    discount=0.99,
    gae_lambda=0.95,
    learning_rate=1e-3,
    learning_rate_end=1e-5,
    schedule_samples=SAMPLES,
    entropy_coef=0.0,
)


def cartpole():
    return gymnasium.make("CartPole-v1")


def pendulum():
    return gymnasium.make("Pendulum-v1")


def fill(rows, writer, steps, seed=0, version=1, observation=None, state=0):
    """Random rows of four agents; now and then an episode ends."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        observations = (rng.normal(size=(4, 3)).astype(np.float32), rng.integers(0, 9, (4, 2)).astype(np.uint8))
        if observation is not None:
            observations[0][:] = observation
        ends = rng.random(4)
        truncated = ends > 0.9
        finals = tuple(x[truncated] for x in observations)
        mask = np.ones((4, 5), np.bool_)
        writer.append(
            np.arange(4),
            observations,
            mask,
            rng.normal(size=(4, 2)).astype(np.float32),
            rng.integers(0, 2, (4, 2)).astype(np.int32),
            rng.normal(-4, 1, 4).astype(np.float32),
            version,
            rng.normal(size=4).astype(np.float32),
            ends < 0.1,
            truncated,
            finals,
            mask[truncated],
            np.zeros((4, state), np.float32),
            np.zeros(4, np.int64),
            np.zeros((truncated.sum(), state), np.float32),
        )


def filled(settings=SMALL, steps=30, seed=3):
    rows = make_rows(SPEC, 1000)
    writer = Writer(rows)
    fill(rows, writer, steps)
    return PPO(SPEC, settings, rows, "cpu", seed), rows, writer


def test_decoupled_objective_of_hand_computed_rows():
    # Ratios of current over proximal 1.5, 0.5, 1.5; weights of proximal over behaviour 0.5, 2 cut to 1, 1.
    proximal = torch.tensor([0.2, 0.4, 0.2]).log()
    log_prob = torch.tensor([0.3, 0.2, 0.3]).log()
    weights = importance_weights(proximal, torch.tensor([0.4, 0.2, 0.2]).log(), 1.0)
    torch.testing.assert_close(weights, torch.tensor([0.5, 1.0, 1.0]))
    advantages = torch.tensor([2.0, -1.0, -2.0])
    # min(1.5 * 2, 1.2 * 2) * 0.5 = 1.2; min(-0.5, -0.8) = -0.8; min(-3, -2.4) = -3
    loss = policy_loss(log_prob, proximal, weights, advantages, torch.tensor(0.2))
    assert loss.item() == pytest.approx(-(1.2 - 0.8 - 3) / 3)


def test_objective_of_parts_by_hand():
    # Ratios 2 and 0.5 of one row, 1 and 1.5 of another; a clip of 0.2; advantages 1 and -1.
    proximal = torch.zeros(2, 2)
    log_prob = torch.tensor([[2.0, 0.5], [1.0, 1.5]]).log()
    loss = policy_loss(log_prob, proximal, torch.tensor([1.0, 0.5]), torch.tensor([1.0, -1.0]), torch.tensor(0.2))
    assert loss.item() == pytest.approx(-(1 * (1.2 + 0.5) / 2 + 0.5 * (-1 - 1.5) / 2) / 2)


def hand_made(continuous, branches):
    """A distribution of one row, and what it is made of."""
    log_std = torch.full((continuous,), -1.0, requires_grad=True)
    logits = torch.linspace(0, 1, branches * 3).view(1, branches, 3).requires_grad_()
    gaussian = Gaussian(torch.zeros(1, continuous), log_std) if continuous else None
    categorical = Categorical(logits.log_softmax(-1)) if branches else None
    return ActionDistribution(gaussian, categorical), [x for x in (log_std, logits) if x.numel()]


@pytest.mark.parametrize(
    ("continuous", "branches", "weighs"),
    [(3, 0, [1.0]), (0, 1, [1.0]), (0, 4, [4.0]), (3, 1, [4 / 3, 4.0]), (2, 2, [2.0, 4.0])],
)
def test_by_branch_the_entropy_weighs_as_much_more_as_in_ml_agents(continuous, branches, weighs):
    """The ratio of the entropy's gradient to that of the objective, over the same ratio for whole actions."""
    distribution, parts = hand_made(continuous, branches)
    actions = torch.ones(1, continuous), torch.ones(1, branches, dtype=torch.int64)
    one, clip = torch.ones(1), torch.tensor(0.2)
    found = []
    for log_prob, entropy in (
        (distribution.log_prob(*actions), distribution.entropy()),
        (distribution.log_probs(*actions), distribution.entropy_by_branch()),
    ):
        loss = policy_loss(log_prob, log_prob.detach(), one, one, clip)
        of_loss = torch.autograd.grad(loss, parts, retain_graph=True)
        of_entropy = torch.autograd.grad(entropy, parts, retain_graph=True)
        found.append([(e.norm() / p.norm()).item() for e, p in zip(of_entropy, of_loss)])
    assert [by_branch / joint for joint, by_branch in zip(*found)] == pytest.approx(weighs)


@pytest.mark.parametrize("cell", ["none", "lstm"])
def test_ppo_learns_by_branch(cell):
    network = NetworkSettings([16], joint_choices=0, memory=MemorySettings(Cell[cell], 8, 4))
    settings = replace(SMALL, network=network, entropy_per=EntropyPer["branch"], entropy_coef=0.01)
    layout = Layout(SPEC, network.memory.numbers)
    rows = Rows(layout, bytearray(layout.memory_bytes(1000)), 1000)
    writer = Writer(rows)
    fill(rows, writer, 30, state=network.memory.numbers)
    ppo = PPO(SPEC, settings, rows, "cpu", 0)
    before = ppo.policy.flat.clone()
    ppo.update()
    assert (ppo.policy.flat - before).abs().max() > 0
    assert all(math.isfinite(value) for value in ppo.metrics().values())
    assert ppo.metrics()["update/skipped_non_finite"] == 0


def test_only_the_proximal_policy_bounds_the_step():
    # Behaviour ten times as likely: the coupled ratio would be clipped and its gradient gone.
    log_prob = torch.tensor([0.05]).log().requires_grad_()
    proximal = torch.tensor([0.05]).log()
    weights = importance_weights(proximal, torch.tensor([0.5]).log(), 1.0)
    policy_loss(log_prob, proximal, weights, torch.tensor([-1.0]), torch.tensor(0.2)).backward()
    assert log_prob.grad.item() == pytest.approx(0.1)


def test_value_clipping_takes_the_gradient_from_values_that_have_moved_too_far():
    values = torch.tensor([1.5, 1.1, 0.5], requires_grad=True)
    old, targets = torch.ones(3), torch.tensor([3.0, 3.0, 3.0])
    loss = value_loss(values, old, targets, 0.2)
    # Errors: clipped to 1.2: 1.8^2 > 1.5^2; free: 1.9^2; moved away from the target: 2.5^2 > 2.2^2.
    assert loss.item() == pytest.approx(0.5 * (1.8**2 + 1.9**2 + 2.5**2) / 3)
    loss.backward()
    assert values.grad[0] == 0
    assert (values.grad[1:] < 0).all()


def test_update_takes_one_rollout_of_minibatches_of_one_size(monkeypatch):
    ppo, rows, _ = filled()
    sizes = []
    learn = ppo._learn
    monkeypatch.setattr(ppo, "_learn", lambda batch: (sizes.append(len(batch.targets)), learn(batch)))
    ppo.update()
    assert sizes == [16] * 2 * math.ceil(40 / 16)
    assert ppo.updates == 1
    assert rows.sampleable - ppo._reader.waiting == 40


def batches_of(loop, count):
    """What a loop's updates learned from, after so many."""
    batches, evaluate = [], loop.algorithm._evaluate
    loop.algorithm._evaluate = lambda rollout: batches.append((rollout, evaluate(rollout))) or batches[-1][1]
    loop.run(count * loop.algorithm.settings.rollout_size + len(loop.envs))
    del loop.algorithm._evaluate
    assert len(batches) == count
    return batches


def test_fresh_data_is_exactly_as_likely_as_when_it_was_acted():
    loop = Loop(pendulum, replace(CARTPOLE, rollout_size=128, minibatch_size=64, epochs=2), 1, envs=8)
    scales = []
    publish = loop.publish
    loop.publish = lambda: (publish(), scales.append(loop.actor.scale.clone()))
    for rollout, batch in batches_of(loop, 4)[1:]:
        fresh = torch.from_numpy(rollout.versions == rollout.versions.max())
        assert fresh.sum() >= 120
        np.testing.assert_allclose(batch.proximal_log_prob[fresh], rollout.log_prob[fresh], atol=1e-5)
        torch.testing.assert_close(batch.weights[fresh], torch.ones(int(fresh.sum())), atol=2e-5, rtol=0)
    assert not torch.equal(scales[0], scales[-1]), "what was seen is merged all the same"


def test_vtrace_equals_gae_on_fresh_data(monkeypatch):
    settings = replace(CARTPOLE, rollout_size=128, minibatch_size=64, epochs=2, normalize_returns=False)
    loop = Loop(pendulum, settings, 1, envs=8)
    loop.run(144)
    for _ in range(40):
        loop.step()
    ppo = loop.algorithm
    _, rollout = (ppo._reader.take(2, 1) for _ in range(2))
    assert ppo.updates == 1
    assert (rollout.versions == 2).all()
    corrected = ppo._evaluate(rollout)
    monkeypatch.setattr(ppo.settings, "vtrace", False)
    plain = ppo._evaluate(rollout)
    torch.testing.assert_close(corrected.targets, plain.targets, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(corrected.advantages, plain.advantages, rtol=1e-3, atol=1e-3)


def test_the_first_rollout_is_learned_from_normalized_and_weighed_by_how_likely_it_was_raw():
    loop = Loop(pendulum, replace(CARTPOLE, rollout_size=128, minibatch_size=64, epochs=2), 1, envs=8)
    ((rollout, batch),) = batches_of(loop, 1)
    inputs = batch.played.inputs[0]
    torch.testing.assert_close(inputs.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs.std(0, correction=0), torch.ones(3), atol=1e-4, rtol=0)
    ratio = (batch.proximal_log_prob - torch.from_numpy(rollout.log_prob)).exp()
    assert (ratio != 1).all()
    torch.testing.assert_close(batch.weights, ratio.clamp(max=1))


def test_update_without_a_full_rollout_does_nothing():
    ppo, _, _ = filled(steps=5)
    before = ppo.policy.flat.clone()
    ppo.update()
    assert ppo.updates == 0
    assert torch.equal(ppo.policy.flat, before)


def test_rows_older_than_the_lag_are_dropped_and_counted():
    ppo, rows, writer = filled()
    ppo.updates = 10
    fill(rows, writer, 30, seed=1, version=11)
    waiting = ppo._reader.waiting
    ppo.update()
    assert ppo.updates == 11
    # Open rows of version 1 may have become complete since; they too are too old.
    assert ppo.dropped >= 110
    assert ppo._reader.waiting == waiting - 40 - ppo.dropped


def test_value_of_what_follows_comes_from_the_next_row_or_the_bootstrap():
    ppo, _, _ = filled()
    torch.nn.init.ones_(ppo.value.head.bias)
    rollout = ppo._reader.take(1, 4)
    values = torch.arange(40.0)[:, None]
    following, linked = ppo._next_values(rollout, values, torch.zeros(1), torch.zeros(len(rollout.ends), 0))
    for i in range(40):
        if i in rollout.ends:
            assert not linked[i]
            assert (following[i] == 0) == rollout.terminated[i]
        else:
            assert linked[i]
            assert following[i] == i + 1


def test_deviations_stay_within_bounds_and_come_back_from_them():
    ppo, _, _ = filled(replace(SMALL, learning_rate=1.0))
    low, high = LOG_STD_RANGE

    def push(outwards):
        nothing = 0 * sum(parameter.sum() for parameter in ppo.parameters["all"])
        ppo.step("all", nothing + outwards * (ppo.policy.log_std[1] - ppo.policy.log_std[0]))

    for _ in range(15):
        push(1)
    assert ppo.policy.log_std.tolist() == [high, low]
    for _ in range(15):
        push(-1)
    assert ppo.policy.log_std[0] < high
    assert ppo.policy.log_std[1] > low


def test_an_entropy_bonus_alone_raises_deviations_to_one_and_no_further(monkeypatch):
    ppo, rows, writer = filled(replace(SMALL, learning_rate=0.005, entropy_coef=1.0, epochs=8, max_lag=99))
    monkeypatch.setattr("algorithms.ppo.ppo.policy_loss", lambda log_prob, *_: 0 * log_prob.sum())
    for seed in range(10):
        fill(rows, writer, 20, seed=seed)
        ppo.update()
    assert ppo.updates == 10
    # Adam's momentum carries a deviation a little further once its gradient has gone.
    assert ((ppo.policy.log_std > 0) & (ppo.policy.log_std < 0.1)).all()


def test_statistics_stand_still_while_an_update_learns(monkeypatch):
    ppo, _, _ = filled()
    seen = []
    learn = ppo._learn
    monkeypatch.setattr(ppo, "_learn", lambda batch: (learn(batch), seen.append(ppo.policy.scale.clone())))
    ppo.update()
    assert all(torch.equal(scale, seen[0]) for scale in seen)
    assert not torch.equal(seen[0], torch.ones(3))


def test_rows_that_are_not_finite_are_skipped_counted_and_harm_nothing():
    rows = make_rows(SPEC, 1000)
    writer = Writer(rows)
    fill(rows, writer, 30, observation=np.nan)
    ppo = PPO(SPEC, SMALL, rows, "cpu", 1)
    before = ppo.policy.flat.clone()
    ppo.update()
    assert torch.equal(ppo.policy.flat, before)
    reported = ppo.metrics()
    assert reported.pop("update/skipped_non_finite") == 6
    assert reported.pop("update/skipped_share") == 1
    of_settings = {"update/learning_rate", "ppo/clip", "ppo/entropy_coef", "policy/deviation"}
    del reported["reward/extrinsic_return_scale"]
    bad = {key for key in reported if key.startswith("not_finite/")}
    assert {"not_finite/loss/policy", "not_finite/loss/value"} <= bad
    assert set(reported) - bad == of_settings & set(reported)


def test_metrics_tell_schedules_lag_deviation_and_how_much_values_explain():
    settings = replace(
        SMALL,
        target_kl=None,
        normalize_returns=False,
        clip_end=0.1,
        entropy_coef_end=0.0,
        learning_rate_end=0.0,
        schedule_samples=100,
    )
    ppo, _, _ = filled(replace(settings, max_lag=2))
    ppo.updates = 2  # the rows were acted by version 1, and the newest is 3
    ppo.set_progress(50)
    seen = []
    learn = ppo._learn
    ppo._learn = lambda batch: (seen.append(batch), learn(batch))
    ppo.update()
    metrics = ppo.metrics()
    assert metrics["ppo/lag"] == 2
    assert metrics["ppo/clip"] == pytest.approx(0.15)
    assert metrics["ppo/entropy_coef"] == pytest.approx(0.005)
    assert metrics["update/learning_rate"] == pytest.approx(settings.learning_rate / 2)
    assert metrics["policy/deviation"] == pytest.approx(math.exp(-0.5), rel=0.01)
    assert 0 < metrics["policy/entropy_discrete"] < math.log(6)  # choices of 3 and 2, some of which are forbidden
    # An epoch of 3 minibatches of 16 rows holds all 40, and some of them twice.
    pairs = {(float(value), float(target)) for each in seen[:3] for value, target in zip(each.values, each.targets)}
    assert len(pairs) == 40
    values, targets = np.array(sorted(pairs)).T
    assert metrics["ppo/return"] == pytest.approx(targets.mean(), rel=1e-4)
    assert metrics["value/explained_variance"] == pytest.approx(
        1 - np.var(targets - values) / np.var(targets), rel=1e-3
    )
    assert "value/explained_variance" not in ppo.metrics()  # no rollout since


@pytest.mark.parametrize("shared", [False, True])
def test_restored_ppo_goes_on_exactly(shared):
    settings = PPOSettings(**{**vars(SMALL), "shared_trunk": shared, "learning_rate_end": 0.0, "schedule_samples": 200})
    ppo, rows, writer = filled(settings)
    ppo.set_progress(50)
    ppo.update()
    other = PPO(SPEC, settings, rows, "cpu", seed=99)
    other.load_state_dict(ppo.state_dict())
    fill(rows, writer, 10, seed=5, version=2)
    for _ in range(2):
        ppo.update()
        other.update()
    assert ppo.updates == other.updates == 3
    mine, theirs = ppo.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert [key for key in mine if not torch.equal(mine[key], theirs[key])] == []


@pytest.mark.parametrize("shared", [False, True])
def test_policy_moves_as_far_however_wrong_the_value_is(shared, monkeypatch):
    """What is clipped of the value's gradient takes nothing from the policy's."""
    steps = []
    for error in (1.0, 1e6):
        ppo, _, _ = filled(replace(SMALL, shared_trunk=shared, normalize_returns=False, value_weight=1e-3))
        batch = ppo._evaluate(ppo._reader.take(1, 1))
        batch = batch._replace(targets=batch.values + error * 1e3)
        monkeypatch.setattr(
            ppo.optimizers["all"], "_apply", lambda vector, gradient, *_: steps.append(gradient.clone())
        )
        ppo._learn(batch)
    head = ppo.policy.head.weight.numel()
    before = sum(p.numel() for name, p in ppo.policy.named_parameters() if not name.startswith("head")) - 2
    policy = slice(2 + before, 2 + before + head)  # behind log_std and the trunk: no part of the value's
    assert steps[0][policy].abs().max() > 1e-3
    torch.testing.assert_close(steps[1][policy], steps[0][policy])
    value = steps[1][ppo.vectors["policy"].numel() :]
    assert 0.1 < value.norm() < 0.51, "the value's own is clipped at 0.5"


def test_weights_alone_carry_the_policy_over():
    ppo, rows, _ = filled()
    ppo.update()
    other = PPO(SPEC, SMALL, rows, "cpu", seed=99)
    other.load_weights({k: v for k, v in ppo.state_dict().items() if k.startswith("weights/")})
    assert torch.equal(ppo.policy.flat, other.policy.flat)
    assert other.updates == 0


def test_metrics_are_finite_and_named():
    ppo, _, _ = filled()
    ppo.update()
    metrics = ppo.metrics()
    assert {"loss/policy", "loss/value", "policy/entropy", "policy/kl"} <= metrics.keys()
    assert all(math.isfinite(value) for value in metrics.values())


def test_learns_cartpole():
    # How sums are rounded decides where a seed ends: eight of eight between 102 and 500 steps. By luck alone it is 22.
    lengths = []
    for seed in range(1, 6):
        loop = Loop(cartpole, CARTPOLE, seed, envs=16)
        loop.run(SAMPLES)
        lengths.append(evaluate(loop.algorithm.policy, cartpole, 5))
    assert np.median(lengths) > 100


@pytest.mark.parametrize("lag", [0, 4])
def test_learns_hybrid_actions_under_masks(lag):
    """From data four versions old too; of five seeds without a lag, each ends between 0.861 and 0.871."""
    settings = PPOSettings(
        network=NetworkSettings([64, 64]),
        rollout_size=512,
        minibatch_size=128,
        epochs=8,
        learning_rate=1e-3,
        max_lag=lag + 1,
    )
    assert learn_hybrid_toy(settings, seed=1, samples=12_000, lag=lag) > 0.6


@pytest.mark.parametrize(("learning_rate", "turn"), [(1e-6, 1.5), (0.03, 1 / 1.5)])
def test_the_rate_turns_to_where_an_update_moves_the_policy_as_asked(learning_rate, turn):
    ppo, *_ = filled(replace(SMALL, learning_rate=learning_rate, target_kl=0.01))
    ppo.update()
    rate = ppo.optimizers["all"].learning_rate
    assert float(rate) == pytest.approx(turn * learning_rate)
    ppo.set_progress(10)
    assert float(rate) == pytest.approx(turn * learning_rate)
    other, *_ = filled(replace(SMALL, learning_rate=learning_rate, target_kl=0.01))
    other.load_state_dict(ppo.state_dict())
    assert float(other.optimizers["all"].learning_rate) == float(rate)


def test_choices_alone_earn_an_entropy_bonus_unless_its_weight_is_set():
    ppo, *_ = filled(replace(SMALL, entropy_coef=None))
    choices = Categorical(torch.full((5, 1, 4), 0.25).log())
    hybrid = ActionDistribution(Gaussian(torch.zeros(5, 2), torch.zeros(2)), choices)
    assert float(ppo._paid(hybrid, None)) == pytest.approx(math.log(4))
    assert ppo._paid(hybrid._replace(discrete=None), None) == 0
    both, *_ = filled(replace(SMALL, entropy_coef=0.1))
    assert float(both._paid(hybrid, None)) == pytest.approx(float(hybrid.entropy()))
