"""What curiosity and RND have in common: what they pay, where episodes end, and that they go on where they stopped."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from algorithms.policy import Policy
from algorithms.rewards.curiosity import Curiosity
from algorithms.rewards.intrinsic import Intrinsic, Model, Scale
from algorithms.rewards.registry import make_rewards
from algorithms.rewards.rnd import RND
from algorithms.rewards.settings import CuriositySettings, IntrinsicSettings, RNDSettings
from tests.algorithms.rewards.intrinsic_steps import CONTINUOUS, HYBRID, PICTURES, SPECS, policy_of, steps_of

CPU = torch.device("cpu")
YES = torch.tensor(True)


def make_curiosity(settings, policy, seed):
    return Curiosity("curiosity", settings, policy, {}, seed)


def make_rnd(settings, policy, seed):
    return RND("rnd", settings, policy, {}, seed)


MAKERS = [(make_curiosity, CuriositySettings), (make_rnd, RNDSettings)]
both = pytest.mark.parametrize(("make", "settings_type"), MAKERS, ids=["curiosity", "rnd"])


def fast(settings_type, **changes):
    values = {"strength": 1.0, "hidden": [32], "encoding_size": 16, "learning_rate": 3e-3, "updates_per_sample": 1.0}
    return settings_type(**{**values, "batch_size": 32, **changes})


class Known(Model):
    """Takes the first continuous action for the error."""

    def __init__(self):
        super().__init__()
        self.losses = {"known/loss": 1.0}
        self.parameter = nn.Parameter(torch.zeros(()))

    def errors(self, policy, steps):
        return steps.continuous[:, 0] + 0 * self.parameter

    def evaluate(self, policy, steps):
        errors = self.errors(policy, steps)
        return errors, (errors,)


class KnownSignal(Intrinsic):
    def make_model(self):
        return Known()


def known(**changes):
    settings = IntrinsicSettings(**{"strength": 1.0, "updates_per_sample": 1.0, "batch_size": 99, **changes})
    return KnownSignal("known", settings, policy_of(CONTINUOUS), {}, seed=0)


def errors_of(*errors, terminated=None):
    count = len(errors)
    ends = torch.tensor(terminated or [False] * count)
    return steps_of(CONTINUOUS, count)._replace(
        continuous=torch.tensor([[error, 0.0] for error in errors]), terminated=ends
    )


def test_scale_is_the_root_mean_square_of_all_batches():
    rng = np.random.default_rng(0)
    scale, batches = Scale(100.0, 0.5, CPU), rng.uniform(0, 4, (6, 8)).astype(np.float32)
    mean = weight = 0.0
    for i, batch in enumerate(batches):
        scale.merge(torch.from_numpy(batch), torch.ones(8, dtype=torch.bool), YES)
        root = np.sqrt((batches[: i + 1] ** 2).mean())
        mean, weight = (0.5 * mean + 0.5 * (batch / root).mean()), 0.5 * weight + 0.5
        assert scale.root().item() == pytest.approx(root, rel=1e-5)
        assert scale.mean().item() == pytest.approx(mean / weight, rel=1e-5)
    np.testing.assert_allclose(scale.scaled(torch.from_numpy(batches[0])), batches[0] / root, rtol=1e-5)


def test_first_rewards_are_no_larger_than_later_ones():
    novelty = known()
    assert not novelty.score(errors_of(3.0, 4.0)).rewards.any(), "before the first update nothing is known"
    novelty.learn(errors_of(300.0, 400.0), 1)
    root = np.sqrt((300**2 + 400**2) / 2)
    assert novelty.score(errors_of(300.0, 400.0)).rewards.tolist() == pytest.approx([300 / root, 400 / root])


def test_scoring_moves_no_statistics():
    novelty = known()
    novelty.learn(errors_of(1.0, 2.0), 1)
    before = novelty.state_dict()
    novelty.score(errors_of(50.0, 70.0))
    after = novelty.state_dict()
    assert [key for key in before if not torch.equal(before[key], after[key])] == []


def test_an_outlier_is_bounded_and_hardly_moves_the_scale():
    novelty = known(bound=4.0)
    for _ in range(50):
        novelty.learn(errors_of(*[1.0] * 20), 1)
    assert novelty.score(errors_of(1e9)).rewards.tolist() == [4.0]
    novelty.learn(errors_of(1e9, *[1.0] * 19), 1)
    # One of 20 rows of one of 51 batches counts 16 instead of 1.
    assert novelty._scale.root().item() == pytest.approx(np.sqrt(1 + 15 / 20 / 51), rel=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_batch_that_is_not_finite_is_left_out(bad):
    novelty = known()
    novelty.learn(errors_of(1.0, 2.0), 1)
    before = novelty._scale.numbers.clone()
    novelty._scale.merge(torch.tensor([1.0, bad]), torch.tensor([True, True]), torch.tensor(False))
    assert torch.equal(novelty._scale.numbers, before)


def test_steps_left_out_are_counted_and_what_was_not_finite_is_named():
    novelty = make_rnd(RNDSettings(strength=1.0, batch_size=4, updates_per_sample=1.0), policy_of(HYBRID), seed=0)
    with torch.no_grad():
        next(novelty._model.parameters()).fill_(float("nan"))
    novelty.learn(steps_of(HYBRID, 8), 1)
    reported = novelty.metrics()
    assert reported["rnd/skipped_non_finite"] == 1
    assert reported["not_finite/rnd/loss"] == 1


def test_errors_of_nothing_at_all_do_not_stop_the_scale_for_ever():
    scale, all_of_them = Scale(5.0, 0.1, CPU), torch.ones(2, dtype=torch.bool)
    scale.merge(torch.zeros(2), all_of_them, YES)
    assert scale.scaled(torch.ones(2)).tolist() == [0, 0]
    scale.merge(torch.full((2,), 2.0), all_of_them, YES)
    assert scale.root().item() == pytest.approx(np.sqrt(2))


def test_steps_that_terminated_earn_the_mean_and_so_does_what_follows_them():
    novelty = known()
    ended = [False, False, True]
    novelty.learn(errors_of(1.0, 3.0, 1e6, terminated=ended), 1)
    root = np.sqrt((1 + 9) / 2)
    mean = 2 / root
    scores = novelty.score(errors_of(1.0, 3.0, 1e6, terminated=ended))
    assert scores.rewards.tolist() == pytest.approx([1 / root, 3 / root, mean])
    assert scores.absorbing.item() == pytest.approx(mean)


def test_an_end_is_worth_what_a_value_that_episodes_do_not_cut_off_is_worth_on_average():
    """Episodes of errors 1, 2, 3 and 6, then the next one begins: by hand, each step's value over all that follows."""
    errors, discount = np.array([1.0, 2.0, 3.0, 6.0]), 0.9
    novelty = known()
    novelty.learn(errors_of(*errors), 1)
    paid = errors / np.sqrt((errors**2).mean())
    forever = np.linalg.solve(np.eye(4) - discount * np.roll(np.eye(4), 1, axis=1), paid)
    assert forever[0] == pytest.approx(paid[0] + discount * forever[1])
    assert forever[3] == pytest.approx(paid[3] + discount * forever[0])
    absorbing = novelty.score(errors_of(*errors)).absorbing.item()
    assert absorbing / (1 - discount) == pytest.approx(forever.mean(), rel=1e-5)


def test_a_batch_of_ends_alone_teaches_nothing():
    novelty = known()
    novelty.learn(errors_of(1.0, 3.0), 1)
    before = novelty._scale.numbers.clone()
    novelty.learn(errors_of(7.0, 9.0, terminated=[True, True]), 1)
    assert torch.equal(novelty._scale.numbers, before)


@both
def test_steps_that_terminated_are_left_out_of_learning(make, settings_type):
    one, other = (make(fast(settings_type), policy_of(HYBRID), seed=0) for _ in range(2))
    steps = steps_of(HYBRID, 32, ends=0.4)
    assert 0 < steps.terminated.sum() < 32
    one.learn(steps, 3)
    spoilt = tuple(torch.where(steps.terminated[:, None], x + 77, x) for x in steps.observations)
    other.learn(steps._replace(observations=spoilt), 3)
    mine, theirs = one.state_dict(), other.state_dict()
    for key in ("model", "scale"):
        torch.testing.assert_close(mine[key], theirs[key], msg=key)
    assert one.metrics() == pytest.approx(other.metrics(), rel=1e-4)


@both
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_what_is_new_earns_more_than_what_was_often_seen(make, settings_type, spec):
    novelty = make(fast(settings_type), policy_of(spec), seed=0)
    seen = steps_of(spec, 32, ends=0.1)
    # Always the same few steps; what is new lies elsewhere.
    for _ in range(3):
        novelty.learn(seen, 100)
    new = steps_of(spec, 32, seed=1, shift=3.0)
    assert novelty.score(new).rewards.mean() > 2 * novelty.score(seen).rewards.mean() > 0
    assert novelty.score(new).rewards.max() <= 5


@both
def test_losses_fall_and_metrics_tell_of_it(make, settings_type):
    novelty = make(fast(settings_type), policy_of(HYBRID), seed=0)
    name = "curiosity" if make is make_curiosity else "rnd"
    losses = {"curiosity": ["loss_forward", "loss_inverse"], "rnd": ["loss"]}[name]
    steps = steps_of(HYBRID, 32)
    assert novelty.metrics() == {f"{name}/skipped_non_finite": 0}
    novelty.learn(steps, 1)
    first = novelty.metrics()
    assert list(first) == [f"{name}/{key}" for key in (*losses, "error_scale", "reward_mean", "skipped_non_finite")]
    novelty.learn(steps, 300)
    novelty.metrics()
    novelty.learn(steps, 1)
    last = novelty.metrics()
    assert all(last[f"{name}/{key}"] < 0.3 * first[f"{name}/{key}"] for key in losses)


@both
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_continuation_from_a_saved_state_is_exact(make, settings_type, spec):
    settings = fast(settings_type, updates_per_sample=0.7, batch_size=8, strength_end=0.5, schedule_samples=10)
    policy = policy_of(spec)
    one, other = make(settings, policy, seed=0), make(settings, policy, seed=9)
    steps = steps_of(spec, 20, ends=0.2)
    one.set_progress(3)
    one.learn(steps, 2)
    other.load_state_dict({key: value.clone() for key, value in one.state_dict().items()})
    assert torch.equal(one.score(steps).rewards, other.score(steps).rewards)
    for novelty in (one, other):
        for _ in range(3):
            novelty.learn(steps, 1)
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert [key for key in mine if not torch.equal(mine[key], theirs[key])] == []


@both
@pytest.mark.parametrize("spec", [HYBRID, PICTURES], ids=lambda spec: spec.name)
def test_nothing_waits_for_the_device(make, settings_type, spec, monkeypatch):
    novelty = make(fast(settings_type, batch_size=8), policy_of(spec), seed=0)
    steps = steps_of(spec, 20, ends=0.2)

    def waits(*_):
        raise AssertionError("this waits for the device")

    for name in ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__", "__index__"):
        monkeypatch.setattr(Tensor, name, waits)
    novelty.set_progress(5)
    novelty.learn(steps, 3)
    novelty.score(steps)


@both
def test_the_seed_decides_everything_and_the_policy_stays_as_it_is(make, settings_type):
    policy, steps = policy_of(HYBRID), steps_of(HYBRID, 40)
    before = policy.flat.clone()
    one, same, other = (make(fast(settings_type), policy, seed) for seed in (0, 0, 1))
    for novelty in (one, same, other):
        torch.rand(3)  # torch's own random state means nothing to them
        novelty.learn(steps, 5)
    assert torch.equal(one.state_dict()["model"], same.state_dict()["model"])
    assert not torch.equal(one.state_dict()["model"], other.state_dict()["model"])
    assert torch.equal(policy.flat, before)


@both
def test_strength_follows_its_schedule(make, settings_type):
    novelty = make(fast(settings_type, strength_end=0.0, schedule_samples=100), policy_of(HYBRID), seed=0)
    strengths = []
    for samples in (0, 75, 1000):
        novelty.set_progress(samples)
        strengths.append(float(novelty.strength))
    assert strengths == [1.0, 0.25, 0.0]


def test_signals_are_made_only_if_they_ever_pay():
    def made(**signals: IntrinsicSettings) -> list[str]:
        policy: Policy = policy_of(HYBRID)
        return list(make_rewards(signals, policy, {}, seed=0, discount=0.99)._signals)

    assert made() == []
    assert made(curiosity=CuriositySettings(strength=0.1), rnd=RNDSettings(strength=0.1)) == ["curiosity", "rnd"]
    assert made(rnd=RNDSettings(strength_end=0.1, schedule_samples=9)) == ["rnd"]
