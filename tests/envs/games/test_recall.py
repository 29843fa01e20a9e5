import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.games.recall import Recall
from envs.spec import UserError

ID = "envs.games:Recall-v0"


def play(env, seed, answer):
    """Observations of an episode, (reward, terminated, truncated) of its steps; `answer(cue)` is always done."""
    observation, _ = env.reset(seed=seed)
    cue = int(observation.argmax())
    observations, steps = [observation], []
    while not (steps and steps[-1][1]):
        observation, *step, _ = env.step(answer(cue))
        observations.append(observation)
        steps.append(tuple(step))
    return observations, steps


@pytest.mark.filterwarnings("error")
def test_gymnasium_finds_no_fault_in_recall():
    check_env(gymnasium.make(ID).unwrapped)


def test_a_cue_is_followed_by_blanks_and_then_asked_for():
    observations, steps = play(Recall(cues=3, delay=2), 0, lambda cue: cue)
    cue = int(observations[0].argmax())
    assert cue < 3
    assert observations[0].tolist() == [float(i == cue) for i in range(4)]
    assert [o.tolist() for o in observations[1:]] == [[0] * 4, [0] * 4, [0, 0, 0, 1], [0] * 4]
    assert steps == [(0, False, False)] * 3 + [(1, True, False)]


def test_the_defaults_ask_after_30_blanks():
    observations, steps = play(gymnasium.make(ID), 0, lambda cue: cue)
    assert [int(o.sum()) for o in observations] == [1] + [0] * 30 + [1, 0]
    assert [reward for reward, *_ in steps] == [0] * 31 + [1]


def test_only_the_answer_that_is_asked_for_counts():
    env = Recall(delay=3)
    env.reset(seed=0)
    rewards = [env.step(action)[1] for action in [(env.cue + 1) % 4] * 4 + [env.cue]]
    assert rewards == [0, 0, 0, 0, 1]


def test_a_wrong_answer_earns_nothing_and_ends_the_episode():
    _, steps = play(Recall(delay=1), 0, lambda cue: (cue + 1) % 4)
    assert steps == [(0, False, False)] * 2 + [(0, True, False)]


def test_blank_observations_do_not_differ_between_cues_or_steps():
    episodes = {play(Recall(), seed, lambda cue: cue)[0][0].tobytes(): seed for seed in range(40)}
    assert len(episodes) == 4
    blanks = {o.tobytes() for seed in episodes.values() for o in play(Recall(), seed, lambda cue: cue)[0][1:31]}
    assert len(blanks) == 1


def test_the_same_seed_shows_the_same_cues():
    def cues(seed):
        env = Recall()
        first, _ = env.reset(seed=seed)
        return [int(o.argmax()) for o in (first, *(env.reset()[0] for _ in range(20)))]

    assert cues(7) == cues(7)
    assert cues(7) != cues(8)


def test_guessing_earns_one_over_the_cues():
    env, rng = Recall(delay=1), np.random.default_rng(0)
    rewards = [play(env, seed, lambda cue: int(rng.integers(4)))[1][-1][0] for seed in range(2000)]
    assert np.mean(rewards) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"cues": 1}, "cues=1 .* 2 or more"), ({"delay": 0}, "delay=0 .* 1 or more"), ({"delay": 2.5}, "whole number")],
)
def test_arguments_of_recall_that_make_no_sense_are_refused(wrong, words):
    with pytest.raises(UserError, match=words):
        gymnasium.make(ID, **wrong)


def test_an_answer_that_is_no_cue_is_refused():
    env = Recall()
    env.reset()
    with pytest.raises(UserError, match="action 4 is none of the cues 0 to 3"):
        env.step(4)
