"""What Unity asks of a model. How it acts is compared with the policy in tests/trainer/export/test_export.py."""

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from algorithms.onnx.build import build_model
from algorithms.onnx.contract import Exported, Port
from algorithms.settings import Activation, Cell, MemorySettings
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from tests.algorithms.test_numpy_policy import IMAGE, SPECS, VECTOR, policy_of

LSTM = {"memory": MemorySettings(Cell["lstm"], 24)}
KNOWN = {
    # Of Barracuda 3.0 and Sentis 2.1 both; neither has a GRU.
    *("Add", "ArgMax", "Clip", "Concat", "Conv", "Exp", "Flatten", "Gather", "Gemm", "Identity", "MatMul", "MaxPool"),
    *("Mul", "Multinomial", "RandomNormalLike", "ReduceMax", "Relu", "Sigmoid", "Slice", "Squeeze", "Sub", "Tanh"),
    *("Transpose", "Unsqueeze"),
}


def ports(infos):
    kinds = {TensorProto.FLOAT: "float32", TensorProto.INT64: "int64"}
    return {
        info.name: (
            kinds[info.type.tensor_type.elem_type],
            [axis.dim_param or axis.dim_value for axis in info.type.tensor_type.shape.dim],
        )
        for info in infos
    }


def constants(model):
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {node.output[0]: held[node.input[0]] for node in model.graph.node if node.op_type == "Identity"}


def test_a_hybrid_with_memory_has_the_names_shapes_and_types_of_the_contract():
    spec = BehaviorSpec("b", (VECTOR, IMAGE), 2, (3, 4), True)
    model = build_model(policy_of(spec, "ppo", **LSTM), channels_last=True)
    assert ports(model.graph.input) == {
        "obs_0": ("float32", ["batch", 4]),
        "obs_1": ("float32", ["batch", 3, 24, 24]),
        "action_masks": ("float32", ["batch", 7]),
        "recurrent_in": ("float32", ["batch", 1, 48]),
    }
    assert ports(model.graph.output) == {
        "version_number": ("float32", [1]),
        "memory_size": ("float32", [1]),
        "continuous_actions": ("float32", ["batch", 2]),
        "continuous_action_output_shape": ("float32", [1]),
        "deterministic_continuous_actions": ("float32", ["batch", 2]),
        "discrete_actions": ("int64", ["batch", 2]),
        "discrete_action_output_shape": ("float32", [1, 2]),
        "deterministic_discrete_actions": ("int64", ["batch", 2]),
        "recurrent_out": ("float32", ["batch", 1, 48]),
    }
    held = constants(model)
    assert {name: value.tolist() for name, value in held.items()} == {
        "version_number": [3],
        "memory_size": [48],
        "continuous_action_output_shape": [2],
        "discrete_action_output_shape": [[3, 4]],
    }
    assert {value.dtype for value in held.values()} == {np.dtype(np.float32)}
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 9)]


@pytest.mark.parametrize("kind", ["ppo", "sac", "deterministic"])
def test_what_a_behavior_lacks_is_neither_taken_nor_given(kind):
    model = build_model(policy_of(SPECS["continuous"], kind), channels_last=False)
    assert list(ports(model.graph.input)) == ["obs_0"]
    assert [name for name in ports(model.graph.output) if "discrete" in name or "recurrent" in name] == []
    assert constants(model)["memory_size"].tolist() == [0]
    unmasked = build_model(policy_of(SPECS["padded"], kind), channels_last=False)
    assert ports(unmasked.graph.input)["action_masks"] == ("float32", ["batch", 6])  # there for all that choose
    assert [name for name in ports(unmasked.graph.output) if "continuous" in name] == []


@pytest.mark.parametrize(
    ("kind", "cell", "encoder", "joint_choices", "activation"),
    [
        ("ppo", "lstm", "simple", 0, "relu"),
        ("sac", "gru", "nature", 1000, "silu"),
        ("ppo", "none", "impala", 0, "tanh"),
    ],
)
def test_models_have_only_operators_that_unity_knows(kind, cell, encoder, joint_choices, activation):
    spec = BehaviorSpec("b", (VECTOR, ObservationSpec("image", (40, 36, 3), "uint8", 1 / 255)), 2, (3, 4), True)
    settings = {"memory": MemorySettings(Cell[cell], 8), "encoder": encoder, "joint_choices": joint_choices}
    model = build_model(policy_of(spec, kind, activation=Activation[activation], **settings), channels_last=True)
    assert {node.op_type for node in model.graph.node} <= KNOWN


def test_the_metadata_brings_the_spec_back():
    for spec in SPECS.values():
        exported = Exported(spec, 24, True)
        assert Exported.from_metadata({"outstep": exported.to_metadata(), "other": "x"}) == exported
    assert Exported.from_metadata({}) is None
    assert Exported.from_metadata({"outstep": '{"spec": 3}'}) is None


def test_what_differs_from_the_contract_is_named():
    exported = Exported(SPECS["continuous"], 0, False)
    inputs, outputs = exported.inputs, exported.outputs
    assert exported.difference(inputs, outputs) is None
    other = [Port("obs_0", ("batch", 5))]
    assert exported.difference(other, outputs) == "input obs_0 float32[batch, 5], not obs_0 float32[batch, 4]"
    more = [*inputs, Port("epsilon", ("batch", 2))]
    assert exported.difference(more, outputs) == "inputs obs_0, epsilon, not obs_0"
    assert "outputs version_number, memory_size" in (exported.difference(inputs, outputs[:2]) or "")


def test_a_network_without_onnx_operators_is_refused():
    policy = policy_of(SPECS["continuous"], "ppo", custom="tests.algorithms.custom_toys:Exotic")
    with pytest.raises(UserError, match=r"network of your own cannot be exported: torch finds no ONNX operators"):
        build_model(policy, channels_last=False)
