import math
import pickle
from dataclasses import replace

import pytest

from envs.gym import probe as probing
from envs.gym.adapter import GymEnv
from envs.gym.config import GymConfig
from envs.gym.probe import Pace, Probe, choose_workers, probe
from envs.spec import BehaviorSpec


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
    monkeypatch.setattr(probing, "_cores", lambda: 2)
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
def test_a_step_that_fails_in_the_first_look_is_left_to_the_workers(fault):
    found = probe(GymEnv("tests.toys:Faulty-v0", {"fault": fault, "spare_probe": False}), 1, 60.0)
    assert found.spec.branches == (5,)
    assert not found.pace.durations


def test_there_is_one_look_whose_result_goes_with_the_settings(monkeypatch):
    looks = []
    found = Probe(BehaviorSpec("A-v0", (), branches=(2,)), False, Pace(False, 1e-3))
    monkeypatch.setattr(probing, "probe", lambda *given: looks.append(given) or found)
    config = GymConfig(id="A-v0")
    assert config.probe_specs(1) == [found.spec]
    elsewhere = pickle.loads(pickle.dumps(config))  # as a collector's process is given it
    assert elsewhere.probed(1) == config.probed(1) == found
    assert len(looks) == 1
    assert replace(config, kwargs={"level": 2}).probed(1) == found  # another environment is looked at anew
    assert len(looks) == 2
    assert config == GymConfig(id="A-v0")  # it is no setting
