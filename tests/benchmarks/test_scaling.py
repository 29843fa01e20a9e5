"""The benchmark of many instances: a tiny run, bad input, and the law that it adds."""

import json
from itertools import islice

import numpy as np
import pytest

from benchmarks import scaling
from benchmarks.laws import StepLaw, durations


def test_counts_are_compared_with_the_fewest(capsys):
    arguments = ["--instances", "6", "2", "--step", "0.02", "--units", "4", "--seconds", "0.4", "--rounds", "1"]
    assert scaling.main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [result[name] for name in ("units", "spread", "seconds", "rounds")] == [4, 0.1, 0.4, 1]
    fewest, more = result["counts"]
    assert [fewest["instances"], more["instances"]] == [2, 6]
    for figures in (fewest, more):
        assert figures["step_seconds"] == 0.02
        instances, samples = figures["instances"], figures["samples"]
        assert 0 < samples <= instances * (figures["seconds"] / 0.018 + 2)  # a first and a last step take less
        assert samples / (samples + instances) <= figures["samples_per_pass"] <= instances  # some may be under way
        assert figures["samples_per_second"] == samples / figures["seconds"]
        assert 0 < figures["env_utilization"] < 1.2
        assert figures["layout"].startswith(f"{instances} instances in ")
        assert figures["collector_microseconds"] > 0
        assert figures["workers_microseconds"] >= 0
        assert min(figures["collector_mib"], figures["workers_mib"]) > 1
    assert (fewest["over_fewest"], fewest["kib_per_added"]) == (1, None)
    assert more["over_fewest"] == more["collector_microseconds"] / fewest["collector_microseconds"]


def test_counts_take_turns_and_supply_as_much_unless_a_step_is_given(monkeypatch, capsys):
    measured = []

    def measure(instances, step, options):
        measured.append((instances, step))
        costs = {"collector_seconds": 1e-3 * instances, "workers_seconds": 0.01}
        memory = {"collector_bytes": 2**20, "workers_bytes": instances * 2**20}
        played = {"samples": 1000, "passes": 500, "seconds": 4.0, "spans": [[9, 1.0, 0.9]]}
        return {**costs, **memory, **played, "layout": "words"}

    monkeypatch.setattr(scaling, "_measure_alone", measure)
    assert scaling.main(["--instances", "16", "1024", "--seconds", "8", "--rounds", "2"]) == 0
    assert measured == [(16, 1 / 64), (1024, 1.0)] * 2
    text = capsys.readouterr().out.splitlines()
    assert text[0] == "64 units a layer, steps vary by 10%, 8 s each in 2 rounds"
    row = "1,024 1 250 0.9 2 1,024 64 10 1 1,024 1,024 words"  # 1 MiB for each, of which none is ours
    assert text[-1].split() == row.split()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--instances", "4", "0"], "--instances 0 must be at least 1"),
        (["--units", "0"], "--units 0 must be above 0"),
        (["--rounds", "0"], "--rounds 0 must be above 0"),
        (["--step", "0"], "--step 0 must be above 0"),
        (["--spread", "1.5"], "--spread 1.5 must be 0 to 1"),
        (
            ["--seconds", "4", "--rounds", "2"],
            "--seconds 4 in 2 rounds are too few for steps of 1 s: give at least 6, three steps a round",
        ),
    ],
)
def test_nothing_to_measure_is_one_message(arguments, message, capsys):
    assert scaling.main(arguments) == 2
    assert capsys.readouterr().err == f"scaling: {message}\n"


def test_constant_steps_begin_at_a_phase_of_their_own_and_keep_to_their_spread():
    first = [next(durations("constant", seed, 0.5)) for seed in range(400)]
    assert np.quantile(first, [0, 0.25, 0.5, 0.75, 1]) == pytest.approx([0, 0.125, 0.25, 0.375, 0.5], abs=0.05)
    assert set(islice(durations("constant", 1, 0.5), 1, 3000)) == {0.5}
    varied = list(islice(durations("constant", 1, 0.5, 0.1), 1, 3000))
    assert np.quantile(varied, [0, 0.5, 1]) == pytest.approx([0.45, 0.5, 0.55], abs=0.005)
    env = StepLaw("constant", seconds=0.5, spread=0.1)
    env.reset(seed=3)
    assert [env.step(0)[4]["duration"] for _ in range(3)] == list(islice(durations("constant", 3, 0.5, 0.1), 3))
