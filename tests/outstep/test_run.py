"""Training in Python: runs, callbacks, and what is left of them."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import gymnasium
import hydra
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

import outstep
from outstep.results import read_metrics
from tests.trainer.started import interrupted_once
from trainer.__main__ import main
from trainer.telemetry.statistics import Episode

TINY = {
    "algorithm": {"name": "ppo", "rollout_size": 64, "minibatch_size": 32, "epochs": 1, "buffer_memory_mib": 8},
    "algorithm.network.hidden": [16],
    "run": {"mode": "inline", "picture_minutes": 0, "log_seconds": 0.1},
    "env.instances": 1,
}


class Counting(gymnasium.Env):
    """Its episodes have 5 steps. Cannot be found by its path, as it is made anew for each test."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.at = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.at += 1
        return np.zeros(2, np.float32), 1.0, self.at == 5, False, {"score": 3.0}


class Told(NamedTuple):
    """A run, and what its callbacks were told."""

    run: outstep.Run
    log: list[tuple[int, dict[str, float]]]
    episodes: list[tuple[str, Episode]]
    checkpoints: list[Path]
    ended: list[outstep.Run]
    threads: set[threading.Thread]


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> Told:
    log, episodes, checkpoints, ended, threads = [], [], [], [], set()
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("runs"))
    run = outstep.train(
        env=lambda: Counting(),
        verbose=False,
        stop={"samples": 100},
        on_log=lambda *told: threads.add(threading.current_thread()) or log.append(told),
        on_episode=lambda *told: threads.add(threading.current_thread()) or episodes.append(told),
        on_checkpoint=checkpoints.append,
        on_end=ended.append,
        **TINY,
    )
    run.folder = run.folder.absolute()
    os.chdir(before)
    return Told(run, log, episodes, checkpoints, ended, threads)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_run_is_returned_and_found_again(told, monkeypatch):
    run = told.run
    assert run.folder.parts[-3:-1] == ("runs", "env_ppo")
    assert (run.summary["samples"], run.summary["stopped_by"]) == (100, "samples")
    assert run.config.algorithm.rollout_size == 64
    assert run.policy().predict(np.zeros((3, 2)))[0].shape == (3,)
    assert run.policy("last", behavior="env").behavior == "env"
    monkeypatch.chdir(run.folder.parents[2])
    assert outstep.load("latest").folder.absolute() == outstep.load(run.folder).folder == run.folder
    for wrong, message in (("first", "expected one of best, last"), ("last", "behavior='b': the run has 'env'")):
        with pytest.raises(outstep.UserError, match=message):
            run.policy(wrong, behavior="b")


def test_callbacks_are_told_in_the_calling_thread_what_happens(told):
    assert told.threads == {threading.current_thread()}
    samples, values = told.log[-1]
    assert samples == 100
    assert values["episode/reward"] == 5
    assert len(told.episodes) == 20
    behavior, episode = told.episodes[-1]
    assert (behavior, episode.reward, episode.length, episode.metrics) == ("env", 5, 5, {"score": 3})
    assert told.checkpoints[-1].name == "000001-100"
    assert told.ended == [told.run]


def test_an_evaluation_has_every_episode(told):
    evaluation = told.run.evaluate(episodes=3)
    assert evaluation.rewards.tolist() == evaluation.lengths.tolist() == [5, 5, 5]
    assert evaluation.metrics["score"].tolist() == [3, 3, 3]
    assert (evaluation.mean, evaluation.deviation, evaluation.interval, evaluation.wins) == (5, 0, (5, 5), None)
    with pytest.raises(outstep.UserError, match="episodes=0 must be at least 1"):
        told.run.evaluate(episodes=0)


def test_a_run_goes_on_with_its_environment_given_again(told):
    loaded = outstep.load(shutil.copytree(told.run.folder, "copy"))
    for go_on in (loaded.resume, loaded.evaluate):
        with pytest.raises(outstep.UserError, match=r"env.id=env: this environment was given by a Python program"):
            go_on()
    assert main(["resume=copy"]) == 2
    with pytest.raises(outstep.UserError, match=r"env=3 must be a class or a function"):
        loaded.evaluate(env=3)
    with pytest.raises(outstep.UserError, match=r"does not fit behavior 'env': the environment has observation"):
        loaded.resume(env=lambda: gymnasium.make("CartPole-v1"))
    more = loaded.resume("stop.samples=150", env=Counting, verbose=False)
    assert more.summary["samples"] == 150
    assert more.evaluate(1).mean == 5  # it is known from now on


def test_a_callback_that_returns_true_stops_the_run():
    answers = {"on_log": lambda samples, values: True, "on_episode": lambda behavior, episode: np.bool_(True)}
    run = outstep.train(env=Counting, verbose=False, **answers, **TINY)  # the first may come before the first sample
    assert run.summary["stopped_by"] == "callback"
    assert run.summary["samples"] < 100
    assert run.policy("last")


def test_what_a_callback_raises_is_raised_once_the_run_is_saved():
    def fails(*_):
        calls.append(1)
        raise error

    calls, error = [], SystemExit(3)
    with pytest.raises(SystemExit) as raised:
        outstep.train(env=Counting, verbose=False, on_episode=fails, **TINY)
    assert raised.value is error
    assert len(calls) == 1
    run = outstep.load("latest")
    assert run.policy("last")
    assert run.summary["stopped_by"] == "error"


def test_a_thread_trains_and_leaves_nothing_and_a_second_run_beside_it_is_refused(capfd):
    def state():
        loggers = logging.getLogger(), logging.getLogger("outstep")
        return (
            [(list(each.handlers), each.level, each.propagate) for each in loggers],
            [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
            (list(sys.path), os.getcwd(), dict(os.environ), torch.get_num_threads(), threading.active_count()),
        )

    def beside(*_):
        with pytest.raises(outstep.UserError, match="this process trains already, in another thread or in the run"):
            outstep.train(env=Counting, **TINY)
        refused.append(1)

    refused, runs = [], []

    def trains():
        runs.append(outstep.train(env=Counting, stop={"samples": 60}, on_checkpoint=beside, **TINY))

    torch.set_num_threads(2)
    before = state()
    thread = threading.Thread(target=trains)
    thread.start()
    thread.join()
    assert state() == before
    assert runs[0].summary["samples"] == 60
    assert refused
    out, error = capfd.readouterr()
    assert not out
    assert "The run ended (samples) after 60 samples" in error


@pytest.mark.skipif(os.name != "posix", reason="Ctrl+C in one process")
def test_ctrl_c_saves_the_run_and_is_raised():
    logged = threading.Event()
    with pytest.raises(KeyboardInterrupt), interrupted_once(logged.is_set):
        outstep.train(env=Counting, verbose=False, on_episode=lambda *_: logged.set(), **TINY)
    run = outstep.load("latest")
    assert run.summary["stopped_by"] == "interrupted"
    assert run.policy("last")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env": "CartPole-v1", "stop": {"sampels": 3}}, "^unknown key stop.sampels; did you mean stop.samples"),
        ({"env": "CartPole-v1", "on_lgo": print}, "on_lgo=<built-in function print>: settings are"),
        ({"env": "KartPole-v1"}, "Unknown environment id 'KartPole-v1'. Did you mean CartPole-v1"),
        ({"algorithm": "pppo", "env": "CartPole-v1"}, "unknown algorithm 'pppo'; did you mean ppo"),
        ({"env": "CartPole-v1", "env.instances": 0}, "env.instances=0 must be"),
    ],
)
def test_wrong_settings_leave_nothing_behind(arguments, message, tmp_path):
    with pytest.raises(outstep.UserError, match=message):
        outstep.train(**arguments)
    assert not list(tmp_path.iterdir())
    with pytest.raises(outstep.UserError, match="there is no run in"):
        outstep.load("latest")


def test_a_program_that_uses_hydra_trains():
    GlobalHydra.instance().clear()
    with hydra.initialize(None, version_base="1.3"):
        with pytest.raises(outstep.UserError, match="Unknown environment id 'KartPole-v1'"):
            outstep.train(env="KartPole-v1")
        assert hydra.compose(overrides=["+a=1"]).a == 1


def test_metrics_are_arrays_by_name(tmp_path):
    assert read_metrics(tmp_path) == {}
    lines = [
        {"samples": 10, "seconds": 1.0, "time": 5.0, "a": 1, "b": 2.5},
        {"samples": 20, "seconds": 2.0, "time": 6.0, "a": 2},
        {"samples": 25, "seconds": 2.5, "time": 6.5, "a": 4},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"samples": 40, "sec'
    (tmp_path / "metrics.jsonl").write_text(text)
    metrics = read_metrics(tmp_path)
    assert metrics["a"].samples.tolist() == [10, 20, 25]
    assert metrics["a"].seconds.tolist() == [1, 2, 2.5]
    assert metrics["a"].values.tolist() == [1, 2, 4]
    assert metrics["b"].values.tolist() == [2.5]
