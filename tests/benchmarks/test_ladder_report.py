import json

import pytest

from benchmarks.ladder_report import RUNGS, Run, claims, compare, rung_figures, spread

LOCKSTEP, PPO, PPO_GAIL, SAC, SAC_GAIL = RUNGS


def run(seed: int, seconds: float | None, samples: int | None = None, rate: float = 100.0) -> Run:
    if samples is None and seconds is not None:
        samples = int(rate * seconds)
    return Run(seed, samples, seconds, seconds and seconds + 5, None, None, rate, 0.9, "goal", 0, 0)


def runs(*seconds: float | None, rate: float = 100.0) -> list[Run]:
    return [run(seed, each, rate=rate) for seed, each in enumerate(seconds)]


def test_references_samples_are_its_time_by_its_rate():
    assert (RUNGS[LOCKSTEP].seconds, round(RUNGS[LOCKSTEP].samples)) == (122_580, 1_327_541)
    assert 1 - RUNGS[SAC].samples / RUNGS[PPO].samples == pytest.approx(0.805, abs=0.001)
    assert RUNGS[LOCKSTEP].seconds / RUNGS[SAC_GAIL].seconds == pytest.approx(7.19, abs=0.01)


def test_run_is_read_from_its_summary():
    summary = {
        "samples": 1000,
        "samples_per_second": 100.0,
        "env_utilization": 0.9,
        "stopped_by": "goal",
        "goal_samples": 900,
        "goal_seconds": 9.0,
        "goal_windows": {"1000": {"samples": 500, "seconds": 5.0}, "5000": None},
        "dropped": {"B": 100},
    }
    read = Run.of(3, summary, command_seconds=15.0)
    assert (read.samples, read.seconds, read.command_seconds, read.samples_1000, read.seconds_1000) == (
        900,
        9,
        15,
        500,
        5,
    )
    assert (read.samples_per_second, read.env_utilization) == (pytest.approx(90), pytest.approx(0.81))
    summary["supply_fraction"] = summary.pop("env_utilization")  # its name in earlier versions
    assert Run.of(3, summary, command_seconds=15.0) == read
    capped = Run.of(3, {**summary, "goal_samples": None, "goal_seconds": None, "goal_windows": {}}, 15.0)
    assert (capped.samples, capped.command_seconds, capped.samples_1000) == (None, None, None)


@pytest.mark.parametrize(
    ("values", "median", "low", "high"),
    [
        ([3.0, 1.0, 2.0], 2.0, 1.0, 3.0),
        ([1.0, 2.0], 1.5, 1.0, 2.0),
        ([1.0, None, 2.0], 2.0, 1.0, None),
        ([None, None, 2.0], None, 2.0, None),
        ([1.0, None], None, 1.0, None),
        ([None], None, None, None),
    ],
)
def test_what_was_not_reached_comes_after_everything(values, median, low, high):
    assert spread(values) == {"median": median, "low": low, "high": high}


def test_ratios_are_of_medians_and_of_the_seeds_own():
    found = compare(runs(10.0, 40.0, 30.0), runs(10.0, 10.0, 20.0), "seconds")
    assert found == {"of_medians": 3.0, "by_seed": 1.5, "seeds": {"0": 1.0, "1": 4.0, "2": 1.5}}


def test_ratios_are_of_seeds_that_both_have():
    found = compare(runs(10.0, 20.0, 900.0), runs(5.0, 10.0), "seconds")
    assert (found["of_medians"], list(found["seeds"])) == (2.0, ["0", "1"])


def test_ratio_by_seed_needs_every_run():
    found = compare(runs(30.0, 30.0, 30.0), runs(10.0, None, 10.0), "seconds")
    assert (found["of_medians"], found["by_seed"], found["seeds"]["1"]) == (3.0, None, None)


def test_fewer_samples_is_what_is_missing_to_one():
    found = claims({PPO: runs(10.0, 10.0, 10.0), SAC: runs(2.0, 1.0, 1.0)})
    (fewer,) = (claim for claim in found if claim["claim"].startswith("SAC: fewer"))
    assert (fewer["of_medians"], fewer["by_seed"], fewer["met"]) == (0.9, 0.9, True)


def test_claim_under_a_half_takes_five_seeds():
    for seeds, met in ((3, False), (5, True)):
        found = claims({PPO: runs(*[10.0] * seeds), PPO_GAIL: runs(*[5.0] * seeds)})
        (claim,) = (claim for claim in found if claim["claim"].startswith("PPO + GAIL"))
        assert (claim["pairs"], claim["pairs_asked"], claim["met"]) == (seeds, 5, met)


def test_claim_holds_only_if_it_holds_both_ways():
    # Medians 40 and 10; by seed 1, 4, 8 and 1.2 on the middle of three.
    found = claims({LOCKSTEP: runs(72.0, 80.0, 90.0), SAC_GAIL: runs(10.0, 40.0, 9.0)})
    (claim,) = (claim for claim in found if claim["claim"] == "SAC + GAIL over lock-step PPO, in time")
    assert (claim["of_medians"], claim["by_seed"], claim["met"]) == (8.0, 7.2, True)
    found = claims({LOCKSTEP: runs(71.0, 80.0, 90.0), SAC_GAIL: runs(10.0, 40.0, 9.0)})
    (claim,) = (claim for claim in found if claim["claim"] == "SAC + GAIL over lock-step PPO, in time")
    assert (claim["of_medians"], claim["by_seed"], claim["met"]) == (8.0, 7.1, False)


def test_claims_about_rungs_that_did_not_run_are_left_out():
    found = claims({PPO: runs(10.0, 10.0, 10.0)})
    assert [claim["claim"] for claim in found] == ["every rung masters the level"]


def test_runs_that_did_not_master_the_level_are_named():
    (mastery, *_) = claims({PPO: runs(10.0, 10.0, 10.0), SAC: runs(1.0, None, 1.0)})
    assert (mastery["seen"], mastery["not_mastered"], mastery["met"]) == ("5 of 6", [f"{SAC} 1"], False)


def test_rungs_that_are_out_of_order_are_named():
    ladder = {LOCKSTEP: runs(50, 50, 50), PPO: runs(40, 40, 40), SAC: runs(45, 45, 30), SAC_GAIL: runs(10, 10, 10)}
    order = claims(ladder)[-1]
    assert (order["out_of_order"], order["met"]) == ([f"{SAC} behind {PPO}"], False)
    order = claims({**ladder, SAC: runs(30, 30, 30)})[-1]
    assert (order["seen"], order["met"]) == ("all", True)


def test_order_is_of_seeds_that_all_rungs_have():
    order = claims({PPO: runs(40, 40, 40, 1, 1, 1, 1), SAC: runs(30, 30, 30)})[-1]
    assert (order["seen"], order["pairs"], order["met"]) == ("all", 3, True)


def test_rung_stands_beside_the_first_and_the_reference():
    figures = rung_figures(SAC, {PPO: runs(100.0, 110.0), SAC: runs(10.0, 22.0)})
    assert figures["first_over_this"]["seeds"] == {"0": 10.0, "1": 5.0}
    assert figures["reference"]["time"] == "5:58"
    assert figures["reference"]["first_over_this"] == pytest.approx(112_080 / 21_480)
    assert figures["command_seconds"] == {"median": 21.0, "low": 15.0, "high": 27.0}
    json.dumps(figures, allow_nan=False)
