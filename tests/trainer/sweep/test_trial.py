"""What a trial reads of its runs, and what it makes of several seeds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
from trainer.sweep.plan import Plan
from trainer.sweep.settings import Average, SweepConfig
from trainer.sweep.trial import Reading, average
from trainer.telemetry.metrics_file import MetricsFile


@pytest.fixture
def plan():
    config = compose(["env=basic", "stop.samples=1000"], TrainConfig, "config")
    settings = SweepConfig()
    return SimpleNamespace(settings=settings, config=config, share=lambda *at: Plan.share(plan_of, *at))


@pytest.fixture(autouse=True)
def shared(plan):
    global plan_of
    plan_of = plan


def test_the_interquartile_mean_leaves_a_quarter_out_at_each_end():
    # Of three scores 0.75 go at each end: (0.25 * 0 + 1 + 0.25 * 5) / 1.5.
    assert average([5.0, 0.0, 1.0], Average.iqm) == pytest.approx(1.5)
    assert average([9.0, 1.0, 2.0, 0.0], Average.iqm) == pytest.approx(1.5)
    assert average([7.0], Average.iqm) == 7.0
    assert average([5.0, 0.0, 1.0], Average.mean) == 2.0


def test_a_score_stands_at_each_twentieth_of_a_run(tmp_path, plan):
    reading, file = Reading(tmp_path, plan), MetricsFile(tmp_path)
    reading.look()
    assert reading.scores == {}
    file.values(40, 1.0, {"loss/policy": 3.0})
    file.values(120, 1.0, {"episode/reward": 1.0})
    reading.look()
    assert reading.scores == {2: 1.0}, "what came before the first score is not known"
    file.values(260, 1.0, {"episode/reward": 2.0})
    file.values(320, 1.0, {"loss/policy": 3.0})
    reading.look()
    assert reading.scores == {2: 1.0, 3: 2.0, 4: 2.0, 5: 2.0, 6: 2.0}
    assert (reading.samples, reading.latest, reading.share) == (320, 2.0, 0.32)
    file.close()
    MetricsFile(tmp_path, 120).close()  # as a resume does
    reading.look()
    assert reading.scores == {2: 1.0}
