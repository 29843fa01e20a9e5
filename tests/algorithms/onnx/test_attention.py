"""Models with sets and goal signals say what torch says: for every count of entities, and any batch."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from algorithms.onnx.build import build_model
from algorithms.policy import Policy
from algorithms.settings import Activation, AttentionSettings, Goal, NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec

pytest.importorskip("onnxruntime")
from trainer.serve.onnx_policy import Model

MOST = 20
PLACE = ObservationSpec("place", (3,), "float32")
GOAL = ObservationSpec("goal", (4,), "float32", goal=True)
THINGS = ObservationSpec("things", (MOST, 5), "float32", entities=True)
ALLIES = ObservationSpec("allies", (3, 2), "float32", entities=True)
SPEC = BehaviorSpec("Gather", (ALLIES, PLACE, THINGS), continuous_size=2)
SETTINGS = NetworkSettings([32], attention=AttentionSettings(32, 4, 2))
READ_BY_UNITY = {
    *("Abs", "Add", "Cast", "Clip", "Concat", "Div", "Exp", "Flatten", "Gemm", "Greater", "Identity", "MatMul", "Mul"),
    *("RandomNormalLike", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Sigmoid", "Slice", "Softmax"),
    *("Sqrt", "Sub", "Tanh", "Transpose", "Unsqueeze"),
}


def policy_of(spec=SPEC, **settings):
    torch.manual_seed(3)
    policy = Policy(spec, replace(SETTINGS, **settings), "ppo")
    for parameter in policy.parameters():
        parameter.detach().add_(torch.randn_like(parameter) * 0.1)
    policy.shift.uniform_(-0.5, 0.5)
    policy.scale.uniform_(0.5, 2)
    return policy


def observed(spec, rows, count, rng):
    seen = []
    for each in spec.observations:
        x = rng.standard_normal((rows, *each.shape)).astype(np.float32)
        if each.entities:
            x[:, min(count, each.shape[0]) :] = 0
            x = rng.permuted(x, axis=1) if count % 2 else x
        seen.append(x)
    return seen


def worst(policy, batches, counts):
    model = Model(build_model(policy, True).SerializeToString(), "toy")
    rng, differences = np.random.default_rng(0), []
    for rows in batches:
        nothing = np.zeros((rows, 0), np.float32)
        for count in counts:
            seen = observed(policy.spec, rows, count, rng)
            acted = policy.act(seen, nothing.astype(bool), nothing, None, deterministic=True)
            chosen = model.act(seen, nothing.astype(bool), nothing, deterministic=True)
            differences.append(np.abs(chosen.continuous - acted.continuous.clip(-1, 1)).max())
    return max(differences)


def test_for_every_count_and_batch_a_model_says_what_torch_says():
    policy = policy_of()
    assert worst(policy, range(1, 65, 9), range(MOST + 1)) < 1e-5
    assert worst(policy, range(1, 65), (0, 7, MOST)) < 1e-5


@pytest.mark.parametrize(
    ("spec", "settings"),
    [
        (replace(SPEC, observations=(THINGS,)), {}),
        (SPEC, {"normalize": False, "activation": Activation["silu"]}),
        (SPEC, {"attention": AttentionSettings(8, 1, 1), "activation": Activation["tanh"]}),
        (replace(SPEC, observations=(GOAL, THINGS, PLACE)), {"goal": Goal["hyper"]}),
        (
            replace(SPEC, observations=(PLACE, GOAL, replace(PLACE, name="far"))),
            {"goal": Goal["hyper"], "hidden": [12, 24]},
        ),
    ],
)
def test_every_kind_of_network_says_what_torch_says(spec, settings):
    assert worst(policy_of(spec, **settings), (1, 5), (0, 1, 3, MOST)) < 1e-5


def test_a_small_entity_is_there_in_a_model_too():
    policy = policy_of(replace(SPEC, observations=(THINGS,)), normalize=False)
    model = Model(build_model(policy, True).SerializeToString(), "toy")
    things, nothing = np.zeros((3, MOST, 5), np.float32), np.zeros((3, 0), np.float32)
    things[1, 4], things[2, 4, 2] = 0.02, 1e-30  # of norm 0.045; the smallest that is no zero
    seen = model.act([things], nothing.astype(bool), nothing, deterministic=True).continuous
    assert (np.abs(seen[0] - seen[1:]).max(1) > 0.01).all()
    right = policy.act([things], nothing.astype(bool), nothing, None, deterministic=True).continuous
    np.testing.assert_allclose(seen, right.clip(-1, 1), atol=1e-5)


def test_there_are_only_operators_that_unity_reads_and_no_two_transpositions_in_a_row():
    model = build_model(policy_of(replace(SPEC, observations=(GOAL, ALLIES, THINGS)), goal=Goal["hyper"]), True)
    onnx.checker.check_model(model, full_check=True)
    nodes = model.graph.node
    assert {node.op_type for node in nodes} <= READ_BY_UNITY
    transposed = {node.output[0] for node in nodes if node.op_type == "Transpose"}
    assert not [node for node in nodes if node.op_type == "Transpose" and node.input[0] in transposed]
    shape = model.graph.input[2].type.tensor_type.shape.dim
    assert [each.dim_param or each.dim_value for each in shape] == ["batch", MOST, 5]
