"""How the live display looks at several widths."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from trainer.telemetry.display import GOING_ON, Display, Starting, sparkline
from trainer.telemetry.status import Aim, Status

STATUS = Status(
    samples=12345,
    seconds=3725.0,
    samples_per_second=296.24,
    games=16,
    episodes=143,
    updates=6123,
    env_utilization=0.9876,
    reward=0.512,
    rewards=[n / 100 for n in range(100)],
    aims=[Aim("samples", "12,345 of 50,000", 0.25)],
    shares={
        "acting": 0.02,
        "writing": 0.01,
        "waiting for games": 0.9,
        "throttled": 0.07,
        "updating": 0.5,
        "waiting for samples": 0.48,
    },
    seconds_left=61.0,
    bottleneck="The learner is the bottleneck: games wait 7% of the time; lower algorithm.updates_per_sample or wait.",
    diagnosis="The policy hardly moves: its KL divergence has been below 1e-5 for 20,000 samples; raise its step.",
)


def drawn(status, width, hint=GOING_ON):
    stream = io.StringIO()
    title = "runs/gym_ppo/2026-11-30_23-53-14_id-CartPole-v1_instances-8_learning_rate-0.01"
    Console(file=stream, width=width, color_system=None).print(Display(title, status, hint))
    return stream.getvalue().split("\n")


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_missing(width):
    lines = drawn(STATUS, width)
    assert max(map(len, lines)) <= width
    words = " ".join(" ".join(lines).split())
    for text in (
        "games",
        "collector",
        "learner",
        "98.8%",
        "296.2",
        "waiting for samples",
        "6,123",
        "1:02:05",
        "0:01:01 left",
    ):
        assert text in words
    for text in ("12,345 of 50,000", "25%", "algorithm.updates_per_sample or wait.", "raise its step.", GOING_ON):
        assert text in words


def test_processes_stand_side_by_side_where_there_is_room():
    (line,) = (line for line in drawn(STATUS, 80) if "collector" in line)
    assert line.split() == ["games", "collector", "learner"]
    bars = [line.count("━") for line in drawn(STATUS, 200) if "waiting for games" in line]
    assert bars == [14]  # of 16
    assert not [line for line in drawn(STATUS, 80) if "waiting for games" in line and "━" in line]


def test_the_last_line_is_empty_until_the_run_has_ended():
    assert drawn(STATUS, 80)[-2:] == ["", ""]  # where `^C` and the shell's prompt come
    last = drawn(STATUS, 80, hint="")
    assert last[-2].endswith("raise its step.")
    assert last[0].endswith("ended after 1:02:05")
    assert GOING_ON not in last


def test_a_run_without_a_limit_says_that_it_goes_on():
    endless = replace(STATUS, aims=[], endless=True, seconds_left=None)
    assert drawn(endless, 80)[1].startswith(
        "Nothing ends this run (stop.* or goal.*): it goes on for ever, until Ctrl+C."
    )
    assert "for ever" not in " ".join(drawn(endless, 80, hint=""))


def test_the_start_names_what_it_waits_for():
    stream = io.StringIO()
    Console(file=stream, width=80).print(Starting("runs/x", ["Starting 16 games …", "3 of 16 games have started"]))
    assert stream.getvalue().splitlines() == ["runs/x", "Starting 16 games …", "3 of 16 games have started", ""]


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 5, ""),
        ([3.0], 5, "3"),
        ([0.0, 1.0], 5, "15"),
        ([0.0, 1.0, 2.0, 3.0, 4.0], 5, "12345"),
        ([0.0, 0.0, 4.0, 4.0], 2, "15"),  # means of two
        ([7.0, 7.0, 7.0 + 1e-12], 5, "333"),
        ([-1.0, -2.0], 5, "51"),
    ],
)
def test_a_sparkline_rises_with_its_values(values, width, line):
    assert sparkline(values, width, "12345") == line
