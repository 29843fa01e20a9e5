"""Whole runs of agents that are paid as a group."""

import json

import onnxruntime
import pytest

from tests.trainer.tiny_runs import PPO, newest, same_end
from trainer.__main__ import main
from trainer.evaluate.__main__ import main as evaluate

POCA = ["env=sacrifice", *PPO, "algorithm=poca", "algorithm.max_group=3", "run.mode=inline", "run.log_samples=100"]


def points(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_of_groups_that_is_cut_off_again_and_again_ends_bit_for_bit_alike(tmp_path):
    words = [*POCA, "reward.rnd.strength=0.1", "reward.rnd.hidden=[8]", "algorithm.network.memory.cell=gru"]
    assert main([*words, f"run.dir={tmp_path / 'whole'}", "stop.samples=700"]) == 0
    assert main([*words, f"run.dir={tmp_path / 'parts'}", "stop.samples=1"]) == 0
    for samples in (143, 450, 700):
        assert main([f"resume={tmp_path / 'parts'}", f"stop.samples={samples}"]) == 0
    same_end(tmp_path / "whole", tmp_path / "parts")
    last = points(tmp_path / "whole")[-1]
    assert last["loss/baseline"] > 0
    assert 0 <= last["episode/group_reward"] <= 1


def test_the_model_of_a_group_is_an_actor_alone_and_can_be_evaluated(tmp_path, capsys):
    assert main([*POCA, f"run.dir={tmp_path / 'run'}", "stop.samples=200"]) == 0
    model = onnxruntime.InferenceSession(str(tmp_path / "run" / "models" / "Captive.onnx"))
    assert {each.name for each in model.get_inputs()} == {"obs_0", "action_masks"}, "of teammates it wants nothing"
    assert evaluate([f"run={tmp_path / 'run'}", "episodes=6"]) == 0
    assert "score" in capsys.readouterr().out


def test_a_curriculum_may_go_by_what_groups_earn(tmp_path):
    lessons = "{lessons: [{value: 1, until: {measure: group_reward, above: -1, episodes: 3}}, {value: 2}]}"
    assert main([*POCA, f"run.dir={tmp_path / 'run'}", f"env.parameters.level={lessons}", "stop.samples=900"]) == 0
    assert newest(tmp_path / "run").state["curriculum"]["courses"]["level"]["lesson"] == 1


def test_ppo_says_once_what_it_does_not_see_of_a_group(tmp_path):
    words = ["env=sacrifice", *PPO, "run.mode=inline", f"run.dir={tmp_path / 'run'}", "stop.samples=5000"]
    assert main([*words, "algorithm.rollout_size=5000"]) == 0
    assert (tmp_path / "run" / "train.log").read_text().count("algorithm=poca learns as a group") == 1


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("algorithm.shared_trunk=true", "algorithm.shared_trunk=true: POCA's critic sees the whole group"),
        ("algorithm.max_group=1", "algorithm.max_group=1 must lie between 2 and 256"),
    ],
)
def test_what_a_group_cannot_be_set_is_refused(word, said, tmp_path, capsys):
    assert main([*POCA, f"run.dir={tmp_path / 'run'}", word]) == 2
    assert said in capsys.readouterr().err
