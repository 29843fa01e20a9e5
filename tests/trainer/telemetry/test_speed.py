"""Where a run's time goes, since its last point and over all of it."""

import numpy as np
import pytest

from trainer.telemetry import speed as module
from trainer.telemetry.speed import Speed
from trainer.telemetry.statistics import Statistics


def statistics(elapsed, **seconds):
    """What a collector reports whose two instances have been busy half of the time."""
    made = np.array([10.0, 30.0]) * elapsed
    return Statistics(made, np.full(2, elapsed), np.full(2, elapsed / 2), elapsed, seconds, "")


def test_learners_time_is_shown_as_updating_and_waiting_since_the_last_point():
    speed = Speed(0, (0.0, 0.0))
    shares = speed.last(speed.began + 10, 0, {"updating": 4.0, "waiting for samples": 6.0}).shares
    assert shares == pytest.approx({"updating": 0.4, "waiting for samples": 0.6})
    speed.note(speed.began + 10, 0, {"updating": 4.0, "waiting for samples": 6.0})
    shares = speed.last(speed.began + 15, 0, {"updating": 5.0, "waiting for samples": 7.5}).shares
    assert shares == pytest.approx({"updating": 0.2, "waiting for samples": 0.3})


def test_the_whole_run_is_measured_from_its_first_action_to_now(monkeypatch):
    speed = Speed(100, (0.0, 0.0))
    assert not speed.started
    assert speed.whole(speed.began + 1, 100, {}).samples_per_second == 0
    monkeypatch.setattr(module.time, "monotonic", lambda: speed.began + 11)
    speed.add(statistics(10.0, acting=2.0))
    speed.note(speed.began + 11, 490, {})
    measured = speed.whole(speed.began + 21, 900, {"updating": 7.0})
    assert measured.samples_per_second == pytest.approx(800 / 20)  # 10 s reported, 10 s since
    assert measured.env_utilization == pytest.approx(0.5)
    assert measured.shares == pytest.approx({"acting": 0.2, "updating": 1 / 3})
    assert measured.scalars().keys() == {
        "run/samples_per_second",
        "run/env_utilization",
        "time/acting",
        "time/updating",
    }


def test_instances_have_shares_of_the_samples():
    speed = Speed(0, (0.0, 0.0))
    assert speed.instance_shares() == {}
    speed.add(statistics(1.0))
    assert speed.instance_shares() == {
        "instances/smallest_share": 0.25,
        "instances/largest_share": 0.75,
        "instances/share_0": 0.25,
        "instances/share_1": 0.75,
    }
