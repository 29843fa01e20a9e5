"""Functions in a process of their own: their results, how they fail, and that nothing of them stays."""

import os
import sys
import time

import pytest

from benchmarks import isolated
from benchmarks.isolated import FailedError, results

TOYS = "tests.benchmarks.gpu_toys"


def collected(name):
    """Results and the reason of the failure, None without one."""
    found = []
    try:
        found.extend(results(f"{TOYS}:{name}", 60))
    except FailedError as error:
        return found, str(error)
    return found, None


def test_results_come_and_what_is_printed_is_none_of_them(capfd):
    found, failed = collected("right")
    assert [each["case"] for each in found] == ["one", "two"]
    assert failed is None
    assert capfd.readouterr().err == "said on the way\n"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("raises", "RuntimeError: CUDA error: device-side assert"),
        ("dies", "its process ended with status 9"),
        ("none_such", "AttributeError: module 'tests.benchmarks.gpu_toys' has no attribute 'none_such'"),
    ],
)
def test_a_failure_is_told_after_what_came_before(name, reason):
    found, failed = collected(name)
    assert [each["case"] for each in found] == ([] if name == "none_such" else ["before"])
    assert failed == reason


class Clock:
    """A timer whose time is up when the test says so."""

    def __init__(self, seconds, function, args):
        self.seconds, self.fire, self.alive = seconds, lambda: self.ring(function, args), True
        Clock.made = self

    def ring(self, function, args):
        self.alive = False
        function(*args)

    def start(self):
        pass

    def is_alive(self):
        return self.alive

    def cancel(self):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="only the process itself is killed there")
def test_what_takes_too_long_is_killed_with_all_that_it_started(tmp_path, monkeypatch):
    monkeypatch.setenv("GPU_TOYS_CHILD", str(tmp_path / "child"))
    monkeypatch.setattr(isolated, "Timer", Clock)
    generator = results(f"{TOYS}:hangs", 5)
    assert next(generator)["case"] == "before"
    Clock.made.fire()
    with pytest.raises(FailedError, match="not done within 5 s"):
        next(generator)
    child = int((tmp_path / "child").read_text())
    for _ in range(500):  # until whoever inherits it has taken note of its end
        if not running(child):
            return
        time.sleep(0.01)
    raise AssertionError("what it started goes on")


def running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # a process that has ended and whose parent has not asked yet
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return True
