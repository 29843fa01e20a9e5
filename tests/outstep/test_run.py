"""Training in Python: runs, callbacks, and what is left of them."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading

import gymnasium
import numpy as np
import pytest
import torch

import outstep
from outstep.results import read_metrics
from tests.trainer.started import interrupted_once

TINY = {
    "algorithm": {"name": "ppo", "rollout_size": 64, "minibatch_size": 32, "epochs": 1, "buffer_memory_mib": 8},
    "algorithm.network.hidden": [16],
    "run": {"mode": "inline", "picture_minutes": 0, "log_seconds": 0.1},
    "env.instances": 2,
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


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trained():
    return outstep.train(env=lambda: Counting(), verbose=False, stop={"samples": 100}, **TINY)


def test_a_run_is_returned_and_found_again(trained):
    assert trained.folder.parent.as_posix() == "runs/env_ppo"
    assert (trained.summary["samples"], trained.summary["stopped_by"]) == (100, "samples")
    assert trained.config.algorithm.rollout_size == 64
    assert outstep.load("latest").folder == outstep.load(trained.folder).folder == trained.folder
    assert trained.policy().predict(np.zeros((3, 2)))[0].shape == (3,)
    assert trained.policy("last", behavior="env").behavior == "env"


def test_an_evaluation_has_every_episode(trained):
    evaluation = trained.evaluate(episodes=3)
    assert evaluation.rewards.tolist() == [5, 5, 5]
    assert evaluation.lengths.tolist() == [5, 5, 5]
    assert evaluation.metrics["score"].tolist() == [3, 3, 3]
    assert (evaluation.mean, evaluation.deviation) == (5, 0)
    with pytest.raises(outstep.UserError, match="episodes=0 must be at least 1"):
        trained.evaluate(episodes=0)


def test_a_run_goes_on_with_its_environment_given_again(trained):
    assert trained.resume(verbose=False, stop={"samples": 150}).summary["samples"] == 150  # it is still known
    loaded = outstep.load(trained.folder)
    for go_on in (loaded.resume, loaded.evaluate):
        with pytest.raises(outstep.UserError, match=r"env.id=env: this environment was given by a Python program"):
            go_on()
    assert loaded.resume("stop.samples=200", env=Counting, verbose=False).summary["samples"] == 200
    assert loaded.evaluate(2, env=Counting).mean == 5
    with pytest.raises(outstep.UserError, match=r"env=3 must be a class or a function"):
        loaded.evaluate(env=3)
    with pytest.raises(
        outstep.UserError, match=r"behavior 'env': the environment has 5 discrete|does not fit behavior"
    ):
        loaded.evaluate(env=lambda: gymnasium.make("MountainCar-v0"))


def test_an_environment_that_is_found_by_its_path_needs_not_be_given_again():
    run = outstep.train(env="tests.toys:Oracle", verbose=False, stop={"samples": 60}, **TINY)
    assert outstep.load(run.folder).evaluate(2).lengths.min() >= 1
    with pytest.raises(outstep.UserError, match=r"env.id|names its environment itself|given"):
        outstep.load("runs/nowhere")


def test_callbacks_are_told_in_the_calling_thread_what_happens():
    told = {"log": [], "episode": [], "checkpoint": [], "end": []}
    threads = set()

    def tell(name):
        def callback(*arguments):
            threads.add(threading.current_thread())
            told[name].append(arguments)

        return callback

    run = outstep.train(
        env=Counting,
        verbose=False,
        stop={"samples": 100},
        on_log=tell("log"),
        on_episode=tell("episode"),
        on_checkpoint=tell("checkpoint"),
        on_end=tell("end"),
        **TINY,
    )
    assert threads == {threading.current_thread()}
    samples, values = told["log"][-1]
    assert samples == 100
    assert values["episode/reward"] == 5
    assert len(told["episode"]) == 20
    behavior, episode = told["episode"][-1]
    assert (behavior, episode.reward, episode.length, episode.metrics) == ("Counting", 5, 5, {"score": 3})
    assert [folder.name for (folder,) in told["checkpoint"]][-1] == "000001-100"
    assert told["end"] == [(run,)]


def test_a_callback_that_returns_true_stops_the_run():
    run = outstep.train(env=Counting, verbose=False, on_episode=lambda behavior, episode: np.bool_(True), **TINY)
    assert run.summary["stopped_by"] == "callback"
    assert run.summary["samples"] < 100
    assert run.policy("last")
    assert outstep.train(env=Counting, verbose=False, stop={"samples": 40}, on_episode=lambda *_: "more", **TINY)


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3)])
@pytest.mark.parametrize("callback", ["on_log", "on_episode", "on_checkpoint"])
def test_what_a_callback_raises_is_raised_once_the_run_is_saved(callback, error):
    def fails(*_):
        calls.append(1)
        raise error

    calls = []
    with pytest.raises(type(error)) as raised:
        outstep.train(env=Counting, verbose=False, stop={"samples": 100}, **{callback: fails}, **TINY)
    assert raised.value is error
    assert len(calls) == 1
    run = outstep.load("latest")
    assert run.policy("last")
    assert run.summary["stopped_by"] == ("samples" if callback == "on_checkpoint" else "error")


def test_nothing_of_a_run_is_left_in_the_process(tmp_path):
    def state():
        loggers = logging.getLogger(), logging.getLogger("outstep")
        return (
            [(list(each.handlers), each.level, each.propagate) for each in loggers],
            [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
            (list(sys.path), os.getcwd(), dict(os.environ), torch.get_num_threads(), threading.active_count()),
        )

    torch.set_num_threads(2)
    before = state()
    outstep.train(env=Counting, verbose=False, stop={"samples": 40}, **TINY)
    with pytest.raises(ValueError, match="mine"):
        outstep.train(env=Counting, verbose=False, on_episode=lambda *_: int("mine"), **TINY)
    assert state() == before


def test_a_quiet_run_shows_nothing_and_another_shows_its_log(capfd):
    outstep.train(env=Counting, verbose=False, stop={"samples": 40}, **TINY)
    assert capfd.readouterr() == ("", "")
    run = outstep.train(env=Counting, stop={"samples": 40}, **TINY)
    out, error = capfd.readouterr()
    assert not out
    assert f"The run ended (samples) after 40 samples and 0 s: {run.folder}" in error.replace("1 s", "0 s")
    assert "The run ended" in (run.folder / "train.log").read_text()


def test_a_thread_trains_and_a_second_run_beside_it_is_refused():
    def beside(*_):
        with pytest.raises(outstep.UserError, match="this process trains already, in another thread or in the run"):
            outstep.train(env=Counting, **TINY)
        refused.append(1)

    refused, runs = [], []

    def trains():
        runs.append(outstep.train(env=Counting, verbose=False, stop={"samples": 60}, on_checkpoint=beside, **TINY))

    thread = threading.Thread(target=trains)
    thread.start()
    thread.join()
    assert runs[0].summary["samples"] == 60
    assert refused


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
