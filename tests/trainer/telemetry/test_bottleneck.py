"""What a run is said to wait for."""

import pytest

from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
from trainer.telemetry.bottleneck import bottleneck


@pytest.mark.parametrize(
    ("shares", "utilization", "sentence"),
    [
        (
            {"throttled": 0.12, "updating": 0.99, "acting": 0.02},
            0.85,
            (
                "The learner is the bottleneck: games wait 12% of the time; "
                "lower algorithm.updates_per_sample or algorithm.batch_size."
            ),
        ),
        (
            {"acting": 0.7, "updating": 0.9},
            0.3,
            "The collector is the bottleneck: acting takes 70% of its time; make algorithm.network.hidden smaller.",
        ),
        (
            {"acting": 0.2, "writing": 0.6},
            0.3,
            "The collector is the bottleneck: writing takes 60% of its time; observe less.",
        ),
        (
            {"acting": 0.3, "waiting for games": 0.6, "waiting for samples": 0.7},
            0.01,
            "Games take next to no time: passing on their samples is the bottleneck; raise env.instances.",
        ),
        (
            {"acting": 0.2, "updating": 0.7},
            0.6,
            "Cores are the bottleneck: games deliver 60% of what they could; lower env.instances, or free cores.",
        ),
        (
            {"waiting for games": 0.9, "updating": 0.5, "waiting for samples": 0.48},
            0.98,
            (
                "The games are the bottleneck: the learner waits 48% of the time; "
                "raise env.instances or algorithm.updates_per_sample."
            ),
        ),
        (
            {"updating": 0.97, "throttled": 0.01},
            0.97,
            "The learner is busy all the time, and games do not wait for it: nothing is left over.",
        ),
        (
            {"updating": 0.8, "waiting for samples": 0.2},
            None,
            "Nothing holds up the others: games and learner keep pace.",
        ),
    ],
)
def test_one_sentence_says_what_is_waited_for_and_what_to_set(shares, utilization, sentence):
    assert bottleneck(config("algorithm=sac"), shares, utilization) == sentence


def test_advice_is_that_of_the_algorithm():
    for max_lag, advice in (
        (1, "lower algorithm.epochs or raise algorithm.minibatch_size."),
        (0, "with algorithm.max_lag=0 they wait during each update, so raise it."),
    ):
        settings = config("algorithm=ppo", f"algorithm.max_lag={max_lag}")
        assert bottleneck(settings, {"throttled": 0.3}, 0.6).endswith(advice)


@pytest.mark.parametrize("how", ["env.stepping=lockstep", "run.mode=inline"])
def test_games_in_lock_step_wait_for_each_other(how):
    sentence = bottleneck(config("algorithm=ppo", how), {"acting": 0.1}, 0.69)
    assert sentence == "Games wait for each other, in lock-step: they deliver 69% of what they could."


def config(*overrides):
    return compose(["env=basic", *overrides], TrainConfig, "config")
