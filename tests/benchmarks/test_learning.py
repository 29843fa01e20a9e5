import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import learning
from benchmarks.learning import TASKS, Learned, LearningTask, main, run
from trainer.checkpoint import CheckpointStore
from trainer.evaluate.results import PlayedEpisode

TASK = LearningTask(("algorithm=ppo",), mark=100.0, samples=1000)


@pytest.fixture
def trained(monkeypatch):
    """Replaces training by checkpoints at given samples, and evaluation by given means; tells what was asked for."""
    asked: dict[str, list] = {"overrides": [], "evaluated": []}

    def script(means: dict[int, float]) -> dict[str, list]:
        def train(overrides, folder: Path) -> dict:
            asked["overrides"].append(list(overrides))
            store = CheckpointStore(folder / "checkpoints", keep=100)
            for samples in means:
                state = {"behaviors": {"B": {"samples": samples}}, "report": {"seconds": samples / 10}}
                store.save(str(samples), {"B/w": np.zeros(2, np.float32)}, state, None)
            return {}

        def evaluate(config, checkpoint, episodes, *, seed):
            samples = learning.samples_of(checkpoint)
            asked["evaluated"].append((samples, episodes, seed))
            return [PlayedEpisode("Toy", means[samples] + offset, 1, {}) for offset in (-1.0, 1.0)]

        monkeypatch.setattr(learning, "train", train)
        monkeypatch.setattr(learning, "load_config", lambda folder: None)
        monkeypatch.setattr(learning, "evaluate", evaluate)
        return asked

    return script


def test_first_checkpoint_at_the_mark_counts_and_the_last_is_played_too(trained):
    asked = trained({200: 20.0, 400: 100.0, 600: 300.0, 1000: 90.0})
    learned = run(TASK, seed=3, mode="async")
    assert learned == Learned(3, 400, 40.0, 90.0, [(200, 20.0), (400, 100.0), (1000, 90.0)])
    assert [samples for samples, _, _ in asked["evaluated"]] == [200, 400, 1000]


def test_what_is_to_be_imitated_is_recorded_before(trained, monkeypatch):
    asked = trained({1000: 20.0})
    recorded = []
    monkeypatch.setattr(learning, "record", lambda *given: recorded.append(given))
    run(LearningTask(("env=gym", "env.id=X", "algorithm=sac"), 1.0, 1000, "package:player"), seed=3, mode="async")
    (env, player, episodes, demos, seed), (overrides,) = recorded[0], asked["overrides"]
    assert (env, player, episodes, seed) == (["env=gym", "env.id=X"], "package:player", 4, 3)
    assert overrides[-1] == f"reward.gail.demos={demos}"


def test_mark_that_comes_after_the_samples_does_not_count(trained):
    trained({500: 20.0, 1001: 150.0})
    learned = run(TASK, seed=0, mode="async")
    assert (learned.mark_samples, learned.mark_seconds, learned.final) == (None, None, 150.0)


def test_checkpoints_close_to_the_one_before_are_passed_over(trained):
    asked = trained({100: 1.0, 120: 1.0, 149: 1.0, 150: 1.0, 990: 1.0, 1000: 2.0})
    assert run(TASK, seed=0, mode="async").final == 2.0
    assert [samples for samples, _, _ in asked["evaluated"]] == [100, 150, 990, 1000]


def test_evaluation_plays_twenty_episodes_at_seeds_far_from_training(trained):
    asked = trained({1000: 1.0})
    run(TASK, seed=2, mode="inline")
    assert asked["evaluated"] == [(1000, 20, 1_000_002)]
    (overrides,) = asked["overrides"]
    assert {"algorithm=ppo", "seed=2", "run.mode=inline", "stop.samples=1000"} <= set(overrides)


def test_json_is_one_object_with_every_task_and_seed(trained, monkeypatch, capsys):
    trained({500: 120.0, 1000: 120.0})
    monkeypatch.setitem(TASKS, "ppo_cartpole", TASK)
    assert main(["--seeds", "2", "--tasks", "ppo_cartpole", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["mode"] == "async"
    figures = result["tasks"]["ppo_cartpole"]
    assert (figures["mark"], figures["samples"], figures["reached"]) == (100.0, 1000, 2)
    assert [each["seed"] for each in figures["seeds"]] == [0, 1]
    assert figures["seeds"][0]["mark_samples"] == 500


def test_no_seeds_are_refused(capsys):
    assert main(["--seeds", "0"]) == 2
    assert "--seeds 0" in capsys.readouterr().err
