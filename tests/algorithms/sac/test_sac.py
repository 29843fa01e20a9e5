import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from algorithms.networks.distributions import Categorical
from algorithms.ops.adam import _can_fuse
from algorithms.sac.losses import Sampled, critic_loss, soft_values, temperature_gradient
from algorithms.sac.passes import policy_pass, sample
from algorithms.sac.sac import SAC
from algorithms.sac.settings import SACSettings
from algorithms.settings import NetworkSettings
from buffers.rows import Writer
from envs.spec import BehaviorSpec, ObservationSpec
from tests.algorithms.loops import learn_hybrid_toy, make_rows
from tests.algorithms.ppo.test_ppo import SPEC, fill

SMALL = SACSettings(network=NetworkSettings([16]), batch_size=32, start_samples=20, n_step=3)
NO_ACTIONS = torch.zeros(1, 0)


def filled(settings=SMALL, seed=3, observation=None):
    rows = make_rows(SPEC, 1000)
    writer = Writer(rows)
    fill(rows, writer, 30, observation=observation)
    return SAC(SPEC, settings, rows, "cpu", seed), rows, writer


def test_discrete_expectation_of_hand_computed_heads():
    # One branch, probabilities 1/4 and 3/4; the smaller of the critics' values: 1 and 2; temperature 0.5.
    log_probs = torch.tensor([[[0.25, 0.75]]]).log()
    q = torch.tensor([[[[1.0, 4.0]]], [[[3.0, 2.0]]]])
    value = soft_values(Sampled(NO_ACTIONS, torch.zeros(1), Categorical(log_probs)), q.amin(0), torch.tensor([0.5]))
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert value.item() == pytest.approx(0.25 * 1 + 0.75 * 2 + 0.5 * entropy)


def test_every_block_has_its_own_temperature():
    log_probs = torch.full((1, 2, 2), 0.5).log()
    q = torch.ones(2, 1, 2, 2)
    sampled = Sampled(torch.zeros(1, 1), torch.tensor([-3.0]), Categorical(log_probs))
    value = soft_values(sampled, q.amin(0), torch.tensor([0.1, 1.0, 10.0]))
    assert value.item() == pytest.approx(2 + 0.1 * 3 + 1.0 * math.log(2) + 10 * math.log(2))


def test_continuous_value_is_the_smaller_critic_plus_entropy():
    q = torch.tensor([[5.0], [4.0]])
    value = soft_values(Sampled(torch.zeros(1, 1), torch.tensor([2.0]), None), q.amin(0), torch.tensor([0.5]))
    assert value.item() == pytest.approx(4 - 0.5 * 2)


def test_values_of_choices_add_up_over_branches():
    q = torch.tensor([[[[1.0, 2.0], [10.0, 20.0]]], [[[3.0, 4.0], [30.0, 40.0]]]])
    loss, gradient = critic_loss(q, torch.tensor([[1, 0]]), torch.tensor([10.0]), torch.ones(1))
    assert loss.item() == ((12 - 10) ** 2 + (34 - 10) ** 2) / 2
    assert gradient.tolist() == [[[[0, 2], [2, 0]]], [[[0, 24], [24, 0]]]]


def test_critic_loss_of_hand_computed_values():
    q, even = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0.5, 0.5])
    loss, gradient = critic_loss(q, torch.zeros(2, 0), torch.tensor([1.0, 1.0]), even)
    assert loss.item() == pytest.approx((0 + 1 + 4 + 9) / 4)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 1.0], [2.0, 3.0]]) / 2)


def test_temperature_rises_where_the_entropy_is_below_its_target():
    gradient = temperature_gradient(torch.tensor([0.1, 0.9]), torch.tensor([0.5, 0.5]))
    assert gradient[0] < 0 < gradient[1]


def test_targets_are_n_step_returns_plus_the_discounted_soft_value():
    sac, _, _ = filled()
    drawn = sac._replay.sample(np.random.default_rng(0), 32, 3, 0.99)
    batch = sac._to_device(drawn)
    np.testing.assert_allclose(batch.returns, (drawn.rewards @ 0.99 ** np.arange(3)), rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        inputs = sac.policy.prepare(batch.observations)
        outputs, _ = policy_pass(sac.policy, inputs, batch)
        _, following = sample(sac.policy, outputs, batch)[0].split(32)
        targets = sac._targets(tuple(x[32:] for x in inputs), batch, following, torch.zeros(3))
    ended = torch.from_numpy(drawn.bootstrap_discount[:, 0] == 0)
    assert ended.any()
    assert torch.equal(targets[ended], batch.returns[ended])
    assert not torch.isclose(targets[~ended], batch.returns[~ended]).any()


def test_what_follows_the_policy_at_ends_sends_it_no_gradient(monkeypatch):
    sac, _, _ = filled()
    batch = sac._to_device(sac._replay.sample(np.random.default_rng(0), 32, 3, 0.99))
    found = []
    monkeypatch.setattr(sac.optimizers["all"], "step", lambda parts: (found.append([*parts]), torch.tensor(True))[1])
    policy = len(list(sac.policy.parameters()))
    count = len(batch.returns)
    sac.learn(batch)
    # Other observations at the ends change targets, and with them the critics' gradient, but not the policy's.
    batch.observations[0][count:] = 1 - batch.observations[0][count:]
    sac.learn(batch)
    for before, after in zip(found[0][:policy], found[1][:policy]):
        torch.testing.assert_close(before, after)
    assert not torch.equal(found[0][policy], found[1][policy])


def test_targets_follow_the_critics_by_their_rate():
    sac, _, _ = filled()
    target = sac.vectors["targets"].clone()
    sac.update()
    expected = target + sac.settings.target_rate * (sac.vectors["critics"] - target)
    torch.testing.assert_close(sac.vectors["targets"], expected)


def test_update_has_a_bounded_number_of_operations():
    class Count(TorchDispatchMode):
        operations = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            assert "_local_scalar_dense" not in str(function), "an update waits for the device"
            Count.operations += 1
            return function(*args, **(kwargs or {}))

    rows = make_rows(BehaviorSpec("b", (ObservationSpec("o", (3,), "float32"),), 0, (4,)), 100)
    Writer(rows).append(
        np.arange(2),
        (np.zeros((2, 3), np.float32),),
        np.zeros((2, 0), np.bool_),
        np.zeros((2, 0), np.float32),
        np.zeros((2, 1), np.int32),
        np.zeros(2, np.float32),
        1,
        np.ones(2, np.float32),
        np.ones(2, np.bool_),
        np.zeros(2, np.bool_),
        (np.zeros((0, 3), np.float32),),
        np.zeros((0, 0), np.bool_),
    )
    sac = SAC(rows.layout.spec, SACSettings(network=NetworkSettings([16, 16])), rows, "cpu", 1)
    sac.update()  # what is made at the first update is made now
    with Count():
        sac.update()
    # Without torch's fused Adam, as with 2.0, that step takes some 25 more.
    assert Count.operations <= (160 if _can_fuse(torch.device("cpu")) else 190)


def test_rows_that_are_not_finite_are_skipped_counted_and_harm_nothing():
    sac, _, _ = filled(observation=np.nan)
    before = sac.policy.flat.clone(), sac.vectors["critics"].clone(), sac.vectors["targets"].clone()
    sac.update()
    for old, new in zip(before, (sac.policy.flat, sac.vectors["critics"], sac.vectors["targets"])):
        assert torch.equal(old, new)
    told = sac.metrics()
    assert told.pop("update/skipped_non_finite") == 1
    assert set(told) == {"not_finite/loss/critic", "not_finite/loss/policy", "not_finite/sac/value"} | {
        key for key in told if key.startswith("not_finite/policy/entropy_")
    }


@pytest.mark.parametrize("learn_temperature", [True, False])
def test_restored_sac_goes_on_exactly(learn_temperature):
    settings = SACSettings(**{**vars(SMALL), "learn_temperature": learn_temperature})
    sac, rows, writer = filled(settings)
    for _ in range(3):
        sac.update()
    other = SAC(SPEC, settings, rows, "cpu", seed=99)
    other.load_state_dict(sac.state_dict())
    fill(rows, writer, 10, seed=5)
    for _ in range(12):
        sac.update()
        other.update()
    mine, theirs = sac.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert [key for key in mine if not torch.equal(mine[key], theirs[key])] == []


def test_fixed_temperature_stays():
    sac, _, _ = filled(SACSettings(**{**vars(SMALL), "learn_temperature": False, "temperature": 0.02}))
    for _ in range(5):
        sac.update()
    assert sac.metrics()["sac/temperature_branch_0"] == pytest.approx(0.02)
    torch.testing.assert_close(sac.state_dict()["weights/temperatures"].exp(), torch.full((2,), 0.02))


@pytest.mark.parametrize("dueling", [False, True])
def test_learns_hybrid_actions_under_masks(dueling):
    settings = SACSettings(
        network=NetworkSettings([64, 64]),
        batch_size=64,
        learning_rate=1e-3,
        updates_per_sample=0.25,
        start_samples=500,
        target_rate=0.02,
        dueling=dueling,
    )
    assert learn_hybrid_toy(settings, seed=1, samples=5000) > 0.6
