import math
import pickle
from dataclasses import replace

import pytest

from envs.gym import probe as probing
from envs.gym.adapter import GymEnv
from envs.gym.config import GymConfig
from envs.gym.probe import Pace, Probe, choose_workers, probe
from envs.spec import BehaviorSpec, UserError
from tests.envs.making import alive


@pytest.mark.parametrize(
    ("instances", "pace", "workers"),
    [
        (16, Pace(True, 1e-5), 2),
        (32, Pace(True, 1e-5), 2),
        (3, Pace(True, 1e-5), 1),
        (16, Pace(False, 1e-5), 2),
        (1, Pace(False, 1e-5), 1),
        (16, Pace(False, 1e-3), 16),
        (16, Pace(False, math.inf), 16),
        (2000, Pace(False, 1e-5), 8),
    ],
)
def test_the_number_of_workers_follows_the_pace(monkeypatch, instances, pace, workers):
    monkeypatch.setattr(probing, "own_cores", lambda: 2)
    assert choose_workers(instances, pace) == workers


def test_the_first_look_finds_spec_and_pace():
    found = probe(GymEnv("tests.toys:Oracle-v0", {"duration": 0.5}), 1, 60.0)
    assert found.spec.branches == (5,)
    assert found.pictures
    assert found.pace.durations
    found = probe(GymEnv("tests.toys:Mixed-v0"), 1, 60.0)
    assert found.spec.masked
    assert not found.pictures
    assert not found.pace.durations
    assert found.pace.step_seconds > 0


@pytest.mark.parametrize("fault", ["step", "kill", "hang"])
def test_a_later_step_that_fails_in_the_first_look_is_left_to_the_workers(fault):
    found = probe(GymEnv("tests.toys:Faulty-v0", {"fault": fault, "spare_probe": False, "spare": 1}), 1, 60.0)
    assert found.spec.branches == (5,)
    assert not found.pace.durations


def test_there_is_one_look_whose_result_goes_with_the_settings(monkeypatch):
    looks = []
    found = Probe((BehaviorSpec("A-v0", (), branches=(2,)),), False, {}, Pace(False, 1e-3))
    monkeypatch.setattr(probing, "probe", lambda *given: looks.append(given) or found)
    config = GymConfig(id="A-v0")
    assert config.probe_specs(1) == [found.spec]
    elsewhere = pickle.loads(pickle.dumps(config))  # as a collector's process is given it
    assert elsewhere.probed(1) == config.probed(1) == found
    assert len(looks) == 1
    assert replace(config, kwargs={"level": 2}).probed(1) == found  # another environment is looked at anew
    assert len(looks) == 2
    assert config == GymConfig(id="A-v0")  # it is no setting


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("seed", "first reset: Mistaken.reset does not take a seed; right is reset(self, *, seed=None, options=None)"),
        ("reset", "first reset: reset() returned dict; right is (observation, info)"),
        ("no info", "first reset: the info of reset() is None, where a dict is right"),
        ("gear", "first reset: behavior 'Mistaken-v0': observation 'gear' is 3, outside of its space Discrete(3): "),
        ("key", "first reset: behavior 'Mistaken-v0': the observation lacks 'gear' of its space (KeyError: 'gear')"),
        (
            "step",
            "first step: Mistaken: step() returned 4 values; right is (observation, reward, terminated, truncated, ",
        ),
        ("none", "first step: the reward is None, where one number is right"),
        ("text", "first step: the reward is '1.0', where one number is right"),
        ("several", "first step: the reward is array([1., 1.]), where one number is right"),
        ("terminated", "first step: terminated is 'no', where True or False is right"),
        ("duration", "first step: info['duration'], the seconds that a step lasts, is '3 minutes', where one number"),
        ("nan", "first step: the reward is nan, where only finite numbers can be learned from"),
        ("mask", "first step: action_mask is 'all', where a number or bool for each choice is right"),
        ("nameless", "first step: Nameless: its text cannot be made"),
        ("exit", "first step: it calls sys.exit(bye)"),
        ("interrupt", "first step: KeyboardInterrupt: from the game"),
    ],
)
def test_a_mistake_in_the_first_step_is_named_at_once(mistake, message):
    env = GymEnv(
        "tests.toys:Mistaken-v0", {"mistake": mistake}, ({"path": "gymnasium.wrappers:TimeLimit", "kwargs": _LIMIT},)
    )
    with pytest.raises(UserError) as raised:
        probe(env, 1, 60.0)
    reported = str(raised.value)
    assert message in reported
    assert reported.count("\n") < 12


def test_spaces_are_refused_before_a_reset_that_may_take_long():
    with pytest.raises(UserError, match="The observation space is Text"):
        probe(GymEnv("tests.toys:Mistaken-v0", {"mistake": "reset", "space": "text"}), 1, 60.0)


def test_spaces_that_only_a_reset_makes_are_served():
    env = GymEnv("tests.toys:Mistaken-v0", {"mistake": "nothing", "space": "late"})
    assert [each.name for each in probe(env, 1, 60.0).spec.observations] == ["speed", "gear"]


def test_an_array_of_one_number_is_a_reward():
    assert probe(GymEnv("tests.toys:Mistaken-v0", {"mistake": "nothing"}), 1, 60.0).pace.step_seconds < math.inf


def test_a_step_that_kills_the_first_look_at_once_is_refused():
    with pytest.raises(UserError, match=r"its process ended \(exit status 7\)"):
        probe(GymEnv("tests.toys:Faulty-v0", {"fault": "kill", "spare_probe": False}), 1, 60.0)


def test_the_first_look_closes_its_env_and_leaves_nothing_that_it_started(tmp_path):
    probe(GymEnv("tests.toys:Parent-v0", {"pids": str(tmp_path), "wait": 0.2}), 1, 60.0)
    names = [each.name for each in tmp_path.iterdir()]
    games = [int(name) for name in names if name.isdigit()]
    assert len(games) == 2
    assert len(names) == 3  # one says that it was closed
    assert not any(map(alive, games))


_LIMIT = {"max_episode_steps": 9}
