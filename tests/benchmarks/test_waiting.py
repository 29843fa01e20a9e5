import gymnasium
import numpy as np
import pytest

from benchmarks import waiting
from benchmarks.waiting import SleepDuration
from envs.spec import UserError


class Clock:
    """Time that passes only in sleep, and by `work` in each step of the env."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Timed(gymnasium.Env):
    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(0, 1, (1,))

    def __init__(self, clock: Clock, work: float, info: dict) -> None:
        self.clock, self.work, self.info = clock, work, info

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), self.info

    def step(self, action):
        self.clock.now += self.work
        return np.zeros(1, np.float32), 1.0, False, False, self.info


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    return clock


def test_a_step_lasts_its_duration_divided_by_the_time_scale(clock: Clock):
    SleepDuration(Timed(clock, 0.0, {"duration": 3.0}), time_scale=2.0).step(0)
    assert clock.slept == pytest.approx([1.5])


def test_the_envs_own_time_is_part_of_the_duration(clock: Clock):
    SleepDuration(Timed(clock, 0.4, {"duration": 1.0}), time_scale=1.0).step(0)
    assert clock.now == pytest.approx(101.0)


def test_an_env_slower_than_its_duration_is_not_held_up(clock: Clock):
    SleepDuration(Timed(clock, 5.0, {"duration": 1.0}), time_scale=1.0).step(0)
    assert clock.now == pytest.approx(105.0)


def test_time_scale_zero_does_not_wait(clock: Clock):
    SleepDuration(Timed(clock, 0.0, {"duration": 3.0}), time_scale=0.0).step(0)
    assert clock.slept == []


def test_a_reset_lasts_as_long_as_it_says(clock: Clock):
    SleepDuration(Timed(clock, 0.0, {"duration": 3.0}), time_scale=1.0).reset()
    SleepDuration(Timed(clock, 0.0, {}), time_scale=1.0).reset()
    assert clock.now == pytest.approx(103.0)


def test_an_env_without_durations_is_refused_by_name():
    env = SleepDuration(gymnasium.make("CartPole-v1"))
    env.reset()
    with pytest.raises(UserError, match=r"CartPole.*no info\['duration'\]"):
        env.step(0)


@pytest.mark.parametrize("time_scale", [-1.0, float("nan")])
def test_a_negative_time_scale_is_refused(time_scale: float):
    with pytest.raises(UserError, match="time_scale"):
        SleepDuration(gymnasium.make("CartPole-v1"), time_scale)


def test_what_the_env_returns_passes_through():
    plain, waits = (gymnasium.make("envs.games:BubbleShooter-v0") for _ in range(2))
    waits = SleepDuration(waits, time_scale=0.0)
    plain.reset(seed=1), waits.reset(seed=1)
    a, b = plain.step(np.array([15, 0])), waits.step(np.array([15, 0]))
    assert (a[0]["board"] == b[0]["board"]).all()
    assert a[1:] == b[1:]
