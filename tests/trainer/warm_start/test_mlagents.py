"""The actors of ML-Agents' checkpoints, whose tensors are made here by their names and formulas."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from algorithms.networks.normalizer import Normalizer
from algorithms.policy import Policy
from algorithms.settings import Activation, Cell, MemorySettings, NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from tests.trainer.tiny_runs import PPO, newest
from trainer.__main__ import main
from trainer.warm_start.mlagents import normalizer_state, parts
from trainer.warm_start.torch_file import read_tensors

SILU = Activation["silu"]
UNITS = 8
VECTOR, BYTES = ObservationSpec("v", (4,), "float32"), ObservationSpec("b", (3,), "uint8")
IMAGE = ObservationSpec("i", (6, 7, 2), "uint8", 1 / 255)
ENCODER = "network_body.observation_encoder.processors"


def actor(spec: BehaviorSpec, seed: int = 0, squashed: bool = False, memory: int = 0) -> dict[str, Tensor]:
    """Random tensors by the names that ML-Agents gives those of an actor with two layers."""
    torch.manual_seed(seed)
    made, inputs = {}, 0
    for i, each in enumerate(spec.observations):
        if len(each.shape) == 3:
            height, width, channels = each.shape
            made[f"{ENCODER}.{i}.conv_layers.0"] = torch.nn.Conv2d(channels, 35, 3)
            made[f"{ENCODER}.{i}.conv_layers.2"] = torch.nn.Conv2d(35, 144, 3)
            made[f"{ENCODER}.{i}.dense.0"] = torch.nn.Linear(144 * (height - 4) * (width - 4), UNITS)
        inputs += UNITS if len(each.shape) == 3 else each.shape[0]
    made["network_body._body_endoder.seq_layers.0"] = torch.nn.Linear(inputs, UNITS)
    made["network_body._body_endoder.seq_layers.2"] = torch.nn.Linear(UNITS, UNITS)
    features = UNITS
    if memory:
        made["network_body.lstm.lstm"] = torch.nn.LSTM(UNITS, memory // 2, batch_first=True)
        features = memory // 2
    for name in ("mu", "log_sigma") if squashed else ("mu",):
        made[f"action_model._continuous_distribution.{name}"] = torch.nn.Linear(features, spec.continuous_size)
    for i, size in enumerate(spec.branches):
        made[f"action_model._discrete_distribution.branches.{i}"] = torch.nn.Linear(features, size)
    tensors = {f"{name}.{key}": x.detach() for name, each in made.items() for key, x in each.named_parameters()}
    for i, each in enumerate(spec.observations):
        if each.dtype == "float32":
            tensors[f"{ENCODER}.{i}.normalizer.normalization_steps"] = torch.tensor(100)
            tensors[f"{ENCODER}.{i}.normalizer.running_mean"] = torch.randn(each.shape)
            tensors[f"{ENCODER}.{i}.normalizer.running_variance"] = 100 * torch.rand(each.shape) + 1
    if not squashed and spec.continuous_size:
        tensors["action_model._continuous_distribution.log_sigma"] = torch.randn(1, spec.continuous_size) * 0.1
    return tensors


def theirs(tensors: dict[str, Tensor], observations: list[Tensor], memory: Tensor | None = None) -> dict[str, Tensor]:
    """What ML-Agents computes: the mean of continuous actions before any clipping, and the logits of the branches."""
    encoded = []
    for i, seen in enumerate(observations):
        if seen.dim() == 4:
            x = seen.permute(0, 3, 1, 2).float() / 255
            for layer in ("conv_layers.0", "conv_layers.2"):
                x = F.relu(
                    F.conv2d(x, tensors[f"{ENCODER}.{i}.{layer}.weight"], tensors[f"{ENCODER}.{i}.{layer}.bias"])
                )
            dense = f"{ENCODER}.{i}.dense.0"
            encoded.append(F.relu(F.linear(x.flatten(1), tensors[f"{dense}.weight"], tensors[f"{dense}.bias"])))
        elif f"{ENCODER}.{i}.normalizer.running_mean" in tensors:
            mean, variance, steps = (
                tensors[f"{ENCODER}.{i}.normalizer.{key}"]
                for key in ("running_mean", "running_variance", "normalization_steps")
            )
            encoded.append(((seen - mean) / (variance / steps).sqrt()).clamp(-5, 5))
        else:
            encoded.append(seen.float())
    x = torch.cat(encoded, dim=1)
    for i in (0, 2):
        body = f"network_body._body_endoder.seq_layers.{i}"
        x = F.silu(F.linear(x, tensors[f"{body}.weight"], tensors[f"{body}.bias"]))
    if memory is not None:
        lstm = torch.nn.LSTM(UNITS, memory.shape[1] // 2, batch_first=True)
        lstm.load_state_dict(
            {k.removeprefix("network_body.lstm.lstm."): v for k, v in tensors.items() if ".lstm." in k}
        )
        parts_of = [each[None].contiguous() for each in memory.chunk(2, dim=1)]
        x = lstm(x[:, None], tuple(parts_of))[0][:, 0]
    heads = {k.rpartition(".")[0] for k in tensors if k.startswith("action_model") and k.endswith(".weight")}
    return {head: F.linear(x, tensors[f"{head}.weight"], tensors[f"{head}.bias"]) for head in heads}


def loaded(spec: BehaviorSpec, kind: Any, tensors: dict[str, Tensor], **network: Any) -> tuple[Policy, list[str]]:
    """A policy that took over an actor, and what it did not find."""
    settings: dict[str, Any] = {"hidden": [UNITS, UNITS], "activation": SILU, "clip_inputs": 5.0, **network}
    policy = Policy(spec, NetworkSettings(**settings), kind).requires_grad_(False)
    arrays = {name: x.numpy() for name, x in tensors.items()}
    lacks = []
    for name, ours, array in parts(policy, arrays):
        if array is None or array.shape != tuple(ours.shape):
            lacks.append(name)
        else:
            ours.copy_(torch.from_numpy(array))
    if policy.normalized_size and (state := normalizer_state(policy, arrays)) is not None:
        normalizer = Normalizer(policy.normalized_size)
        normalizer.load_state(state)
        normalizer.publish(policy.shift, policy.scale)
    return policy, lacks


def seen_by(spec: BehaviorSpec, rows: int = 6) -> list[Tensor]:
    torch.manual_seed(1)
    return [
        torch.randn(rows, *each.shape) * 3
        if each.dtype == "float32"
        else torch.randint(0, 255, (rows, *each.shape)).byte()
        for each in spec.observations
    ]


@pytest.mark.parametrize("scale", [1.0, 1 / 3])
@pytest.mark.parametrize("memory", [0, 12])
def test_a_ppo_policy_acts_as_the_actor_did(scale: float, memory: int) -> None:
    spec = BehaviorSpec("x", (BYTES, VECTOR, IMAGE), 3, (3, 2))
    tensors, cell = (
        actor(spec, memory=memory),
        MemorySettings(Cell["lstm"], memory // 2) if memory else MemorySettings(),
    )
    network = {"encoder": "match3", "encoder_units": UNITS, "action_scale": scale, "joint_choices": 0, "memory": cell}
    policy, lacks = loaded(spec, "ppo", tensors, **network)
    assert lacks == []
    observations, state = seen_by(spec), torch.randn(6, memory)
    found = policy(policy.prepare(observations), torch.ones(6, 0, dtype=torch.bool), state)
    expected = theirs(tensors, observations, state if memory else None)
    mean = expected["action_model._continuous_distribution.mu"]
    torch.testing.assert_close(found.continuous.mean, mean / 3, rtol=1e-4, atol=1e-5)
    deviation = tensors["action_model._continuous_distribution.log_sigma"].exp()[0] / 3
    torch.testing.assert_close(found.continuous.log_std.exp(), deviation)
    for i, size in enumerate(spec.branches):
        logits = expected[f"action_model._discrete_distribution.branches.{i}"]
        torch.testing.assert_close(found.discrete.log_probs[:, i, :size], logits.log_softmax(-1), rtol=1e-4, atol=1e-5)


def test_choices_that_are_made_together_are_as_likely() -> None:
    spec = BehaviorSpec("x", (VECTOR,), 0, (3, 2))
    tensors = actor(spec)
    policy, lacks = loaded(spec, "ppo", tensors, joint_choices=128)
    assert lacks == []
    observations = seen_by(spec)
    found = policy(policy.prepare(observations), torch.ones(6, 0, dtype=torch.bool), torch.zeros(6, 0))
    expected = theirs(tensors, observations)
    first, second = (expected[f"action_model._discrete_distribution.branches.{i}"].softmax(-1) for i in (0, 1))
    torch.testing.assert_close(
        found.discrete.log_probs[:, 0].exp(), (first[:, :, None] * second[:, None]).flatten(1), rtol=1e-4, atol=1e-5
    )


def test_a_sac_policy_acts_as_the_actor_did() -> None:
    spec = BehaviorSpec("x", (VECTOR,), 2)
    tensors = actor(spec, squashed=True)
    policy, lacks = loaded(spec, "sac", tensors)
    assert lacks == []
    observations = seen_by(spec)
    found = policy(policy.prepare(observations), torch.ones(6, 0, dtype=torch.bool), torch.zeros(6, 0)).continuous
    expected = theirs(tensors, observations)
    torch.testing.assert_close(found.mode(), expected["action_model._continuous_distribution.mu"].tanh())
    torch.testing.assert_close(found.log_std, expected["action_model._continuous_distribution.log_sigma"].clamp(-10, 2))


def test_what_does_not_fit_is_named() -> None:
    spec = BehaviorSpec("x", (VECTOR,), 2, (3,))
    tensors = actor(spec)
    assert loaded(spec, "sac", tensors)[1] == [
        *("head.mean.weight", "head.deviation.weight", "head.mean.bias", "head.deviation.bias")
    ]
    assert "trunk.0.weight" in loaded(spec, "ppo", tensors, activation=Activation["relu"])[1]
    other = BehaviorSpec("x", (VECTOR, BYTES), 2, (4,))
    assert loaded(other, "ppo", tensors)[1] == [
        "trunk.0.weight",
        "head.branch_0.weight",
        "head.branch_0.bias",
    ] or loaded(other, "ppo", tensors)[1] == ["trunk.0.weight", "head.combinations.weight", "head.combinations.bias"]


def test_a_run_begins_with_a_checkpoint_of_ml_agents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = BehaviorSpec("Basic-v0", (ObservationSpec("o", (20,), "float32"),), 0, (3,))
    tensors = actor(spec)
    folder = tmp_path / "results" / "old" / "Basic-v0"
    folder.mkdir(parents=True)
    torch.save({"Policy": tensors, "global_step": {"x": torch.tensor([5])}}, folder / "checkpoint.pt")
    words = [
        "env=basic",
        "run.mode=inline",
        *PPO,
        "algorithm.network.hidden=[8,8]",
        "algorithm.network.activation=silu",
    ]
    start = [*words, f"init={folder.parent}", "stop.samples=3", f"run.dir={tmp_path / 'run'}"]
    assert main(start) == 0
    said = capsys.readouterr().err
    assert "what does not fit begins anew: values or critics." in said
    flat = newest(tmp_path / "run").tensors["Basic-v0/weights/policy"]
    assert set(tensors["network_body._body_endoder.seq_layers.2.weight"].flatten().tolist()) <= set(flat.tolist())
    wrong = [*words, f"init={folder / 'checkpoint.pt'}", f"run.dir={tmp_path / 'b'}", "algorithm.network.hidden=[9,9]"]
    assert main(wrong) == 2
    assert "nothing of it fits the networks of behavior 'Basic-v0'" in capsys.readouterr().err


def archive(folder: Path, pickled: bytes, **members: bytes) -> Path:
    file = folder / "a.pt"
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("a/data.pkl", pickled)
        for name, content in members.items():
            written.writestr(f"a/data/{name}", content)
    return file


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("echo evil > evil.txt",)


def test_no_code_of_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"Policy": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match=r"evil.pt is no checkpoint of ML-Agents: it names (posix|nt).system"):
        read_tensors(tmp_path / "evil.pt", "Policy")
    assert not (tmp_path / "evil.txt").exists()


LARGE = b"\x80\x02r\xff\xff\xff\x7f."
"""Puts nothing at a place of the memo for which C's reader would take gigabytes."""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps({"Policy": 3}), "it holds no 'Policy'"),
        (pickle.dumps([1]), "it holds no 'Policy'"),
        (b"\x80\x02", ""),
        (LARGE, ""),
        (pickle.dumps({"Policy": {}})[:-3], ""),
    ],
)
def test_a_file_that_is_none_is_one_message(content: bytes, words: str, tmp_path: Path) -> None:
    file = archive(tmp_path, content)
    with pytest.raises(UserError) as refused:
        read_tensors(file, "Policy")
    assert str(refused.value).startswith(f"{file} is no checkpoint of ML-Agents: {words}")


def test_tensors_are_those_that_torch_wrote(tmp_path: Path) -> None:
    made = {
        "a": torch.randn(3, 4),
        "b": torch.arange(5),
        "c": torch.randn(2, 3).half(),
        "d": torch.tensor(2.5).double(),
    }
    torch.save(
        {"Policy": made, "Optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]}},
        tmp_path / "a.pt",
    )
    read = read_tensors(tmp_path / "a.pt", "Policy")
    assert read.keys() == made.keys()
    for name, tensor in made.items():
        np.testing.assert_array_equal(read[name], tensor.double().numpy())
    whole = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut.pt is no checkpoint"):
        read_tensors(tmp_path / "cut.pt", "Policy")
    stream = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    (tmp_path / "packed.pt").write_bytes(stream.getvalue())
    with pytest.raises(UserError, match="is compressed"):
        read_tensors(tmp_path / "packed.pt", "Policy")
