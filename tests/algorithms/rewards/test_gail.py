"""GAIL: what the discriminator sees and learns, and what it pays."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from algorithms.imitation.demonstrations import Demonstrations, Steps
from algorithms.metrics import below
from algorithms.policy import Policy
from algorithms.ppo.ppo import PPO
from algorithms.ppo.settings import PPOSettings
from algorithms.rewards.base import Scores
from algorithms.rewards.gail import GAIL, Discriminator, Seen, _after_ends, discriminator_loss, reward_of
from algorithms.rewards.settings import GAILSettings, RewardType
from algorithms.sac.sac import SAC
from algorithms.sac.settings import SACSettings
from algorithms.settings import CloningSettings, NetworkSettings
from buffers.demonstrations import demonstration_rows
from buffers.rows import Writer
from envs.spec import BehaviorSpec, Demonstration, ObservationSpec
from tests.algorithms.loops import make_rows
from tests.algorithms.ppo.test_ppo import SPEC, fill

VECTOR = ObservationSpec("vector", (2,), "float32")
IMAGE = ObservationSpec("image", (20, 24, 3), "uint8", 1 / 255)
HYBRID = BehaviorSpec("b", (VECTOR,), 2, (3, 2), masked=True)
DISCOUNT = 0.9


def gail_of(settings, policy, rows):
    return GAIL("gail", replace(settings, demos="x"), policy, {"x": rows}, seed=0)


def demonstrated(spec=SPEC, steps=30, seed=0, shift=0.0, terminated=True):
    """Rows of one episode with random content; float32 observations lie around `shift`."""
    rng = np.random.default_rng(seed)

    def observe(count):
        floats = (rng.normal(shift, 1, (count, *o.shape)).astype(np.float32) for o in spec.observations)
        return tuple(x if o.dtype == "float32" else x.astype(o.dtype) for x, o in zip(floats, spec.observations))

    discrete = np.stack([rng.integers(0, n, steps) for n in spec.branches], axis=1) if spec.branches else None
    episode = Demonstration(
        observations=observe(steps),
        mask=np.ones((steps, spec.mask_size), np.bool_),
        continuous=rng.uniform(-1, 1, (steps, spec.continuous_size)).astype(np.float32),
        discrete=np.zeros((steps, 0), np.int32) if discrete is None else discrete.astype(np.int32),
        rewards=np.ones(steps, np.float32),
        terminated=terminated,
        final_observations=observe(0 if terminated else 1),
        final_mask=np.ones((0 if terminated else 1, spec.mask_size), np.bool_),
    )
    return demonstration_rows(spec, [episode])


def policy_of(spec):
    return Policy(spec, NetworkSettings([8]), "sac")


def steps_of(spec, count, seed=1, shift=0.0):
    return Demonstrations(demonstrated(spec, count, seed, shift), torch.device("cpu"), 0).steps


def test_loss_of_hand_computed_logits():
    logits, absorbing = torch.tensor([0.0, 2.0]), torch.tensor(-1.0)
    nobody, one = torch.tensor([False, False]), torch.tensor([True, False])
    surprise = [math.log(1 + math.exp(-x)) for x in (0, 2, -1)]
    assert discriminator_loss(logits, nobody, absorbing, True).item() == pytest.approx(sum(surprise[:2]) / 2)
    assert discriminator_loss(logits, one, absorbing, True).item() == pytest.approx(sum(surprise) / 3)
    surprise = [math.log(1 + math.exp(x)) for x in (0, 2, -1)]
    assert discriminator_loss(logits, one, absorbing, False).item() == pytest.approx(sum(surprise) / 3)


@pytest.mark.parametrize(
    ("form", "at_one", "least", "largest"),
    [
        ("signed", 1.0, -3.0, 3.0),
        ("positive", math.log(1 + math.e), math.log(1 + math.exp(-3)), math.log(1 + math.exp(3))),
        ("negative", -math.log(1 + math.exp(-1)), -math.log(1 + math.exp(3)), -math.log(1 + math.exp(-3))),
    ],
)
def test_every_form_pays_what_it_says_and_is_bounded(form, at_one, least, largest):
    paid = reward_of(torch.tensor([1.0, -100.0, 100.0]), RewardType[form], bound=3.0)
    assert paid.tolist() == pytest.approx([at_one, least, largest])


def test_discriminator_sees_actions_as_the_game_took_them():
    settings = GAILSettings(use_actions=True)
    policy, discriminator = policy_of(HYBRID), Discriminator(HYBRID, settings, NetworkSettings())
    mask = torch.tensor([[True, False, True, True, True], [True, True, True, True, True]])
    steps = Steps(
        (torch.zeros(2, 2),), mask, torch.tensor([[0.5, 7.0], [0, -3]]), torch.tensor([[1, 0], [2, 1]]), mask[:, 0], ()
    )
    seen = discriminator.see(policy, steps)
    # Continuous, clipped; three choices and two; not absorbing. The first row's first choice was forbidden.
    assert seen[-1].tolist() == [[0.5, 1, 0, 0, 0, 1, 0, 0], [0, -1, 0, 0, 1, 0, 1, 0]]


def test_without_actions_it_sees_observations_alone():
    seen = Discriminator(HYBRID, GAILSettings(), NetworkSettings()).see(policy_of(HYBRID), steps_of(HYBRID, 4))
    assert seen[-1].tolist() == [[0]] * 4


def test_penalty_counts_the_gradient_over_all_inputs():
    spec = BehaviorSpec("b", (VECTOR, IMAGE), 1, (2,))
    settings = GAILSettings(use_actions=True, hidden=[])
    gail = gail_of(settings, policy_of(spec), demonstrated(spec))

    class Known(nn.Module):
        """Slopes of 2 in the vector and in the image as networks see it, 1 in actions: a gradient's norm is known."""

        def forward(self, seen: Seen):
            image = (seen[1] * IMAGE.scale).flatten(1)
            return 2 * seen[0].sum(-1) + 2 * image[:, 0] + seen[-1][:, :-1].sum(-1)

    own, theirs = (gail._discriminator.see(gail.policy, steps_of(spec, 5, seed)) for seed in (1, 2))
    gail._discriminator = Known()
    norm = math.sqrt(2 * 4 + 4 + 3)
    assert gail._penalty(theirs, own).item() == pytest.approx((norm - 1) ** 2, rel=1e-4)


def test_penalty_is_also_taken_on_the_way_to_the_absorbing_state():
    seen = (torch.ones(2, 3), torch.ones(2, 4, 4, 3), torch.tensor([[0.5, 0], [0.5, 0]]))
    after = _after_ends(seen, torch.tensor([False, True]))
    assert after[-1].tolist() == [[0.5, 0], [0, 1]]
    for part, original in zip(after[:-1], seen[:-1]):
        assert torch.equal(part[0], original[0])
        assert not part[1].any()


@pytest.mark.parametrize("use_actions", [False, True])
def test_learns_to_tell_demonstrations_apart(use_actions):
    settings = GAILSettings(use_actions=use_actions, learning_rate=3e-3, updates_per_sample=1.0, strength=2.0)
    gail = gail_of(settings, policy_of(SPEC), demonstrated(shift=1.5, steps=200))
    own = steps_of(SPEC, 200, shift=-1.5)
    gail.learn(own, samples=150)
    metrics = gail.metrics()
    assert metrics["gail/accuracy_demonstrated"] > 0.9
    assert metrics["gail/accuracy_own"] > 0.9
    theirs = gail.score(gail._demonstrations.steps).rewards.mean()
    assert theirs > 2 > -2 > gail.score(own).rewards.mean()


def test_ends_that_demonstrators_avoid_are_paid_badly():
    settings = GAILSettings(learning_rate=3e-3, updates_per_sample=1.0)
    gail = gail_of(settings, policy_of(SPEC), demonstrated(steps=200, terminated=False))
    gail.learn(steps_of(SPEC, 64)._replace(terminated=torch.rand(64) < 0.3), samples=150)
    assert gail.score(steps_of(SPEC, 4)).absorbing < -0.1


def test_gradient_steps_follow_the_samples():
    gail = gail_of(GAILSettings(updates_per_sample=0.3), policy_of(SPEC), demonstrated())
    for _ in range(10):
        gail.learn(steps_of(SPEC, 8), samples=4)
    assert int(gail._optimizer.steps) == 12


def test_strength_decays():
    gail = gail_of(GAILSettings(strength=1.0, strength_end=0.0, schedule_samples=100), policy_of(SPEC), demonstrated())
    strengths = []
    for samples in (0, 75, 1000):
        gail.set_progress(samples)
        strengths.append(float(gail.strength))
    assert strengths == [1.0, 0.25, 0.0]


REWARDS = {"gail": GAILSettings(demos="x")}
SMALL = NetworkSettings([16])


def made(settings, seed=3, demos=None):
    """An algorithm with GAIL on rows of thirty steps an agent."""
    rows = make_rows(SPEC, 1000)
    fill(rows, Writer(rows), 30)
    algorithm = SAC if isinstance(settings, SACSettings) else PPO
    return algorithm(SPEC, settings, rows, "cpu", seed, REWARDS, {"x": demos or demonstrated()}), rows


def pay(algorithm, monkeypatch, reward):
    """Every step pays the same, the absorbing state included."""
    monkeypatch.setattr(algorithm.rewards, "learn", lambda *_: None)
    nothing = torch.tensor(0.0)
    monkeypatch.setattr(
        algorithm.rewards,
        "score",
        lambda given, steps: [Scores(torch.full_like(given, reward), nothing + reward), Scores(0 * given, nothing)],
    )


@pytest.mark.parametrize("reward", [1.0, -1.0])
def test_neither_living_nor_dying_earns_anything_by_itself_in_sac(monkeypatch, reward):
    sac, _ = made(SACSettings(network=SMALL, discount=DISCOUNT, n_step=3, batch_size=64))
    pay(sac, monkeypatch, reward)
    drawn = sac._draw(sac._replay, 64)
    returns = sac._to_device(drawn).returns
    ended = torch.from_numpy(drawn.numbers[:, -1] == 0)
    assert 0 < ended.sum() < 64
    # Whoever goes on is worth reward / (1 - discount), so whoever ends must be as well.
    worth = reward / (1 - DISCOUNT)
    torch.testing.assert_close(returns[ended], torch.full_like(returns[ended], worth))
    going = returns + torch.from_numpy(drawn.bootstrap_discount[:, 0]) * worth
    torch.testing.assert_close(going[~ended], torch.full_like(going[~ended], worth))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("reward", [1.0, -1.0])
def test_neither_living_nor_dying_earns_anything_by_itself_in_ppo(monkeypatch, reward, normalize):
    sizes = {"rollout_size": 40, "minibatch_size": 40}
    ppo, _ = made(PPOSettings(network=SMALL, discount=DISCOUNT, normalize_returns=normalize, **sizes))
    pay(ppo, monkeypatch, reward)

    def worth():
        if not normalize:
            return torch.tensor([reward / (1 - DISCOUNT)])
        return torch.tensor([reward / (1 - DISCOUNT), 0.0]) / ppo.rewards.scale.scales.float()

    monkeypatch.setattr(ppo.value, "forward", lambda inputs, *_: worth().expand(len(inputs[0]), -1))
    rollout = ppo._reader.take(1, 4)
    assert rollout.terminated.any()
    batch = ppo._evaluate(rollout)
    torch.testing.assert_close(batch.targets, worth().expand(40, -1))
    assert batch.targets.abs().max() <= 10.001 or not normalize


@pytest.mark.parametrize(
    "settings",
    [
        SACSettings(
            network=SMALL,
            batch_size=32,
            n_step=3,
            demos="x",
            cloning=CloningSettings("x", updates_before=3, anneal_samples=90),
        ),
        PPOSettings(
            network=SMALL,
            rollout_size=24,
            minibatch_size=12,
            cloning=CloningSettings("x", updates_before=3, anneal_samples=90),
        ),
    ],
    ids=["sac", "ppo"],
)
def test_continuation_from_a_saved_state_is_exact(settings):
    algorithm, rows = made(settings)
    for _ in range(3):
        algorithm.cloning.update()
    algorithm.set_progress(10)
    algorithm.update()
    state = {key: value.clone() for key, value in algorithm.state_dict().items()}
    other = type(algorithm)(SPEC, settings, rows, "cpu", 9, REWARDS, {"x": demonstrated()})
    other.load_state_dict(state)
    assert other.cloning.updates_left == 0
    assert below(state, "rewards/gail/").keys() >= {"discriminator", "owed", "strength"}
    for _ in range(2):
        algorithm.update()
        other.update()
    mine, theirs = algorithm.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert [key for key in mine if not torch.equal(mine[key], theirs[key])] == []


LEVELS = np.arange(1, 26, dtype=np.float32)
ALGORITHMS = pytest.mark.parametrize(
    "settings",
    [
        SACSettings(network=SMALL, batch_size=32),
        PPOSettings(network=SMALL, rollout_size=40, minibatch_size=20, max_lag=99),
    ],
    ids=["sac", "ppo"],
)


def at_levels():
    """One demonstrated step at each level, which is the first number of the observation."""
    rows = demonstrated(steps=25)
    rows.fields["observation_0"][1:26] = LEVELS[:, None] * [1, 0, 0]
    return rows


def level_inputs(algorithm):
    """What networks see of each level."""
    observations = (torch.from_numpy(LEVELS[:, None] * [1, 0, 0]).float(), torch.zeros(25, 2, dtype=torch.uint8))
    return algorithm.policy.prepare(observations)[0][:, 0]


@pytest.mark.parametrize("cloned", [False, True], ids=["alone", "with cloning"])
@ALGORITHMS
def test_the_normalizer_begins_with_the_demonstrations_once(settings, cloned):
    cloning = CloningSettings("x") if cloned else CloningSettings()
    algorithm, _ = made(replace(settings, cloning=cloning), demos=at_levels())
    assert algorithm.normalizer.count == 25
    torch.testing.assert_close(level_inputs(algorithm), torch.from_numpy((LEVELS - 13) / LEVELS.std()))


@pytest.mark.parametrize("cloned", [False, True], ids=["alone", "with cloning"])
@ALGORITHMS
def test_an_agent_that_knows_the_first_level_alone_tells_demonstrated_levels_apart(settings, cloned):
    cloning = CloningSettings("x") if cloned else CloningSettings()
    algorithm, rows = made(replace(settings, cloning=cloning), demos=at_levels())
    rows.fields["observation_0"][:] = [1, 0, 0]
    for _ in range(2):
        algorithm.update()
    for _ in range(200):
        algorithm.normalize([rows.fields["observation_0"][1:101]])
    inputs = level_inputs(algorithm)
    assert inputs[-1] < algorithm.policy.network.clip_inputs
    assert (inputs.diff() > 0.05).all()


def test_a_share_of_each_batch_of_sac_is_demonstrated(monkeypatch):
    sac, _ = made(SACSettings(network=SMALL, batch_size=40, n_step=2, demos="x", demo_share=0.25))
    seen, learned = [], []
    to_device = sac._to_device
    monkeypatch.setattr(sac, "_to_device", lambda drawn: seen.append(drawn) or to_device(drawn))
    monkeypatch.setattr(sac.rewards, "learn", lambda steps, *_: learned.append(len(steps.mask)))
    sac.update()
    (drawn,) = seen
    assert drawn.mask.shape[:2] == (40, 3), "every step is looked at, and what comes after"
    assert (drawn.rewards[-10:] == drawn.valid[-10:]).all(), "every demonstrated step pays 1"
    assert learned == [30], "what was demonstrated is not the agent's own"
