import os

import numpy as np

from tests.stress.witness import NAN_OBSERVATION, NAN_REWARD, NAP, SPOILED, Life, Witness, lives, observation


def test_every_life_has_a_number_and_a_record_of_its_own(tmp_path):
    games = [Witness(str(tmp_path)) for _ in range(3)]
    for game in games:
        game.reset(seed=1)
        game.step(2)
    found = lives(tmp_path, {})
    assert set(found) == {1, 2, 3}
    for number, life in found.items():
        assert (life.pid, life.parent, life.steps, life.closed) == (os.getpid(), os.getppid(), 1, False)
        (record,) = life.records()
        assert (record["episode"], record["step"], record["action"]) == (1, 0, 2)
        games[number - 1].close()
        assert life.closed


def test_observation_says_who_is_at_which_step(tmp_path):
    game = Witness(str(tmp_path))
    first, _ = game.reset(seed=1)
    second, *_ = game.step(0)
    np.testing.assert_array_equal(first, observation(*(np.array(each) for each in (1, 1, 0))))
    np.testing.assert_array_equal(second, observation(*(np.array(each) for each in (1, 1, 1))))


def test_life_does_once_what_it_is_told(tmp_path):
    game = Witness(str(tmp_path))
    game.reset(seed=1)
    life = Life(tmp_path, 1)
    life.tell(NAN_OBSERVATION)
    assert life.reported
    assert np.isnan(game.step(0)[0]).sum() == 1
    assert not life.reported
    life.tell(NAN_REWARD)
    assert np.isnan(game.step(0)[1])
    life.tell(NAP, 0.001)
    seen, reward, *_ = game.step(0)
    assert np.isfinite(seen).all()
    assert np.isfinite(reward)
    assert [record["flags"] & SPOILED for record in life.records()] == [SPOILED, SPOILED, 0]


def test_without_records_a_life_is_its_header(tmp_path):
    game = Witness(str(tmp_path), record=False)
    game.reset(seed=1)
    game.step(0)
    life = Life(tmp_path, 1)
    assert (life.steps, len(life.records())) == (1, 0)
