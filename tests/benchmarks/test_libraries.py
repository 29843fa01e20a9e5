import gymnasium
import numpy as np
import pytest

from benchmarks.actions import RandomActions
from benchmarks.libraries import NextStepDrive, SameStepDrive

SPACE = gymnasium.spaces.MultiDiscrete([5, 3])


class Clock:
    """Moves on by one second at each call of the vector env."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class HandMadeEnvs:
    """Two instances; instance 1 ends an episode at every third call that steps it. Keeps the actions it was given."""

    def __init__(self, clock: Clock, next_step: bool) -> None:
        self.clock, self.next_step = clock, next_step
        self.actions: list[np.ndarray] = []
        self.steps = 0
        self.resetting = False

    def step(self, actions: np.ndarray) -> tuple:
        self.clock.now += 1.0
        self.actions.append(np.array(actions))
        if self.resetting:
            self.resetting, ended = False, False
        else:
            self.steps += 1
            ended = self.steps % 3 == 0
            self.resetting = ended and self.next_step
        nothing = np.zeros(2, bool)
        return None, np.zeros(2), np.array([False, ended]), nothing, {}


def test_call_that_only_resets_is_no_sample():
    clock = Clock()
    envs = HandMadeEnvs(clock, next_step=True)
    drive = NextStepDrive(envs, SPACE, 2, seed=0, clock=clock)
    # instance 0: 8 steps; instance 1: step step end reset step step end reset
    assert drive.run(8.0) == (8 + 6, 8.0)
    # the next round goes on where this one stopped: step step end
    assert drive.run(3.0) == (3 + 3, 3.0)
    assert envs.steps == 9


def test_reset_pending_at_the_end_of_a_round_is_no_sample_of_the_next():
    clock = Clock()
    drive = NextStepDrive(HandMadeEnvs(clock, next_step=True), SPACE, 2, seed=0, clock=clock)
    assert drive.run(3.0) == (6, 3.0)
    assert drive.run(1.0) == (1, 1.0)


def test_call_that_only_resets_uses_up_no_action():
    clock = Clock()
    envs = HandMadeEnvs(clock, next_step=True)
    NextStepDrive(envs, SPACE, 2, seed=4, clock=clock).run(8.0)
    expected = RandomActions((5, 3), 2, seed=4)
    sequence = np.stack([expected.take(np.arange(2)) for _ in range(8)])
    given = np.stack(envs.actions)
    assert np.array_equal(given[:, 0], sequence[:, 0])
    assert np.array_equal(given[[0, 1, 2, 4, 5, 6], 1], sequence[:6, 1])


def test_every_call_is_a_sample_where_resets_come_within_it():
    clock = Clock()
    envs = HandMadeEnvs(clock, next_step=False)
    assert SameStepDrive(envs, SPACE, 2, seed=0, clock=clock).run(8.0) == (16, 8.0)


@pytest.mark.parametrize("drive", [NextStepDrive, SameStepDrive])
def test_discrete_space_gets_flat_actions(drive):
    clock = Clock()
    envs = HandMadeEnvs(clock, next_step=False)
    drive(envs, gymnasium.spaces.Discrete(2), 2, seed=0, clock=clock).run(1.0)
    assert envs.actions[0].shape == (2,)
