"""Models act as the policies that they were written from; the command that writes them, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import algorithms.onnx.build
from algorithms.onnx.build import build_model
from algorithms.settings import Cell, MemorySettings
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from tests.algorithms.test_numpy_policy import ACTIVATIONS, IMAGE, SCALED, SPECS, VECTOR, decisions, policy_of
from tests.trainer.tiny_runs import PPO
from trainer.__main__ import main as train
from trainer.config.compose import compose, load_config
from trainer.config.schema import TrainConfig, Which
from trainer.export.__main__ import main
from trainer.export.model_file import exported_model, model_file
from trainer.saved_policy import load_checkpoint, trained_policy
from trainer.serve.onnx_policy import Model

PLANE = ObservationSpec("plane", (5, 4, 6), "float32")
WIDE = ObservationSpec("wide", (22, 24, 30), "float32", 0.05)
BYTES = ObservationSpec("bytes", (30, 26, 3), "uint8", 1 / 255)
FIRST = ObservationSpec("first", (3, 26, 30), "uint8", 1 / 255)
MANY = {
    **SPECS,
    "images": BehaviorSpec("b", (BYTES, VECTOR, IMAGE), 2, (3, 2), True),
    "channels first": BehaviorSpec("b", (FIRST, VECTOR), 1),
    "images alone": BehaviorSpec("b", (BYTES,), 0, (4,), True),
    "floats": BehaviorSpec("b", (VECTOR, PLANE, WIDE), 1, (2, 5)),
}


def assert_acts_alike(policy, channels_last=False):
    model = Model(build_model(policy, channels_last).SerializeToString(), "toy")
    spec = policy.spec
    for rows in (1, 40):
        observations, mask, state = decisions(spec, rows, state=policy.state_size)
        acted = policy.act(observations, mask, state, None, deterministic=True)
        asked = mask if spec.masked else np.ones((rows, sum(spec.branches)), bool)
        chosen = model.act(observations, asked, state, deterministic=True)
        np.testing.assert_allclose(chosen.continuous, acted.continuous.clip(-1, 1), rtol=0, atol=1e-5)
        np.testing.assert_array_equal(chosen.discrete, acted.discrete)
        np.testing.assert_allclose(chosen.recurrent_state, acted.recurrent_state, rtol=0, atol=1e-5)
        drawn = model.act(observations, asked, state, deterministic=False)
        assert [x.shape for x in drawn] == [x.shape for x in chosen]
        assert (np.abs(drawn.continuous) <= 1).all()


@pytest.mark.parametrize("kind", ["ppo", "sac"])
@pytest.mark.parametrize("name", list(MANY))
@pytest.mark.parametrize(("cell", "joint_choices"), [("none", 0), ("none", 1000), ("lstm", 0), ("gru", 1000)])
def test_every_kind_of_behavior_acts_as_in_torch(name, kind, joint_choices, cell):
    memory = MemorySettings(Cell[cell], 24)
    assert_acts_alike(policy_of(MANY[name], kind, joint_choices=joint_choices, memory=memory))


@pytest.mark.parametrize("name", ["images", "images alone", "floats"])
def test_images_of_unity_act_as_in_torch_also_where_channels_are_many(name):
    assert_acts_alike(policy_of(MANY[name], "ppo"), channels_last=True)


@pytest.mark.parametrize(("encoder", "side"), [("simple", 5), ("nature", 36), ("impala", 9)])
def test_every_encoder_acts_as_in_torch(encoder, side):
    image = ObservationSpec("image", (side, side + 5, 3), "uint8", 1 / 255)
    wide = ObservationSpec("wide", (side + 1, side + 3, side + 4), "float32")
    assert_acts_alike(policy_of(BehaviorSpec("b", (image, wide, VECTOR), 2, (3,)), "sac", encoder=encoder), True)


@pytest.mark.parametrize(
    ("encoder", "side"), [("simple", 5), ("nature", 36), ("impala", 9), ("match3", 5), ("fully_connected", 1)]
)
def test_encoders_of_so_many_units_act_as_in_torch(encoder, side):
    image = ObservationSpec("image", (side, side + 5, 3), "uint8", 1 / 255)
    spec = BehaviorSpec("b", (image, VECTOR), 2, (3,))
    assert_acts_alike(policy_of(spec, "sac", encoder=encoder, encoder_units=12), True)


@pytest.mark.parametrize("kind", ["ppo", "sac"])
@pytest.mark.parametrize("settings", [{"normalize": False}, {"hidden": []}, *SCALED, *ACTIVATIONS])
def test_every_kind_of_network_acts_as_in_torch(settings, kind):
    assert_acts_alike(policy_of(MANY["floats"], kind, **settings))


@pytest.mark.parametrize("name", ["images", "images alone", "channels first", "hybrid"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_network_of_ones_own_acts_as_in_torch(name, channels_last):
    settings = {"custom": "tests.algorithms.custom_toys:Trunk", "encoder": "impala"}
    assert_acts_alike(policy_of(MANY[name], "ppo", **settings), channels_last)


def test_a_network_without_parameters_acts_as_in_torch():
    assert_acts_alike(policy_of(SPECS["continuous"], "ppo", custom="tests.algorithms.custom_toys:NoParameters"))


@pytest.mark.parametrize("joint_choices", [0, 1000])
def test_choices_are_drawn_as_often_as_they_are_likely(joint_choices):
    onnxruntime.set_seed(1)
    spec, rows = SPECS["branches"], 30_000
    policy = policy_of(spec, "ppo", joint_choices=joint_choices)
    model = Model(build_model(policy, False).SerializeToString(), "toy")
    observations = [np.repeat(x, rows, axis=0) for x in decisions(spec, 1)[0]]
    mask = np.ones((rows, 10), bool)
    mask[:, [0, 9]] = False
    inputs = policy.prepare([torch.from_numpy(x[:1]) for x in observations])
    log_probs = policy(inputs, torch.from_numpy(mask[:1]), torch.zeros(1, 0)).discrete.log_probs[0].double()
    chosen = model.act(observations, mask, np.zeros((rows, 0), np.float32), deterministic=False).discrete
    index = policy.branches.index(torch.from_numpy(chosen)).numpy()
    for branch, choices in enumerate(index.T):
        likely = log_probs[branch].exp().numpy()
        seen = np.bincount(choices, minlength=len(likely)) / rows
        assert not seen[likely == 0].any()
        assert (np.abs(seen - likely) <= 5 * np.sqrt(likely / rows)).all()


@pytest.mark.parametrize("kind", ["ppo", "sac"])
def test_continuous_actions_are_drawn_with_the_policys_deviation(kind):
    onnxruntime.set_seed(1)
    spec, rows = SPECS["continuous"], 30_000
    policy = policy_of(spec, kind)
    model = Model(build_model(policy, False).SerializeToString(), "toy")
    observations = [np.repeat(x, rows, axis=0) for x in decisions(spec, 1)[0]]
    nothing = np.zeros((rows, 0), np.float32)
    ours = model.act(observations, nothing.astype(bool), nothing, deterministic=False).continuous
    theirs = policy.act(observations, nothing.astype(bool), nothing, torch.Generator().manual_seed(0)).continuous
    theirs = theirs.clip(-1, 1)
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        np.testing.assert_allclose(np.quantile(ours, quantile, 0), np.quantile(theirs, quantile, 0), atol=0.04)


def test_a_model_that_acts_otherwise_is_refused(monkeypatch):
    config = compose(["env=basic", "algorithm=ppo"], TrainConfig, "config")
    other = build_model(policy_of(SPECS["continuous"], "ppo", seed=1), False)
    monkeypatch.setattr(algorithms.onnx.build, "build_model", lambda *_, **__: other)
    with pytest.raises(UserError, match=r"does not act as its policy does: of 1 rows, continuous actions differ by"):
        exported_model(policy_of(SPECS["continuous"], "ppo"), config)


def test_a_network_that_a_graph_cannot_hold_is_refused():
    config = compose(["env=basic", "algorithm=ppo"], TrainConfig, "config")
    policy = policy_of(SPECS["continuous"], "ppo", custom="tests.algorithms.custom_toys:Baked")
    with pytest.raises(UserError, match=r"does not act as its policy does.*If the network is your own"):
        exported_model(policy, config)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    assert train([*PPO, "env=basic", "env.workers=1", "run.mode=inline", "stop.samples=200", f"run.dir={folder}"]) == 0
    return folder


def test_the_command_writes_the_best_or_the_newest_policy(run, tmp_path, capsys):
    for which in ("best", "last"):
        file = tmp_path / "new" / f"{which}.onnx"
        assert main([f"run={run}", f"to={file}", f"checkpoint={which}"]) == 0
        checkpoint = load_checkpoint(str(run), Which[which])
        assert capsys.readouterr().out == f"{file}: Basic-v0 of {checkpoint.path}\n"
        model = Model.load(str(file))
        policy = trained_policy(load_config(run), checkpoint, model.exported.spec)
        observations, mask, state = decisions(policy.spec, 20)
        asked = np.ones((20, 3), bool)
        acted = policy.act(observations, mask, state, None, deterministic=True)
        np.testing.assert_array_equal(model.act(observations, asked, state, True).discrete, acted.discrete)
    assert main([f"run={run}", f"to={tmp_path / 'folder'}"]) == 0
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["Basic-v0.onnx"]


def test_what_cannot_be_written_is_one_message(run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "run").mkdir()
    refused = {
        (f"run={tmp_path / 'none'}", "to=a.onnx"): "is not a run's folder, it does not exist",
        (f"run={tmp_path / 'run'}", "to=a.onnx"): "is not a run's folder, it has no config.yaml",
        (f"run={run}",): "to is missing: give it, for example to=Game.onnx",
        ("to=a.onnx",): "run is missing: give it, for example run=runs/...",
        (f"run={run}", f"to={tmp_path / 'file'}"): "is a file: name one that ends in .onnx, or a folder",
        (f"run={run}", f"to={tmp_path / 'folder.onnx'}"): "is a folder: name a file, or a folder without .onnx",
        (f"run={run}", f"to={tmp_path / 'file' / 'a.onnx'}"): "a.onnx cannot be written (",
        (f"run={run}", "to=a.onnx", "checkpoint=newest"): "checkpoint=newest: expected one of best, last",
    }
    for words, message in refused.items():
        assert main(list(words)) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert message in err
        assert err.count("\n") == 1


def test_a_run_without_checkpoints_is_refused(run, tmp_path, capsys):
    (tmp_path / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    assert main([f"run={tmp_path}", "to=a.onnx", "trust=true"]) == 2
    assert "holds no checkpoint that can be loaded" in capsys.readouterr().err


def test_no_two_behaviors_share_a_file():
    names = ["Striker", "My Walker", "a/b", "a-b", "../up", "a%2Fb", "Größe"]
    files = {model_file(name) for name in names}
    assert len(files) == len(names)
    assert not any("/" in file or file.startswith("../") for file in files)
    assert model_file("My Walker") == "My Walker.onnx"


@pytest.mark.parametrize("name", ["x" * 1000, "剣" * 1000, "a" + "é" * 500, "NUL", "nul.x", "Com1 "])
def test_a_name_that_no_file_can_bear_is_changed(name: str, tmp_path: Path) -> None:
    file = model_file(name)
    (tmp_path / f".aside-{file}").write_bytes(b"")
    assert file not in (model_file(name + "x"), f"{name}.onnx")
    assert file.partition(".")[0].strip().upper() not in ("NUL", "COM1")
