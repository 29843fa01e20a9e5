"""Sets of entities in reward signals: each sees them by an attention of its own, and learns from them."""

from dataclasses import replace

import pytest
import torch

from algorithms.policy import Policy
from algorithms.rewards.gail import GAIL
from algorithms.rewards.settings import CuriositySettings, GAILSettings, RNDSettings
from algorithms.settings import AttentionSettings, NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec
from tests.algorithms.rewards.intrinsic_steps import PICTURES, steps_of
from tests.algorithms.rewards.test_gail import demonstrated
from tests.algorithms.rewards.test_intrinsic import make_curiosity, make_rnd

THINGS = ObservationSpec("things", (5, 3), "float32", entities=True)
SPEC = BehaviorSpec("sets", (*PICTURES.observations, THINGS), 1, (3,))
NETWORK = NetworkSettings([8], attention=AttentionSettings(8, 2))


def make_gail(settings, policy, seed):
    return GAIL("gail", replace(settings, demos="x"), policy, {"x": demonstrated(SPEC, 20)}, seed)


MAKERS = [(make_curiosity, CuriositySettings), (make_rnd, RNDSettings), (make_gail, GAILSettings)]


def some_absent(steps):
    """The steps with fewer and fewer things, and none in the last one."""
    rest = steps.observations[:-1]
    things = steps.observations[-1].clone()
    for i, each in enumerate(things):
        each[max(0, 5 - i % 6) :] = 0
    return steps._replace(observations=(*rest, things), following=(*steps.following[:-1], things.roll(1, 0)))


@pytest.mark.parametrize(("make", "settings_type"), MAKERS, ids=["curiosity", "rnd", "gail"])
def test_a_signal_learns_from_sets_and_nothing_follows_from_their_order(make, settings_type):
    torch.manual_seed(0)
    changes = {"encoding_size": 8} if settings_type is not GAILSettings else {}
    settings = settings_type(strength=1.0, hidden=[16], updates_per_sample=1.0, batch_size=12, **changes)
    signal = make(settings, Policy(SPEC, NETWORK, "sac"), 1)
    before = signal.state_dict()[signal.vector_name]
    steps = some_absent(steps_of(SPEC, 12))
    signal.learn(steps, 3)
    after = signal.state_dict()[signal.vector_name]
    assert after.isfinite().all()
    assert (after != before).any()
    assert not any(value for name, value in signal.metrics().items() if "skipped" in name)
    shuffled = steps._replace(
        observations=(*steps.observations[:-1], steps.observations[-1].flip(1)),
        following=(*steps.following[:-1], steps.following[-1].flip(1)),
    )
    torch.testing.assert_close(signal.score(steps).rewards, signal.score(shuffled).rewards, atol=1e-4, rtol=1e-4)
