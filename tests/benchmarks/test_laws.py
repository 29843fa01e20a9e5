from itertools import islice

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from benchmarks.laws import LAWS, Lasting, StepLaw, durations
from envs.spec import UserError


def drawn(law, count=200_000, seed=1):
    return np.array(list(islice(durations(law, seed), count)))


def test_each_law_has_its_mean():
    assert drawn("lognormal").mean() == pytest.approx(0.05, rel=0.02)
    assert np.log(drawn("lognormal")).std() == pytest.approx(0.8, rel=0.01)
    assert drawn("reset").mean() == pytest.approx(0.02 + 0.005 * 0.98, rel=0.05)
    assert drawn("game_engine").mean() == pytest.approx((199 * 0.001 + 0.2) / 200, rel=0.001)


def test_game_engine_pauses_every_200_steps_from_a_phase_of_its_own():
    first = {int(drawn("game_engine", 400, seed).argmax()) for seed in range(20)}
    assert len(first) > 10
    pauses = np.flatnonzero(drawn("game_engine", 5000) == 0.2)
    assert set(np.diff(pauses)) == {200}


@pytest.mark.parametrize("law", LAWS)
def test_durations_depend_on_the_first_seed_alone(law):
    env = StepLaw(law)
    env.reset(seed=5)
    seen = []
    for step in range(300):
        seen.append(env.step(0)[4]["duration"])
        if step % 100 == 99:
            env.reset(seed=step)
    assert seen == list(islice(durations(law, 5), 300))


def test_steps_of_any_env_can_be_made_to_last_by_a_law():
    plain, lasting = gymnasium.make("Pendulum-v1"), Lasting(gymnasium.make("Pendulum-v1"), "lognormal")
    seen = []
    for seed in (5, 6):
        np.testing.assert_array_equal(plain.reset(seed=seed)[0], lasting.reset(seed=seed)[0])
        for _ in range(20):
            ours, theirs = lasting.step(np.ones(1)), plain.step(np.ones(1))
            np.testing.assert_array_equal(ours[0], theirs[0])
            assert ours[1:4] == theirs[1:4]
            seen.append(ours[4]["duration"])
    assert seen == list(islice(durations("lognormal", 5), 40))


def test_the_env_keeps_gymnasiums_contract():
    check_env(gymnasium.make("benchmarks.laws:StepLaw-v0", law="reset").unwrapped, skip_render_check=True)


def test_an_unknown_law_is_refused():
    with pytest.raises(UserError, match="'slow'; known are lognormal"):
        StepLaw("slow")
