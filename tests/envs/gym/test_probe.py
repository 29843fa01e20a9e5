import math

import pytest

from envs.gym import probe as probing
from envs.gym.adapter import GymEnv
from envs.gym.probe import Pace, choose_workers, probe


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
