"""Models that play: ours, and what ML-Agents exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from algorithms.onnx.build import build_model
from algorithms.settings import Cell, MemorySettings
from envs.spec import BehaviorSpec, Decisions, ObservationSpec, UserError
from envs.unity.demo.reader import read_demo
from tests.algorithms.test_numpy_policy import SPECS, decisions, policy_of
from trainer.record.__main__ import main
from trainer.record.model_player import ModelPlayer


def model_file(folder: Path, policy: object) -> Path:
    file = folder / "a.onnx"
    onnx.save(build_model(policy, channels_last=True), str(file))  # type: ignore[arg-type]
    return file


def test_a_model_acts_as_its_policy_did_and_remembers(tmp_path: Path) -> None:
    spec = BehaviorSpec(
        "b", (*SPECS["hybrid"].observations, ObservationSpec("i", (6, 7, 3), "uint8", 1 / 255)), 3, (2, 3), True
    )
    policy = policy_of(spec, "ppo", memory=MemorySettings(Cell["lstm"], 8))
    player = ModelPlayer(str(model_file(tmp_path, policy)), spec, deterministic=True)
    state = np.zeros((5, 16), np.float32)
    for turn in range(3):
        observations, mask, _ = decisions(spec, 5, seed=turn)
        acted = policy.act(observations, mask, state, None, deterministic=True)
        agents = np.arange(5)
        continuous, discrete = player.act(Decisions(agents, agents, observations, mask), np.full(5, turn == 0))
        np.testing.assert_allclose(continuous, acted.continuous.clip(-1, 1), atol=1e-5)
        np.testing.assert_array_equal(discrete, acted.discrete)
        state = acted.recurrent_state


def theirs(folder: Path, name: str = "obs_0", size: int = 20) -> Path:
    """A model as ML-Agents writes one for Basic, whose metadata say nothing: it always goes right."""
    taken = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]),
        helper.make_tensor_value_info("action_masks", TensorProto.FLOAT, ["batch", 3]),
    ]
    given = [helper.make_tensor_value_info("discrete_actions", TensorProto.INT64, ["batch", 1])]
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [size, 3], np.tile([0.0, 1.0, 2.0], size))
    nodes = [
        helper.make_node("Abs", [name], ["positive"]),
        helper.make_node("MatMul", ["positive", "weight"], ["logits"]),
        helper.make_node("Mul", ["logits", "action_masks"], ["masked"]),
        helper.make_node("ArgMax", ["masked"], ["discrete_actions"], axis=1, keepdims=1),
    ]
    graph = helper.make_graph(nodes, "theirs", taken, given, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)])
    model.ir_version = 4
    file = folder / "theirs.onnx"
    onnx.save(model, str(file))
    return file


def test_a_model_of_ml_agents_is_recorded(tmp_path: Path) -> None:
    to = tmp_path / "x.demo"
    assert main(["env=basic", f"player={theirs(tmp_path)}", "episodes=2", f"to={to}"]) == 0
    demo = read_demo(to)
    assert len(demo.episodes) == 2
    assert {int(choice) for episode in demo.episodes for choice in episode.discrete.ravel()} == {2}


@pytest.mark.parametrize(
    ("name", "size", "words", "message"),
    [
        ("obs_0", 19, [], "takes obs_0 of [19], and behavior 'Basic-v0' observes observation of [20]"),
        ("vector_observation", 20, [], "takes vector_observation, action_masks, and behavior 'Basic-v0' observes"),
        (
            "obs_0",
            20,
            ["deterministic=true"],
            "no deterministic_discrete_actions; deterministic=false draws its actions",
        ),
    ],
)
def test_a_model_of_another_game_is_one_message(
    name: str, size: int, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "x.demo"
    assert main(["env=basic", f"player={theirs(tmp_path, name, size)}", f"to={to}", *words]) == 2
    assert message in capsys.readouterr().err
    assert not to.exists()


def test_a_file_that_is_no_model_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b.onnx").write_bytes(b"no model")
    assert main(["env=basic", f"player={tmp_path}/b.onnx", f"to={tmp_path}/x.demo"]) == 2
    assert main(["env=basic", f"player={tmp_path}/absent.onnx", f"to={tmp_path}/x.demo"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "is not an ONNX model" in said[0]
    assert "absent.onnx is no file" in said[1]
    with pytest.raises(UserError, match="cannot be read"):
        ModelPlayer(str(tmp_path), SPECS["hybrid"], deterministic=False)
