"""Several learners in processes of their own: the same steps as one, and what happens when one of them ends."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from algorithms.base import make_algorithm
from algorithms.ranks import LearnerLost
from buffers.rows import Layout, Rows, Writer
from envs.spec import BehaviorSpec, ObservationSpec
from tests.algorithms.ppo.test_ppo import fill
from tests.algorithms.test_ranks import equal
from tests.trainer.started import END_SECONDS, ORACLE, audit, start
from tests.trainer.tiny_runs import PPO, SAC, newest, summary
from trainer.__main__ import main
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
from trainer.runtime.ipc import SPAWN
from trainer.runtime.learners import Learners, arrays, receive, send, tensors

__all__ = ["start"]
SHORT = ["algorithm.rollout_size=128", "algorithm.minibatch_size=64", "algorithm.epochs=2"]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals")
SPEC = BehaviorSpec("b", (ObservationSpec("o", (3,), "float32"), ObservationSpec("p", (2,), "uint8")), 2, (3, 2), True)


def made(config):
    layout = Layout(SPEC)
    rows = Rows(layout, bytearray(layout.memory_bytes(2000)), 2000)
    fill(rows, Writer(rows), 100)
    return make_algorithm(SPEC, config.algorithm, rows, torch.device("cpu"), 0, config.reward, {})


@pytest.mark.parametrize("words", [[*PPO, "algorithm.max_lag=9"], SAC], ids=["ppo", "sac"])
def test_processes_make_the_steps_of_one_also_once_one_has_ended(words):
    config = compose(["env=gym", "env.id=CartPole-v1", "learners=2", *words], TrainConfig, "config")
    alone, first = made(config), made(config)
    learners = Learners(config)
    try:
        learners.share(first)
        for _ in range(2):
            alone.update(), first.update()
        assert first.shared is not None
        equal(first, alone)
        learners._processes[0].kill()
        learners._processes[0].join()
        for _ in range(2):
            alone.update(), first.update()
        assert first.shared is None
        assert first.updates == alone.updates == 4
        equal(first, alone)
    finally:
        learners.close()
    assert not learners._processes


def test_a_learner_that_ends_before_it_has_begun_is_done_without():
    config = compose(["env=gym", "env.id=CartPole-v1", "learners=2", *SAC], TrainConfig, "config")
    sac = made(config)
    learners = Learners(config)
    learners.share(sac)
    learners._processes[0].kill()
    sac.update()
    assert sac.shared is None
    assert sac.updates == 1
    another = made(config)
    learners.share(another)
    assert another.shared is None
    with pytest.raises(LearnerLost):
        learners.send("anything")


def test_tensors_pass_through_a_pipe():
    strided = torch.arange(6).view(2, 3).t()
    tree = (torch.tensor(3.0), (None, torch.ones(2, 0, dtype=torch.bool)), SPEC, strided)
    assert isinstance(arrays(tree)[0], np.ndarray)
    ours, theirs = SPAWN.Pipe()
    send(arrays(tree), [ours])
    back = tensors(receive(theirs))
    assert torch.equal(back[0], tree[0])
    assert torch.equal(back[1][1], tree[1][1])
    assert back[2] == SPEC
    assert torch.equal(back[3], strided)
    back[0].add_(1)  # it may be written to


@POSIX
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_run_of_two_learners_saves_and_is_taken_up_by_one(start, stop: signal.Signals) -> None:
    run = start(*ORACLE, "learners=2")
    run.process.send_signal(stop)
    assert run.process.wait(END_SECONDS) == 128 + stop
    run.nothing_is_left()
    assert "was lost" not in run.log
    audit(run.folder)
    samples = summary(run.folder)["samples"]
    assert main([f"resume={run.folder}", "learners=1", f"stop.samples={samples + 50}"]) == 0
    assert main([f"resume={run.folder}", "learners=2", f"stop.samples={samples + 100}"]) == 0
    assert "was lost" not in run.log
    assert summary(run.folder)["samples"] >= samples + 100


@POSIX
def test_a_run_goes_on_when_a_learner_is_killed(start) -> None:
    run = start(*ORACLE, "learners=2")
    learner(run).kill()
    run.until(lambda: "A learner was lost (learner 1: its process was killed by SIGKILL" in run.log)
    run.until_saved(2)
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(END_SECONDS) == 143
    run.nothing_is_left()
    audit(run.folder)


@POSIX
def test_nothing_is_left_when_the_first_learner_is_killed(start) -> None:
    run = start(*ORACLE, "learners=2")
    run.family()
    run.process.kill()
    run.process.wait()
    run.nothing_is_left()


@POSIX
def test_a_signal_ends_a_run_whose_learner_does_not_answer(start) -> None:
    run = start(*ORACLE, "learners=2")
    stopped = learner(run)
    stopped.suspend()
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(END_SECONDS) == 143
    run.nothing_is_left()
    assert newest(run.folder).state["behaviors"]


def learner(run) -> psutil.Process:
    """The process of the second learner: the one child that starts no instances and is no helper."""
    children = [child for child in psutil.Process(run.process.pid).children() if "spawn_main" in str(child.cmdline())]
    (found,) = [child for child in children if not child.children()]
    return found


@pytest.mark.parametrize(
    "words",
    [
        [
            "+experiment=sacrifice_poca",
            "algorithm.rollout_size=128",
            "algorithm.minibatch_size=64",
            "algorithm.epochs=2",
        ],
        [
            "+experiment=duel_selfplay",
            "algorithm.rollout_size=128",
            "algorithm.minibatch_size=64",
            "algorithm.epochs=2",
        ],
        ["env=recall", *SAC, "algorithm.network.memory.cell=gru", "algorithm.network.memory.size=8"],
        ["env=basic", *PPO, "reward.rnd.strength=0.1", "env.time_scale=1000"],
    ],
    ids=["groups", "self-play", "memory", "signals"],
)
def test_whatever_an_algorithm_can_do_learners_share(tmp_path: Path, words: list[str]) -> None:
    folder = tmp_path / "run"
    more = ["learners=2", "stop.samples=600", "run.picture_minutes=0", "env.instances=2", f"run.dir={folder}"]
    assert main([*words, *more]) == 0
    assert summary(folder)["updates"]
    assert "was lost" not in (folder / "train.log").read_text()
