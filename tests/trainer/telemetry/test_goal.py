import json

import pytest

from envs.spec import UserError
from trainer.config.schema import GoalConfig
from trainer.telemetry.goal import PATIENCE, Goal, Moment


def bubbles_goal(window: int = 100, also: tuple[int, ...] = (20,)) -> Goal:
    config = GoalConfig(metric="bubbles", at_most=25.0, window_samples=window, also_window_samples=list(also))
    return Goal(config)


def test_goal_counts_only_once_its_window_is_full() -> None:
    goal = bubbles_goal()
    for samples in range(10, 100, 10):
        goal.add(samples, samples / 10, {"bubbles": 20.0})
        assert goal.reached is None
    goal.add(100, 10.0, {"bubbles": 20.0})
    assert goal.reached == Moment(100, 10.0)


def test_short_window_crosses_by_luck_while_the_long_one_does_not() -> None:
    goal = bubbles_goal()
    for samples in range(10, 200, 10):
        goal.add(samples, 0.0, {"bubbles": 20.0 if samples in (50, 60) else 30.0})
    assert goal.moments == {20: Moment(50, 0.0), 100: None}


def test_mean_is_over_the_episodes_that_ended_in_the_last_samples() -> None:
    goal = bubbles_goal(window=30, also=())
    for samples, value in ((10, 60.0), (20, 30.0), (40, 20.0)):
        goal.add(samples, 0.0, {"bubbles": value})
    # The window is (10, 40]: the episode that ended at 10 is out.
    assert goal.means == {30: 25.0}


def test_first_moment_stays() -> None:
    goal = bubbles_goal(window=10, also=())
    for samples, value in ((10, 20.0), (20, 60.0), (30, 10.0)):
        goal.add(samples, float(samples), {"bubbles": value})
    assert goal.reached == Moment(10, 10.0)


def test_at_least_looks_upwards_and_equality_counts() -> None:
    goal = Goal(GoalConfig(metric="reward", at_least=0.9, window_samples=10, also_window_samples=[]))
    goal.add(10, 0.0, {"reward": 0.89})
    assert goal.reached is None
    goal.add(20, 0.0, {"reward": 0.9})
    assert goal.reached == Moment(20, 0.0)


def test_a_resumed_goal_goes_on_where_it_was() -> None:
    whole, first, second = bubbles_goal(), bubbles_goal(), bubbles_goal()
    values = [(10 * i, float(i), {"bubbles": 60.0 - 2 * i + 0.1 * (i % 7)}) for i in range(1, 40)]
    for value in values:
        whole.add(*value)
    for value in values[:17]:
        first.add(*value)
    second.load_state(json.loads(json.dumps(first.state())))
    for value in values[17:]:
        second.add(*value)
    assert second.moments == whole.moments
    assert second.means == whole.means
    assert whole.reached is not None


def test_a_metric_that_no_episode_reports_is_refused_with_those_that_are() -> None:
    goal = Goal(GoalConfig(metric="bubles", at_most=25.0))
    for i in range(PATIENCE - 1):
        goal.add(i, 0.0, {"bubbles": 1.0, "reward": 0.0})
    with pytest.raises(UserError, match=r"goal.metric=bubles .* there is bubbles, reward"):
        goal.add(PATIENCE, 0.0, {"bubbles": 1.0, "reward": 0.0})
