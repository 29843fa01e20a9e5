"""PPO and SAC learn the same in any unit of a reward, and predictions keep their meaning as the unit moves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from algorithms.ppo.ppo import PPO
from algorithms.ppo.settings import PPOSettings
from algorithms.rewards.settings import ExtrinsicSettings, RNDSettings
from algorithms.sac.sac import SAC
from algorithms.sac.settings import SACSettings
from algorithms.settings import NetworkSettings
from buffers.rows import Writer
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from tests.algorithms.algorithm_toys import Steps as Plain
from tests.algorithms.loops import make_rows
from tests.algorithms.sac.test_sac import targets_of

VECTOR = (ObservationSpec("o", (3,), "float32"),)
ACTIONS = {"continuous": (2, ()), "branch": (0, (3,)), "branches": (0, (3, 2, 2)), "hybrid": (1, (3,))}
SMALL = NetworkSettings([16], joint_choices=0)
SAC_SMALL = SACSettings(network=SMALL, batch_size=32, start_samples=20, n_step=2)
PPO_SMALL = PPOSettings(network=SMALL, rollout_size=40, minibatch_size=20, epochs=2, max_lag=50)
BOTH = {"extrinsic": ExtrinsicSettings(), "rnd": RNDSettings(strength=0.5, hidden=[8], updates_per_sample=0.1)}


def spec_of(actions):
    return BehaviorSpec("b", VECTOR, *ACTIONS[actions])


def play(rows, writer, reward, steps=40, seed=0, ends=0.1):
    """Four agents act at random; `reward` (4,) of each step's number."""
    spec, rng = rows.layout.spec, np.random.default_rng(seed)
    for step in range(steps):
        seen, ended = rng.normal(size=(4, 3)).astype(np.float32), rng.random(4)
        done, cut = ended < ends, ended > 1 - ends
        acted = rng.uniform(-1, 1, (4, spec.continuous_size)).astype(np.float32)
        mask, choices = np.ones((4, 0), np.bool_), rng.integers(0, 2, (4, len(spec.branches))).astype(np.int32)
        paid = np.broadcast_to(np.float32(reward(step, rng)), 4)
        finals = (seen[cut],), mask[cut]
        writer.append(
            np.arange(4), (seen,), mask, acted, choices, np.full(4, -1.0, np.float32), 1, paid, done, cut, *finals
        )


def noise(step, rng):
    return rng.normal(1, 1, 4)


def made(settings, actions="continuous", reward=noise, rewards=None, capacity=2000, **more):
    rows = make_rows(spec_of(actions), capacity)
    writer = Writer(rows)
    play(rows, writer, reward, **more)
    kind = SAC if isinstance(settings, SACSettings) else PPO
    return kind(rows.layout.spec, settings, rows, "cpu", 3, rewards), rows, writer


def game_q(sac, network):
    """What a critic says of some actions in the game's units, (2, N)."""
    torch.manual_seed(0)
    spec = sac.spec
    features = network.features([torch.randn(50, 3)], torch.zeros(50, 0))[0]
    q = network(features, torch.rand(50, spec.continuous_size))
    choices = torch.zeros(50, len(spec.branches), dtype=torch.int64)
    taken = q if not spec.branches else q.gather(-1, choices[None, ..., None].expand(2, -1, -1, 1)).sum((-2, -1))
    return taken.detach() * sac.rewards.units


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("actions", ACTIONS)
def test_critics_of_sac_and_their_targets_mean_the_same_after_the_unit_has_moved(actions, dueling):
    sac, rows, writer = made(replace(SAC_SMALL, dueling=dueling), actions)
    for _ in range(3):
        sac.update()
    networks = sac.networks.critic, sac.networks.target_critic
    before = [game_q(sac, network) for network in networks]
    scale = sac.rewards.units.clone()
    play(rows, writer, lambda step, rng: 1000.0 * rng.random(4), seed=1)
    sac._measure_all(sac._stream)
    assert sac.rewards.units > 50 * scale
    for network, expected in zip(networks, before):
        torch.testing.assert_close(game_q(sac, network), expected, rtol=1e-4, atol=1e-5)


def test_each_value_of_ppo_means_the_same_after_its_unit_has_moved():
    ppo, rows, writer = made(PPO_SMALL, rewards=BOTH)
    ppo.update()
    inputs = [torch.randn(50, 3)]
    features, _ = ppo.policy.features(inputs, torch.zeros(50, 0))
    before = ppo.value(inputs, features, torch.zeros(50, 0)) * ppo.rewards.units
    units = ppo.rewards.units.clone()
    play(rows, writer, lambda step, rng: 1000.0 * rng.random(4), seed=1)
    with torch.no_grad():
        while (rollout := ppo._reader.take_any()) is not None:
            ppo._score(rollout)
    assert ppo.rewards.units[0] > 50 * units[0]
    after = ppo.value(inputs, features, torch.zeros(50, 0)) * ppo.rewards.units
    assert before.shape == (50, 2)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def last_after(zeros):
    return lambda step, rng: float(step == zeros)


@pytest.mark.parametrize("reward", [last_after(12_500), lambda step, rng: 7.0], ids=["sparse", "constant"])
@pytest.mark.parametrize("kind", ["ppo", "sac"])
def test_targets_are_within_the_bound_after_50_000_zeros_and_of_a_constant_reward(kind, reward):
    """What four agents get at the last of 12,501 steps; episodes of a constant reward are long."""
    size = 50_004
    settings = PPOSettings(network=SMALL, rollout_size=size - 4, minibatch_size=10_000, epochs=1)
    settings = settings if kind == "ppo" else SAC_SMALL
    algorithm, _, _ = made(settings, reward=reward, steps=12_502, capacity=60_000, ends=0.0005)
    if kind == "ppo":
        targets = algorithm._evaluate(algorithm._reader.take(1, 1)).targets
    else:
        algorithm.update()
        rows = algorithm.rows.fields
        paid = np.flatnonzero((rows["reward"] != 0) & (rows["next"] >= 0))[-4:]
        algorithm._replay._starts = lambda rng, count: paid.repeat(8)
        targets = targets_of(algorithm, algorithm._to_device(algorithm._draw(algorithm._replay, 32)))
    assert targets.isfinite().all()
    assert 0.1 < targets.abs().max() <= 12, "10, and what a fresh value says of what follows"


@pytest.mark.parametrize(
    ("settings", "updates"),
    [(SAC_SMALL, 1000), (replace(SAC_SMALL, accelerate=False), 30), (PPO_SMALL, 6)],
    ids=["sac", "textbook", "ppo"],
)
def test_rewards_in_another_unit_have_the_same_targets(settings, updates):
    found = []
    for factor in (1.0, 2.0**10, 2.0**-10):
        algorithm, rows, writer = made(
            settings, reward=lambda step, rng, factor=factor: factor * rng.normal(1, 1, 4), steps=80
        )
        for i in range(updates):
            if i % 50 == 20:
                play(rows, writer, lambda step, rng, factor=factor: factor * rng.normal(4, 2, 4), steps=5, seed=i)
            algorithm.update()
        if isinstance(algorithm, SAC):
            found.append(targets_of(algorithm, algorithm._to_device(algorithm._draw(algorithm._replay, 64))))
        else:
            play(rows, writer, lambda step, rng, factor=factor: factor * rng.normal(4, 2, 4), seed=99)
            found.append(algorithm._evaluate(algorithm._reader.take_any()).targets)
        assert algorithm.updates == updates
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=1e-5)


def test_metrics_are_in_the_games_units():
    values = []
    for factor in (1.0, 1024.0):
        sac, _, _ = made(SAC_SMALL, reward=lambda step, rng, factor=factor: factor * rng.normal(1, 1, 4))
        ppo, _, _ = made(PPO_SMALL, reward=lambda step, rng, factor=factor: factor * rng.normal(1, 1, 4))
        sac.update()
        ppo.update()
        values.append({**sac.metrics(), **{f"ppo {key}": value for key, value in ppo.metrics().items()}})
    one, other = values
    for name, power in {
        "sac/value": 1,
        "loss/critic": 2,
        "reward/extrinsic_return_scale": 1,
        "sac/temperature_continuous": 0,
        "ppo ppo/value": 1,
        "ppo loss/value": 2,
        "ppo loss/policy": 0,
        "ppo policy/kl": 0,
    }.items():
        assert other[name] == pytest.approx(one[name] * 1024**power, rel=1e-4), name


@pytest.mark.parametrize("settings", [SAC_SMALL, PPO_SMALL], ids=["sac", "ppo"])
def test_raw_units_are_those_of_a_scale_of_1(settings):
    algorithm, _, _ = made(replace(settings, normalize_returns=False), rewards=BOTH)
    assert algorithm.rewards.scale is None
    assert len(algorithm.rewards.discounts) == 1, "one value of the sum"
    algorithm.update()
    assert algorithm.rewards.units.tolist() == [1.0]
    assert not [key for key in algorithm.state_dict() if "returns" in key or "stream" in key]


@pytest.mark.parametrize("settings", [SAC_SMALL, PPO_SMALL], ids=["sac", "ppo"])
def test_weights_of_a_run_in_raw_units_keep_the_meaning_of_their_predictions(settings):
    raw, _, _ = made(replace(settings, normalize_returns=False))
    algorithm, _, _ = made(settings)
    algorithm.load_weights(raw.weights())
    assert algorithm.rewards.units.tolist() == [1.0]
    if isinstance(algorithm, SAC):
        before = game_q(algorithm, algorithm.networks.critic)
        algorithm._measure_all(algorithm._stream)
        torch.testing.assert_close(game_q(algorithm, algorithm.networks.critic), before, rtol=1e-4, atol=1e-5)
    else:
        weight = algorithm.value.head.weight.clone()
        with torch.no_grad():
            algorithm._score(algorithm._reader.take_any())
        torch.testing.assert_close(algorithm.value.head.weight * algorithm.rewards.units[0], weight)
    assert algorithm.rewards.units.tolist() != [1.0]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("settings", [SAC_SMALL, PPO_SMALL], ids=["sac", "ppo"])
def test_with_signals_of_two_discounts_a_restored_algorithm_goes_on_exactly(settings, normalize):
    settings = replace(settings, normalize_returns=normalize)
    rewards = {**BOTH, "rnd": replace(BOTH["rnd"], discount=0.9)}
    algorithm, rows, writer = made(settings, "hybrid", rewards=rewards)
    algorithm.update()
    other = type(algorithm)(rows.layout.spec, settings, rows, "cpu", 9, rewards)
    other.load_state_dict({key: value.clone() for key, value in algorithm.state_dict().items()})
    play(rows, writer, noise, seed=7)
    for each in (algorithm, other):
        for _ in range(41 if isinstance(each, SAC) else 2):
            each.update()
    mine, theirs = algorithm.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert [key for key in mine if not torch.equal(mine[key], theirs[key])] == []


@pytest.mark.parametrize("actions", ACTIONS)
def test_each_discount_of_sac_has_a_target_of_its_own(actions):
    """Against the formulas: the critic that says less of the sum counts for both, the entropy for the first alone."""
    rewards = {"extrinsic": ExtrinsicSettings(2.0), "rnd": RNDSettings(strength=0.5, hidden=[8], discount=0.5)}
    settings = replace(SAC_SMALL, normalize_returns=False, n_step=3, discount=0.75)
    sac, _, _ = made(settings, actions, rewards=rewards)
    assert sac._accelerated is None
    assert sac.rewards.discounts == [0.75, 0.5]
    for vector in (sac.vectors["targets"], sac.policy.flat[sac.policy.parameter_start :]):
        vector.copy_(torch.randn(vector.shape, generator=torch.Generator().manual_seed(1)))
    drawn = sac._draw(sac._replay, 32)
    steps = sac._steps(drawn, np.ones_like(drawn.valid))
    (by_rnd, absorbing) = next(iter(sac.rewards._signals.values())).score(steps)
    batch = sac._to_device(drawn)
    targets = targets_of(sac, batch)

    with torch.no_grad():
        policy, critic = sac.policy, sac.networks.target_critic
        inputs, state = [policy.prepare(batch.observations)[0][32:]], batch.recurrent_state
        continuous, discrete = policy.distribution(policy.features(inputs, state)[0], batch.mask[32:])
        noise_ = batch.noise[32:]
        acted, log_prob = continuous.actions(noise_) if continuous is not None else (noise_, noise_.sum(-1))
        q = critic(critic.features(inputs, state)[0], acted)
    alpha = settings.temperature
    for row in range(32):
        taken = int(drawn.valid[row].sum())
        ended = drawn.numbers[row, taken] == 0
        totals, parts = [], []
        for twin in range(2):
            by_value = q[twin, :, row]  # (V,) or (V, B, K)
            if discrete is None:
                parts.append(by_value.tolist())
            else:
                probs = discrete.log_probs[row].exp()
                parts.append((by_value * probs).sum((-2, -1)).tolist())
            totals.append(sum(parts[-1]))
        smaller = int(totals[1] < totals[0])
        chosen = list(parts[smaller])
        if discrete is not None and len(sac.spec.branches) == 1:  # choices are compared one by one
            pick = q[:, :, row].sum(1).argmin(0)
            chosen = [float((q[:, v, row].gather(0, pick[None])[0] * probs).sum()) for v in range(2)]
        if discrete is not None:
            chosen[0] -= alpha * float((probs * discrete.log_probs[row]).sum())
        if sac.spec.continuous_size:
            chosen[0] -= alpha * float(log_prob[row])
        for v, (discount, paid) in enumerate([(0.75, 2.0 * drawn.rewards[row]), (0.5, 0.5 * by_rnd.view(32, 3)[row])]):
            expected = sum(discount**k * float(paid[k]) for k in range(taken))
            worth = 0.5 * float(absorbing) / (1 - 0.5) if v else 0.0
            expected += discount**taken * (worth if ended else chosen[v])
            assert float(targets[v, row]) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_each_signal_of_ppo_has_targets_by_its_own_discount():
    rewards = {**BOTH, "rnd": replace(BOTH["rnd"], discount=0.5)}
    ppo, _, _ = made(replace(PPO_SMALL, gae_lambda=1.0, vtrace=False), rewards=rewards)
    with torch.no_grad():
        ppo.value.head.weight.zero_()
        ppo.value.head.bias.zero_()
    rollout = ppo._reader.take(1, 1)
    seen, combine = [], ppo.rewards.combine
    ppo.rewards.combine = lambda scores: seen.append(combine(scores)) or seen[0]
    batch = ppo._evaluate(rollout)
    (earned,) = seen
    assert batch.targets.shape == (40, 2)
    raw, targets = torch.zeros(2, 40), torch.zeros(2, 40)
    for v, discount in enumerate((0.99, 0.5)):
        following, segment = 0.0, len(rollout.ends) - 1
        for i in reversed(range(40)):
            if segment >= 0 and i == rollout.ends[segment]:  # the values of what follows are 0, but of what ends
                following = 0.0 if rollout.bootstrapped[segment] else float(earned.absorbing[v])
                segment -= 1
            following = float(earned.rewards[v, i]) + discount * following
            targets[v, i] = raw[v, i] = following
    torch.testing.assert_close(batch.targets.t(), targets, rtol=1e-4, atol=1e-5)
    advantages = raw[0] + 0.5 * raw[1]  # by their strengths
    torch.testing.assert_close(
        batch.advantages, (advantages - advantages.mean()) / advantages.std(), rtol=1e-3, atol=1e-4
    )


def test_signals_of_several_discounts_need_an_algorithm_that_learns_several_values():
    rows = make_rows(spec_of("continuous"), 100)
    settings = Plain.Settings(network=SMALL)
    Plain(rows.layout.spec, settings, rows, "cpu", 1, {"extrinsic": ExtrinsicSettings(discount=0.99)})
    with pytest.raises(UserError, match=r"^reward.extrinsic.discount=0.9: this algorithm learns one value, of algo"):
        Plain(rows.layout.spec, settings, rows, "cpu", 1, {"extrinsic": ExtrinsicSettings(discount=0.9)})
