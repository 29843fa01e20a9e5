"""The container's entry point in a folder that stands in for /opt/ml."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import gymnasium
import pytest

from tests.trainer.tiny_runs import summary
from trainer.config.compose import compose, load_config
from trainer.config.schema import ServeConfig
from trainer.container.__main__ import METRICS, main
from trainer.telemetry.console import Status, log

POSIX = pytest.mark.skipif(os.name == "nt", reason="signals, permissions and FIFOs")
CARTPOLE = {"env.id": "CartPole-v1"}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty root; what the entry point changes of this process is undone."""
    before = signal.getsignal(signal.SIGTERM)
    with mock.patch.dict(os.environ, {"OUTSTEP_ML_ROOT": str(tmp_path / "ml")}):
        yield tmp_path / "ml"
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def trained(monkeypatch):
    """What `trainer.runtime.start.train` was asked for, in its place."""
    asked = SimpleNamespace(configs=[], does=lambda folder: None)

    def train(config, folder):
        asked.configs.append(config)
        asked.does(folder)
        return 0

    monkeypatch.setattr("trainer.runtime.start.train", train)
    return asked


def write(file: Path, content: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def give(root: Path, hyperparameters: object, name: str = "hyperparameters") -> None:
    write(root / "input" / "config" / f"{name}.json", hyperparameters)


def put_game(folder: Path, name: str = "Game.x86_64") -> Path:
    """A build as storage hands it out: without permissions."""
    game = write(folder / name, "#!/bin/sh\n")
    (folder / f"{game.stem}_Data").mkdir(exist_ok=True)
    game.chmod(0o644)
    return game


def failure(root: Path) -> str:
    return (root / "output" / "failure").read_text()


def test_hyperparameters_are_overrides_by_dotted_names(root, trained):
    give(
        root,
        {
            "experiment": "basic_ppo",
            "algorithm.network.hidden": "[16, 8]",
            "algorithm.learning_rate": '"5e-4"',  # as SageMaker's own Python library quotes them
            "stop.samples": 70,
            "_tuning_objective_metric": "episode_reward_mean",
        },
    )
    assert main(["train"]) == 0
    (config,) = trained.configs
    assert config.env.id == "envs.games:Basic-v0"
    assert (config.algorithm.network.hidden, config.algorithm.learning_rate) == ([16, 8], 5e-4)
    assert config.stop.samples == 70
    assert load_config(root / "checkpoints" / "run") == config


def test_a_missing_file_of_hyperparameters_is_named(root, trained, capsys):
    assert main(["train"]) == 2
    assert f"{root / 'input' / 'config' / 'hyperparameters.json'} does not exist" in capsys.readouterr().err
    assert not trained.configs


@pytest.mark.parametrize("flag", ["-h", "--help", "--version"])
def test_help_and_version_are_given(capsys, flag):
    assert main([flag]) == 0
    assert "outstep" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("hyperparameters", "words"),
    [
        (CARTPOLE | {"algorithm.learnin_rate": "1"}, "unknown key algorithm.learnin_rate; did you mean"),
        (CARTPOLE | {"env.instances": "many"}, "env.instances=many: expected an integer, not 'many'"),
        (CARTPOLE | {"seed": "1,2"}, "seed"),
        ({}, "env.id is missing"),
        (CARTPOLE | {"resume": "runs/a"}, "resume is not for a managed container"),
        (CARTPOLE | {"+run.dir": "a"}, "+run.dir is not for a managed container"),
        ("{", "hyperparameters.json is not JSON"),
        ([], "hyperparameters.json holds list: it must be an object"),
        ({"env": "unity"}, "env=unity, but no channel holds a game for Linux (there is no channel)"),
    ],
)
def test_what_is_wrong_is_one_message_in_the_log_and_in_the_failure_file(root, trained, capsys, hyperparameters, words):
    give(root, hyperparameters)
    assert main(["train"]) == 2
    assert words in failure(root)
    assert capsys.readouterr() == ("", f"error: {failure(root)}")
    assert not trained.configs
    assert not (root / "checkpoints").exists()


@pytest.mark.parametrize("words", [["--help"], ["serve", "-h"]])
def test_help_says_what_there_is(words, capsys):
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("usage: outstep container train|serve\n")


def test_pipes_are_refused(root, trained):
    give(root, CARTPOLE)
    give(root, {"hosts": ["algo-1"]}, "resourceconfig")
    give(root, {"demos": {"TrainingInputMode": "Pipe"}}, "inputdataconfig")
    assert main(["train"]) == 2
    assert "channel demos comes by Pipe" in failure(root)
    give(root, {"demos": {"TrainingInputMode": "File"}}, "inputdataconfig")
    assert main(["train"]) == 0
    assert not (root / "output" / "failure").exists()


def test_an_error_of_ours_is_told_from_the_users_own(root, trained):
    def fails(folder):
        write(folder / "train.log", "what came before")
        write(folder / "models" / "Toy.onnx", "the best so far")
        raise RuntimeError("one line\nand another")

    give(root, CARTPOLE)
    trained.does = fails
    with pytest.raises(RuntimeError):
        main(["train"])
    assert failure(root) == "an error of Outstep's own, see the log: RuntimeError: one line and another\n"
    assert (root / "output" / "data" / "train.log").exists()
    assert (root / "model" / "Toy.onnx").exists()


@POSIX
def test_the_game_of_a_channel_is_made_executable(root, trained, tmp_path):
    game = put_game(root / "input" / "data" / "training" / "Linux")
    write(game.with_name("UnityPlayer.so"), "")
    put_game(game.parent, "Game.exe")
    give(root, {"env": "unity"})
    assert main(["train"]) == 0
    assert trained.configs[-1].env.executable == str(game)
    assert os.access(game, os.X_OK)
    assert os.environ["SM_CHANNEL_TRAINING"] == str(root / "input" / "data" / "training")


@POSIX
def test_of_several_games_one_is_chosen(root, trained, tmp_path):
    one = put_game(root / "input" / "data" / "training", "One.x86_64")
    other = put_game(tmp_path / "elsewhere", "Other")
    give(root, {"env": "unity"})
    with mock.patch.dict(os.environ, {"SM_CHANNEL_OTHER": str(other.parent)}):
        assert main(["train"]) == 2
        assert failure(root) == f"there are several games, choose one with env.executable=: {one}, {other}\n"
        give(root, {"env": "unity", "env.executable": "${oc.env:SM_CHANNEL_OTHER}/Other"})
        assert main(["train"]) == 0
    assert trained.configs[-1].env.executable == str(other)
    assert os.access(other, os.X_OK)
    assert not os.access(one, os.X_OK)


def test_no_game_is_looked_for_where_none_is_needed(root, trained):
    put_game(root / "input" / "data" / "training")
    give(root, {"experiment": "basic_unity"})
    assert main(["train"]) == 0
    assert trained.configs[-1].env.executable is None


def test_a_run_that_ended_before_its_first_checkpoint_begins_anew(root, trained):
    for seed in (1, 2):
        give(root, CARTPOLE | {"seed": str(seed)})
        assert main(["train"]) == 0
    assert trained.configs[-1].resume is None
    assert load_config(root / "checkpoints" / "run").seed == 2


@pytest.mark.parametrize("reward", [None, -0.01, 1e-7, 1.5e9, float("nan")])
def test_regular_expressions_find_each_figure(root, trained, capsys, reward):
    status = Status(samples=12_345_678, seconds=1.0, samples_per_second=1234.5, reward=reward)

    def logs(folder):
        log.warning("something else")
        log.warning("samples 12", extra={"status": status})

    give(root, CARTPOLE)
    trained.does = logs
    assert main(["train"]) == 0
    printed = capsys.readouterr().out
    found = {name: re.findall(regex, printed) for name, regex in METRICS.items()}
    assert found["samples"] == ["12345678"]
    assert found["samples_per_second"] == ["1234.5"]
    finite = reward is not None and reward == reward
    assert [float(each) for each in found["episode_reward_mean"]] == ([pytest.approx(reward)] if finite else [])


@pytest.mark.parametrize("names", [[], ["A.onnx", "B.onnx"]])
def test_an_endpoint_serves_one_model(root, capsys, names):
    for name in names:
        write(root / "model" / name, "")
    assert main(["serve"]) == 2
    there = ", ".join(names) or "no file *.onnx"
    assert f"holds {there}: an endpoint serves one model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "hosts"), [(None, "['*']"), ("policy.lan, *.example.com", "['policy.lan','*.example.com']")]
)
def test_an_endpoint_serves_any_host_unless_names_are_given(root, monkeypatch, given, hosts):
    served = []
    monkeypatch.setattr("trainer.container.__main__.serve", served.append)
    if given is not None:
        monkeypatch.setenv("OUTSTEP_ALLOWED_HOSTS", given)
    write(root / "model" / "A.onnx", "")
    main(["serve"])
    assert served[0][1:] == ["host=0.0.0.0", "port=8080", f"allowed_hosts=[{hosts[1:-1]}]"]
    assert compose(served[0], ServeConfig, "serve").allowed_hosts == [
        each.strip("'") for each in hosts[1:-1].split(",")
    ]


@pytest.mark.parametrize("words", [[], ["deploy"], ["train", "env=basic"]])
def test_other_words_are_refused(root, capsys, words):
    assert main(words) == 2
    assert "give train or serve" in capsys.readouterr().err


@contextmanager
def started(root: Path, word: str, **environment: str):
    command = [sys.executable, "-m", "trainer.container", word]
    environment = os.environ | {"PYTHONPATH": ".", "OUTSTEP_ML_ROOT": str(root)} | environment
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment) as it:
        try:
            yield it
        finally:
            it.kill()


@POSIX
def test_a_signal_before_the_run_begins_ends_it_too(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("trainer.container.__main__._train", lambda root: signal.raise_signal(signal.SIGTERM))
    try:
        with pytest.raises(SystemExit) as end:
            main(["train"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == 143


@POSIX
def test_a_training_that_is_stopped_half_way_goes_on_and_is_served(tmp_path):
    words = {"experiment": "basic_ppo", "env.instances": "4", "run.log_seconds": "0.1", "run.picture_minutes": "0"}
    give(tmp_path, words | {"stop.samples": "10000000"})  # more than it makes before the signal, on any machine
    run = tmp_path / "checkpoints" / "run"

    with started(tmp_path, "train") as process:
        for line in process.stdout:
            if samples_in(line) > 0:
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(200) == 143
    stopped = summary(run)
    assert stopped["stopped_by"] == "interrupted"
    assert stopped["samples"] > 0
    assert (tmp_path / "model" / "Basic-v0.onnx").read_bytes() == (run / "models" / "Basic-v0.onnx").read_bytes()

    enough = stopped["samples"] + 12_000
    give(tmp_path, words | {"stop.samples": str(enough)})
    with started(tmp_path, "train") as process:
        lines = process.stdout.readlines()
        assert process.wait(200) == 0
    assert samples_in(lines[0]) >= stopped["samples"]
    assert samples_in(lines[-1]) == summary(run)["samples"] >= enough
    assert float(re.search(METRICS["episode_reward_mean"], lines[-1])[1]) > 0.9
    assert not (tmp_path / "output" / "failure").exists()
    assert summary(tmp_path / "output" / "data") == summary(run)

    with started(tmp_path, "serve", SAGEMAKER_BIND_TO_PORT="0") as process:
        port = int(re.search(r"http://0\.0\.0\.0:(\d+)/", process.stdout.readline())[1])
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=200)) as connection:
            assert played_by(connection) == pytest.approx(0.93)
        process.send_signal(signal.SIGTERM)
        assert process.wait(200) == 0


def samples_in(line: str) -> int:
    return int(re.search(METRICS["samples"], line)[1])


def played_by(connection: http.client.HTTPConnection) -> float:
    """What an episode of Basic earns with the endpoint's actions."""
    connection.request("GET", "/ping")
    reply = connection.getresponse()
    assert (reply.status, json.loads(reply.read())) == (200, {"status": "ok"})
    env = gymnasium.make("envs.games:Basic-v0")
    (observation, _), earned, over = env.reset(), 0.0, False
    while not over:
        connection.request("POST", "/invocations", json.dumps({"observations": [observation.tolist()]}))
        reply = connection.getresponse()
        assert reply.status == 200
        ((action,),) = json.loads(reply.read())["discrete_actions"]
        observation, reward, terminated, truncated, _ = env.step(action)
        earned, over = earned + reward, terminated or truncated
    return earned
