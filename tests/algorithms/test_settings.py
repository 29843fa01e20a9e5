import math
from dataclasses import replace

import pytest

from algorithms.ppo.settings import PPOSettings
from algorithms.rewards.registry import default_rewards, validate_rewards
from algorithms.rewards.settings import CuriositySettings, ExtrinsicSettings, GAILSettings, RNDSettings
from algorithms.sac.settings import SACSettings
from algorithms.settings import NetworkSettings, scheduled
from envs.spec import UserError


def test_defaults_are_valid():
    PPOSettings().validate()
    SACSettings().validate()
    validate_rewards(default_rewards(), 0.99)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("minibatch_size", 0),
        ("minibatch_size", 4096),
        ("rollout_size", 0),
        ("epochs", 0),
        ("discount", 1.5),
        ("discount", float("nan")),
        ("gae_lambda", -0.1),
        ("learning_rate", 0.0),
        ("learning_rate_end", -1e-4),
        ("clip", 0.0),
        ("entropy_coef", -1.0),
        ("max_lag", -1),
        ("buffer_capacity", 100),
        ("value_clip", 0.0),
        ("network", NetworkSettings(hidden=[64, 0])),
        ("network.initial_deviation", 0.0),
        ("network.initial_deviation", 8.0),
    ],
)
def test_ppo_value_out_of_range_is_refused_by_its_key(key, value):
    key, _, inner = key.partition(".")
    value = NetworkSettings(**{inner: value}) if inner else value
    with pytest.raises(UserError, match=f"algorithm.{key}"):
        replace(PPOSettings(schedule_samples=1000), **{key: value}).validate()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch_size", 0),
        ("n_step", 0),
        ("discount", -0.5),
        ("updates_per_sample", 0.0),
        ("target_rate", 1.5),
        ("temperature", 0.0),
        ("discrete_entropy", 2.0),
        ("buffer_capacity", 100),
        ("max_gradient_norm", -1.0),
    ],
)
def test_sac_value_out_of_range_is_refused_by_its_key(key, value):
    with pytest.raises(UserError, match=f"algorithm.{key}"):
        replace(SACSettings(), **{key: value}).validate()


def test_a_share_that_leaves_nothing_of_ones_own_is_refused():
    with pytest.raises(UserError, match=r"algorithm.demo_share=0.99 of algorithm.batch_size=16 leaves no row"):
        SACSettings(demos="x", demo_share=0.99, batch_size=16).validate()
    SACSettings(demo_share=0.99, batch_size=16).validate()


@pytest.mark.parametrize("key", ["strength", "updates_per_sample", "bound", "gradient_penalty"])
def test_infinite_rewards_are_refused(key):
    with pytest.raises(UserError, match=rf"behaviors.A.reward.gail.{key}=inf"):
        validate_rewards({"gail": GAILSettings(**{key: math.inf})}, 0.99, "behaviors.A.")


def test_gail_needs_a_discount_below_one():
    with pytest.raises(UserError, match=r"^behaviors.A.algorithm.discount=1.0 with behaviors.A.reward.gail"):
        validate_rewards({"gail": GAILSettings(demos="x")}, 1.0, "behaviors.A.")
    validate_rewards(default_rewards(), 1.0)


def test_negative_strength_is_refused():
    with pytest.raises(UserError, match=r"reward.extrinsic.strength=-1"):
        validate_rewards({"extrinsic": ExtrinsicSettings(-1.0)}, 0.99)


NOVELTY = {"curiosity": CuriositySettings, "rnd": RNDSettings}


@pytest.mark.parametrize("signal", NOVELTY)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("strength", -0.1),
        ("strength", math.nan),
        ("strength_end", -1.0),
        ("hidden", [64, 0]),
        ("encoding_size", 1),
        ("learning_rate", 0.0),
        ("updates_per_sample", math.inf),
        ("batch_size", 0),
        ("bound", 0.0),
    ],
)
def test_value_of_novelty_out_of_range_is_refused_by_its_key(signal, key, value):
    settings = replace(NOVELTY[signal](schedule_samples=100), **{key: value})
    with pytest.raises(UserError, match=rf"behaviors.A.reward.{signal}.{key}(\[1\])?="):
        validate_rewards({signal: settings}, 0.99, "behaviors.A.")


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_both_models_of_curiosity_have_to_learn(share):
    with pytest.raises(UserError, match=rf"reward.curiosity.forward_share={share} must lie between 0 and 1"):
        validate_rewards({"curiosity": CuriositySettings(forward_share=share)}, 0.99)


@pytest.mark.parametrize("signal", NOVELTY)
def test_novelty_that_fades_in_needs_its_schedule_and_a_discount_below_one(signal):
    fading = NOVELTY[signal](strength_end=0.1)
    with pytest.raises(UserError, match=rf"reward.{signal}.strength_end=0.1 needs reward.{signal}.schedule_samples"):
        validate_rewards({signal: fading}, 0.99)
    with pytest.raises(UserError, match=rf"^algorithm.discount=1.0 with reward.{signal}: "):
        validate_rewards({signal: replace(fading, schedule_samples=10)}, 1.0)


def test_novelty_is_paid_for_only_if_it_has_a_strength():
    assert not CuriositySettings().pays
    assert not RNDSettings(strength_end=0.0, schedule_samples=10).pays
    assert CuriositySettings(strength=0.1).pays
    assert RNDSettings(strength_end=0.1, schedule_samples=10).pays


def test_schedule_without_its_length_is_refused():
    with pytest.raises(UserError, match="schedule_samples"):
        PPOSettings(clip_end=0.1).validate()


def test_schedule_is_a_line_that_stays_at_its_end():
    values = [scheduled(1.0, 0.2, 100, samples) for samples in (0, 50, 100, 1000)]
    assert values == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert scheduled(1.0, None, None, 500) == 1.0
