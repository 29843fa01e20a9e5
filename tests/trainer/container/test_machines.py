"""Jobs of several machines: what each of them does, and that all end together. Loopback addresses are the machines."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.trainer.started import saved_samples
from tests.trainer.tiny_runs import summary
from trainer.container import machines as module
from trainer.container.__main__ import main

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="many loopback addresses")
END_SECONDS = 100.0
WORDS = {"env": "basic", "env.instances": "2", "algorithm": "ppo", "run.picture_minutes": "0"}


class Job:
    """Containers of one job, each with a folder and a loopback address of its own; the first one is the head."""

    def __init__(self, folder: Path, count: int, module: str, **words: str) -> None:
        self.log = folder / "ray.log"
        net = ".".join(str(random.randrange(1, 255)) for _ in range(2))
        self.hosts = [f"127.{net}.{number}" for number in range(1, count + 1)]
        self.roots = [folder / host for host in self.hosts]
        self.processes = []
        for root, host in zip(self.roots, self.hosts):
            config = root / "input" / "config"
            config.mkdir(parents=True)
            resources = {"current_host": host, "hosts": self.hosts, "network_interface_name": "lo"}
            (config / "resourceconfig.json").write_text(json.dumps(resources))
            (config / "hyperparameters.json").write_text(json.dumps(WORDS | words))
        self._environment = os.environ | {
            "PYTHONPATH": ".",
            "RAY_AUTH_TOKEN": "t" * 64,
            "STAND_IN_LOG": str(self.log),
            "OMP_NUM_THREADS": "1",
        }
        self._command = [sys.executable, "-m", module, "train"]

    def start(self, machine: int) -> None:
        environment = self._environment | {"OUTSTEP_ML_ROOT": str(self.roots[machine])}
        self.processes.append(subprocess.Popen(self._command, env=environment, start_new_session=True))

    @property
    def run(self) -> Path:
        return self.roots[0] / "checkpoints" / "run"

    def starts(self) -> list[str]:
        return sorted(self.log.read_text().splitlines()) if self.log.exists() else []

    def until(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + END_SECONDS
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.1)

    def ends(self) -> list[int]:
        """The exit statuses; none of what was started may be left."""
        statuses = [process.wait(END_SECONDS) for process in self.processes]
        self.until(lambda: not self._left())
        return statuses

    def _left(self) -> list[psutil.Process]:
        return [
            each
            for each in psutil.process_iter(["environ"])
            if (each.info["environ"] or {}).get("STAND_IN_LOG") == str(self.log)
            and each.status() != psutil.STATUS_ZOMBIE
        ]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def begin(count: int, module: str = "tests.trainer.container.run_here", **words: str) -> Job:
        jobs.append(Job(tmp_path, count, module, **words))
        return jobs[-1]

    yield begin
    for each in jobs:
        each.close()


@LINUX
def test_the_first_machine_learns_the_others_join_and_all_end_with_it(job: Callable[..., Job]) -> None:
    it = job(3, **{"stop.samples": "4000", "algorithm.rollout_size": "512"})
    for machine in (1, 2):  # whichever comes first
        it.start(machine)
    it.start(0)
    it.until(lambda: len(it.starts()) == 3)
    head, *others = it.hosts
    assert it.starts() == [f"head {head}", *(f"node {other}" for other in others)]
    assert it.ends() == [0, 0, 0]
    assert summary(it.run)["samples"] >= 4000
    assert len(summary(it.run)["instances"]["samples"]) == 3 * 2  # a collector for each machine
    assert (it.roots[0] / "model" / "Basic-v0.onnx").exists()
    assert [sorted(each.name for each in root.iterdir()) for root in it.roots[1:]] == [["input"], ["input"]]


@LINUX
def test_sigterm_saves_and_ends_all(job: Callable[..., Job]) -> None:
    it = job(2, **{"checkpoint.every_seconds": "0.5", "stop.samples": "100000000"})
    it.start(0)
    it.start(1)
    it.until(lambda: saved_samples(it.run) > 0)
    it.processes[0].send_signal(signal.SIGTERM)
    assert it.ends() == [143, 143]
    assert summary(it.run)["stopped_by"] == "interrupted"
    assert saved_samples(it.run) == summary(it.run)["samples"] > 0
    assert (it.roots[0] / "model" / "Basic-v0.onnx").exists()


@LINUX
def test_all_end_if_the_first_machine_dies_and_one_that_is_stopped_ends_alone(job: Callable[..., Job]) -> None:
    it = job(3, **{"stop.samples": "100000000"})
    for machine in range(3):
        it.start(machine)
    it.until(lambda: len(it.starts()) == 3)
    it.processes[2].send_signal(signal.SIGTERM)
    assert it.processes[2].wait(END_SECONDS) == 143
    assert [process.poll() for process in it.processes[:2]] == [None, None]
    it.processes[0].kill()
    assert it.ends() == [-signal.SIGKILL, 1, 143]


@LINUX
def test_what_is_wrong_ends_each_machine_with_the_same_message(job: Callable[..., Job]) -> None:
    it = job(2, **{"algorithm.learnin_rate": "1"})
    it.start(0)
    it.start(1)
    assert it.ends() == [2, 2]
    said = [(root / "output" / "failure").read_text() for root in it.roots]
    assert said[0] == said[1]
    assert "unknown key algorithm.learnin_rate" in said[0]
    assert not it.starts()


@pytest.mark.parametrize(
    ("resources", "token", "hyperparameters", "words"),
    [
        ({"current_host": "a", "hosts": ["a", "b"]}, "", {}, "environment variable RAY_AUTH_TOKEN"),
        ({"current_host": "c", "hosts": ["a", "b"]}, "t", {}, "current_host is 'c', which is none of the hosts a, b"),
        ({"hosts": ["a", "b"]}, "t", {}, "current_host is None"),
        ({"current_host": "a", "hosts": "a"}, "t", {}, "hosts is 'a': it must be a list of names"),
        ({"current_host": "a", "hosts": ["a", "b"]}, "t", {"cluster": "none"}, "2 machines, of which cluster=none"),
    ],
)
def test_machines_that_cannot_work_together_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    resources: dict[str, object],
    token: str,
    hyperparameters: dict[str, str],
    words: str,
) -> None:
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    (config / "resourceconfig.json").write_text(json.dumps(resources))
    (config / "hyperparameters.json").write_text(json.dumps(WORDS | hyperparameters))
    monkeypatch.setenv("OUTSTEP_ML_ROOT", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["train"]) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    assert words in capsys.readouterr().err
    assert words in (tmp_path / "output" / "failure").read_text()


def test_a_first_machine_that_does_not_answer_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.1)
    monkeypatch.setattr(module, "WATCH_PORT", 9)
    with pytest.raises(module.UserError, match=r"127\.0\.0\.1, the first machine of the job, did not answer"):
        module.join(module.Machines("127.0.0.1", ["127.0.0.1", "127.0.0.2"]))


@LINUX
@pytest.mark.extras
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")
def test_two_machines_train_on_a_cluster_of_ray(job: Callable[..., Job], tmp_path: Path) -> None:
    it = job(2, "trainer.container", **{"stop.samples": "20000", "algorithm.rollout_size": "512"})
    for machine in range(2):
        it.start(machine)
    assert it.ends() == [0, 0]
    log = (it.run / "train.log").read_text()
    assert summary(it.run)["samples"] >= 20_000, log
    assert all(summary(it.run)["instances"]["samples"]), log  # both machines have collected
