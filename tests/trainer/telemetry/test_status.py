"""What is said of how a run stands."""

from trainer.config.compose import compose
from trainer.config.schema import StopConfig, TrainConfig
from trainer.runtime.stop import endless
from trainer.telemetry.status import Aim, Curve, aims, seconds_left


def aims_of(*overrides, samples=100, seconds=30.0, rewards=(0.0, 0.25), means=(30.0, 27.5)):
    return aims(
        compose(["env=basic", "algorithm=ppo", *overrides], TrainConfig, "config"), samples, seconds, rewards, means
    )


def test_time_left_is_until_whatever_ends_the_run_first():
    assert seconds_left(StopConfig(), 100, 10.0, 10.0) is None
    assert seconds_left(StopConfig(samples=200), 100, 10.0, 10.0) == 10.0
    assert seconds_left(StopConfig(samples=200), 100, 10.0, 0.0) is None
    assert seconds_left(StopConfig(samples=200, seconds=15.0), 100, 10.0, 10.0) == 5.0
    assert seconds_left(StopConfig(samples=200, seconds=150.0), 300, 10.0, 10.0) == 0.0


def test_a_curve_keeps_its_shape_and_few_points_however_long_a_run_is():
    curve = Curve([7.0])
    for value in range(1, 8_000):
        curve.add(float(value))
    assert curve.first == 7.0
    assert len(curve.points) == 500
    assert curve.points[1:] == [16 * place + 7.5 for place in range(1, 500)]
    assert Curve().first is None


def test_all_that_may_end_a_run_is_named_with_how_far_it_has_come():
    overrides = ("stop.samples=1000", "stop.seconds=60", "stop.reward=0.5", "goal.metric=bubbles", "goal.at_most=25")
    assert aims_of(*overrides) == [
        Aim("bubbles", "27.5, goal at most 25", 0.5),
        Aim("reward", "0.25 of 0.5", 0.5),
        Aim("samples", "100 of 1,000", 0.1),
        Aim("time", "0:00:30 of 0:01:00", 0.5),
    ]
    assert aims_of() == []


def test_what_is_unknown_worse_or_more_than_enough_stays_between_none_and_all():
    goal = ("goal.metric=bubbles", "goal.at_least=25")
    for means, aim in (
        ((None, None), Aim("bubbles", "-, goal at least 25", 0.0)),
        ((10.0, 5.0), Aim("bubbles", "5, goal at least 25", 0.0)),
        ((10.0, 40.0), Aim("bubbles", "40, goal at least 25", 1.0)),
        ((25.0, 25.0), Aim("bubbles", "25, goal at least 25", 1.0)),
    ):
        assert aims_of(*goal, means=means) == [aim]
    assert aims_of("stop.samples=50")[0].share == 1.0


def test_a_run_is_endless_unless_something_ends_it_or_all_of_its_behaviors():
    def is_endless(*overrides):
        return endless(compose(["env=basic", "algorithm=ppo", *overrides], TrainConfig, "config"))

    assert is_endless()
    assert is_endless("behaviors.Hero.algorithm.clip=0.1")
    for end in ("stop.samples=9", "stop.seconds=9", "behaviors.Hero.stop.samples=9"):
        assert not is_endless(end)
    assert is_endless("behaviors.Hero.stop.samples=9", "behaviors.Foe.algorithm.clip=0.1")
    assert not is_endless("goal.metric=reward", "goal.at_least=1")
