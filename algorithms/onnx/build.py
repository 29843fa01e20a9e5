"""A policy as an ONNX model, its inputs and outputs as `algorithms.onnx.contract` says.

`Policy` says what is computed here. The graph is built by hand: of operators that Unity's importers know (which is why
a GRU is made of smaller ones), in 2 ms, and alike with every version of torch. Only a user's own network goes through
torch's exporter. Observations are raw, but for uint8 ones: these come multiplied by their scale, as Unity sends images.

Shapes: N rows, F features, R numbers of the recurrent state, B branches as they are chosen, A mask entries, K choices
of the largest branch.
"""

from __future__ import annotations

import inspect
import io
import math
import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import onnx
import torch
from onnx import TensorProto
from torch import Tensor, nn

from algorithms.metrics import words_of
from algorithms.networks.custom import CustomNetwork
from algorithms.networks.distributions import FORBIDDEN
from algorithms.networks.encoders import (
    FullyConnected,
    ImageEncoder,
    ImpalaResNet,
    Match3CNN,
    NatureCNN,
    ResidualBlock,
    SimpleCNN,
)
from algorithms.networks.mlp import MLP, GoalMLP
from algorithms.networks.recurrent import RecurrentLayer
from algorithms.onnx.attention import attention
from algorithms.onnx.contract import Exported
from algorithms.onnx.graph import ACTIVATIONS, OPSET, Graph, as_array
from algorithms.policy import LOG_STD_RANGE, Policy
from envs.spec import Array, ObservationSpec, UserError


def build_model(policy: Policy, channels_last: bool) -> onnx.ModelProto:
    """Returns the model of a policy, checked by ONNX; UserError if torch cannot export a network of the user's own."""
    exported = Exported(policy.spec, policy.state_size, channels_last)
    graph = Graph()
    for name, values in exported.constants.items():
        graph.node("Identity", graph.constant(np.array(values, np.float32)), to=name)
    features = _features(graph, policy, exported)
    if policy.recurrent_layer is not None:
        features = _recurrent(graph, policy.recurrent_layer, features)
    weight, bias = as_array(policy.head.weight), as_array(policy.head.bias)
    size = policy.spec.continuous_size
    if size:
        _continuous(graph, policy, features, weight, bias)
    if policy.spec.branches:
        start = len(weight) - policy.branches.count * policy.branches.width
        _discrete(graph, policy, features, weight[start:], bias[start:])
    model = graph.model(exported)
    onnx.checker.check_model(model, full_check=True)
    return model


def _features(graph: Graph, policy: Policy, exported: Exported) -> str:
    """(N, F) of the observations: what `prepare`, encoder and trunk make of them."""
    observations = policy.spec.observations
    vectors, start = [], 0
    images = [(f"obs_{i}", o) for i, o in enumerate(observations) if policy.images[i]]
    for i in policy.vector_order:
        observation, x = observations[i], f"obs_{i}"
        if not exported.as_in_spec(observation):
            x = graph.node("Transpose", x, perm=[0, 2, 3, 1])
        if len(observation.shape) > 1:
            x = graph.node("Flatten", x, axis=1)
        if policy.normalized[i]:
            end = start + math.prod(observation.shape)
            x = graph.node("Sub", x, graph.constant(as_array(policy.shift[start:end])))
            x = graph.node("Mul", x, graph.constant(as_array(policy.scale[start:end])))
            x = graph.node("Clip", x, min=-policy.network.clip_inputs, max=policy.network.clip_inputs)
            start = end
        else:
            x = _scaled(graph, x, observation)
        vectors.append(x)
    sets = _sets(graph, policy, start)
    if isinstance(policy.encoder, CustomNetwork):
        return _custom(graph, policy.encoder, vectors, images, sets, exported)
    parts = list(vectors)
    for (x, observation), encoder in zip(images, cast(Sequence[ImageEncoder], policy.encoder.images)):
        if encoder.permutes == exported.as_in_spec(observation):
            # Its axes are neither the network's nor those that the network thinks it has: (C, H, W) of what it takes
            # for (C, H, W) itself, because there are fewer rows than channels.
            x = graph.node("Transpose", x, perm=[0, 2, 3, 1])
        x = _scaled(graph, x, observation)
        if type(encoder.network) in _LAYERS:
            parts.append(_layer(graph, encoder.network, x))
        else:
            made = _inserted(graph, encoder.network, [x], [torch.zeros(2, *encoder.shape)])
            parts.append(_several(graph, encoder.last, made))
    if policy.encoder.attention is not None:
        context = graph.concat(parts) if parts else None
        most = sum(observations[i].shape[0] for i in policy.sets)
        parts = [*([context] if context else []), attention(graph, policy.encoder.attention, context, sets, most)]
    return _layer(graph, policy.trunk, graph.concat(parts))


def _sets(graph: Graph, policy: Policy, start: int) -> list[str]:
    """Sets of entities as networks get them, (N, K, D + 1); those of the normaliser's numbers begin at `start`."""
    sets, largest = [], policy.network.clip_inputs
    for i in policy.sets:
        x, end = f"obs_{i}", start + policy.spec.observations[i].shape[1]
        # ReduceMax of the magnitudes is above 0 where any number is not 0, however small.
        magnitude = graph.node("ReduceMax", graph.node("Abs", x), axes=[2], keepdims=1)
        there = graph.as_number(graph.node("Greater", magnitude, graph.number(0.0)))
        if policy.normalized[i]:
            x = graph.node("Sub", x, graph.constant(as_array(policy.shift[start:end])))
            x = graph.node("Mul", x, graph.constant(as_array(policy.scale[start:end])))
            x = graph.node("Mul", graph.node("Clip", x, min=-largest, max=largest), there)
            start = end
        sets.append(graph.node("Concat", x, there, axis=2))
    return sets


def _scaled(graph: Graph, x: str, observation: ObservationSpec) -> str:
    if observation.dtype == "uint8" or observation.scale == 1:
        return x
    return graph.node("Mul", x, graph.number(observation.scale))


def _layer(graph: Graph, layer: nn.Module, x: str) -> str:
    """What one of our own layers, or several one after another, makes of a value."""
    made: str = _LAYERS[type(layer)](graph, layer, x)
    return made


def _several(graph: Graph, layers: Any, x: str) -> str:
    for layer in layers:
        x = _layer(graph, layer, x)
    return x


def _mlp(graph: Graph, mlp: Any, x: str) -> str:
    for layer in mlp.layers:
        x = ACTIVATIONS[mlp.activation](graph, _layer(graph, layer, x))
    return x


def _goal_mlp(graph: Graph, mlp: Any, x: str) -> str:
    goal = graph.concat([graph.slice(x, start, end) for start, end in mlp.goal])
    encoding = graph.layer_norm(_layer(graph, mlp.encoding, goal), 1)
    body = _layer(graph, mlp.body, x)
    products = graph.node("Mul", graph.node("Unsqueeze", encoding, axes=[2]), graph.node("Unsqueeze", body, axes=[1]))
    inputs = graph.concat([body, graph.node("Flatten", products, axis=1)])
    return ACTIVATIONS[mlp.activation](graph, _layer(graph, mlp.last, inputs))


def _convolution(graph: Graph, layer: Any, x: str) -> str:
    weight, bias = graph.constant(as_array(layer.weight)), graph.constant(as_array(layer.bias))
    return graph.node("Conv", x, weight, bias, **_window(layer.kernel_size, layer.stride, layer.padding))


def _pooling(graph: Graph, layer: Any, x: str) -> str:
    kernel, stride, padding = ((side, side) for side in (layer.kernel_size, layer.stride, layer.padding))
    return graph.node("MaxPool", x, **_window(kernel, stride, padding))


def _window(kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> dict[str, Any]:
    return {"kernel_shape": list(kernel), "strides": list(stride), "pads": [*padding, *padding]}


def _residual(graph: Graph, block: Any, x: str) -> str:
    added = _layer(graph, block.first, graph.node("Relu", x))
    return graph.node("Add", x, _layer(graph, block.second, graph.node("Relu", added)))


_LAYERS: dict[type[nn.Module], Any] = {
    MLP: _mlp,
    GoalMLP: _goal_mlp,
    SimpleCNN: _several,
    NatureCNN: _several,
    Match3CNN: _several,
    FullyConnected: _several,
    ImpalaResNet: _several,
    ResidualBlock: _residual,
    nn.Conv2d: _convolution,
    nn.MaxPool2d: _pooling,
    nn.ReLU: lambda graph, _, x: graph.node("Relu", x),
    nn.Flatten: lambda graph, _, x: graph.node("Flatten", x, axis=1),
    nn.Linear: lambda graph, layer, x: graph.linear(x, layer.weight, layer.bias),
}


def _recurrent(graph: Graph, recurrent: RecurrentLayer, x: str) -> str:
    """(N, F) that come out of the recurrent layer; made of single gates, because Unity has no GRU."""
    layer, size = recurrent.layer, recurrent.features
    before = graph.node("Flatten", "recurrent_in", axis=1)
    output = graph.slice(before, 0, size) if isinstance(layer, nn.LSTM) else before

    def both(gate: int) -> tuple[str, str]:
        rows = slice(gate * size, (gate + 1) * size)
        inner, inner_bias = layer.get_parameter("weight_ih_l0")[rows], layer.get_parameter("bias_ih_l0")[rows]
        outer, outer_bias = layer.get_parameter("weight_hh_l0")[rows], layer.get_parameter("bias_hh_l0")[rows]
        return graph.linear(x, inner, inner_bias), graph.linear(output, outer, outer_bias)

    def gate(number: int, activation: str = "Sigmoid") -> str:
        return graph.node(activation, graph.node("Add", *both(number)))

    if isinstance(layer, nn.LSTM):
        cell = graph.slice(before, size, 2 * size)
        taken, kept, new, shown = gate(0), gate(1), gate(2, "Tanh"), gate(3)
        cell = graph.node("Add", graph.node("Mul", kept, cell), graph.node("Mul", taken, new))
        output = graph.node("Mul", shown, graph.node("Tanh", cell))
        after = graph.concat([output, cell])
    else:
        reset, kept = gate(0), gate(1)
        inner, outer = both(2)
        new = graph.node("Tanh", graph.node("Add", inner, graph.node("Mul", reset, outer)))
        output = after = graph.node("Add", new, graph.node("Mul", kept, graph.node("Sub", output, new)))
    graph.node("Unsqueeze", after, to="recurrent_out", axes=[1])
    return output


def _continuous(graph: Graph, policy: Policy, features: str, weight: Array, bias: Array) -> None:
    """Continuous actions in [-1, 1]: environments clip what a Gaussian gives."""
    size = policy.spec.continuous_size
    scale = np.float32(1 if policy.log_std is None else policy.network.action_scale)
    mean = graph.linear(features, weight[:size] * scale, bias[:size] * scale)
    if policy.kind == "deterministic":
        mean, deviation = graph.node("Tanh", mean), graph.constant(as_array(policy.noise))
    elif policy.log_std is not None:
        deviation = graph.constant(np.exp(as_array(policy.log_std)))
    else:
        log_std = graph.linear(features, weight[size : 2 * size], bias[size : 2 * size])
        low, high = LOG_STD_RANGE
        deviation = graph.node("Exp", graph.node("Clip", log_std, min=low, max=high))
    noise = graph.node("RandomNormalLike", mean, mean=0.0, scale=1.0)
    drawn = graph.node("Add", mean, graph.node("Mul", noise, deviation))
    for raw, name in ((drawn, "continuous_actions"), (mean, "deterministic_continuous_actions")):
        if policy.kind == "sac":
            raw = graph.node("Tanh", raw)
        graph.node("Clip", raw, to=name, min=-1.0, max=1.0)  # onnxruntime's tanh comes to 1.0000001


def _discrete(graph: Graph, policy: Policy, features: str, weight: Array, bias: Array) -> None:
    """Discrete actions; `weight` (B * K, F) and `bias` are those of the logits."""
    branches, sizes = policy.branches, policy.spec.branches
    one = graph.number(1.0)
    allowed, start = [], 0
    for size in sizes:
        mask = graph.slice("action_masks", start, start + size)
        # A branch whose mask allows nothing counts as unmasked: see `Branches.forbidden`.
        any_allowed = graph.node("ReduceMax", mask, axes=[1], keepdims=1)
        allowed.append(graph.node("Add", mask, graph.node("Sub", one, any_allowed)))
        start += size
    if branches.joint:
        # Of a combination as many choices are allowed as the row of its choices meets ones in the mask.
        combinations = branches.combinations.cpu().numpy()
        meets = np.concatenate([np.eye(size, dtype=np.float32)[:, combinations[:, i]] for i, size in enumerate(sizes)])
        counts = graph.node("MatMul", graph.concat(allowed), graph.constant(meets))
        allowed, wanted = [counts], graph.number(len(sizes))
    else:
        wanted = one
    chosen: dict[str, list[str]] = {"discrete_actions": [], "deterministic_discrete_actions": []}
    for i, size in enumerate(branches.sizes):
        rows = slice(i * branches.width, i * branches.width + size)
        penalty = graph.node("Mul", graph.node("Sub", wanted, allowed[i]), graph.number(FORBIDDEN))
        logits = graph.node("Add", graph.linear(features, weight[rows], bias[rows]), penalty)
        # It takes logarithms of chances that need not sum to 1.
        drawn = graph.node("Multinomial", logits, sample_size=1, dtype=TensorProto.INT64)
        chosen["discrete_actions"].append(drawn)
        chosen["deterministic_discrete_actions"].append(graph.node("ArgMax", logits, axis=1, keepdims=1))
    for name, choices in chosen.items():
        if branches.joint:
            index = graph.node("Squeeze", choices[0], axes=[1])
            graph.node("Gather", graph.constant(combinations), index, to=name, axis=0)
        else:
            graph.concat(choices, to=name)


def _custom(
    graph: Graph,
    encoder: CustomNetwork,
    vectors: list[str],
    images: list[tuple[str, ObservationSpec]],
    sets: list[str],
    exported: Exported,
) -> str:
    """(N, F) by a user's own network, whose nodes torch writes; it takes images as they were sent."""
    inputs, examples = [], []
    if vectors:
        inputs.append(graph.concat(vectors))
        others = [o for _, o in images] + [o for o in exported.spec.observations if o.entities]
        size = sum(math.prod(o.shape) for o in exported.spec.observations) - sum(math.prod(o.shape) for o in others)
        examples.append(torch.zeros(2, size))
    for x, observation in images:
        if observation.dtype == "uint8":
            x = graph.node("Mul", x, graph.number(1 / observation.scale))
        if not exported.as_in_spec(observation):
            x = graph.node("Transpose", x, perm=[0, 2, 3, 1])
        inputs.append(x)
        examples.append(torch.zeros(2, *observation.shape))
    inputs += sets
    examples += [torch.zeros(2, o.shape[0], o.shape[1] + 1) for o in exported.spec.observations if o.entities]
    return _inserted(graph, _Traceable(encoder, bool(vectors)), inputs, examples)


def _inserted(graph: Graph, network: nn.Module, inputs: list[str], examples: list[Tensor]) -> str:
    """What a module of the user's own makes of inputs, of which there are examples."""
    traced = _traced(network, examples).graph
    prefix = f"network_{len(graph.nodes)}_"
    names = {f"input_{i}": name for i, name in enumerate(inputs)}
    for constant in traced.initializer:
        constant.name = names[constant.name] = f"{prefix}{constant.name}"
        graph.constants.append(constant)
    for node in traced.node:
        for values in (node.input, node.output):
            values[:] = [names.setdefault(value, f"{prefix}{value}") if value else "" for value in values]
        graph.nodes.append(node)
    return names[traced.output[0].name]


class _Traceable(nn.Module):
    """A user's network, which takes a sequence, with its inputs one by one; makes the vector if there is none."""

    def __init__(self, encoder: CustomNetwork, has_vector: bool) -> None:
        super().__init__()
        self._encoder, self._has_vector = encoder, has_vector

    def forward(self, *inputs: Tensor) -> Tensor:
        """(N, F)."""
        if self._has_vector:
            return cast(Tensor, self._encoder(inputs))
        return cast(Tensor, self._encoder((inputs[0].new_zeros((inputs[0].shape[0], 0)), *inputs)))


def _traced(network: nn.Module, examples: list[Tensor]) -> onnx.ModelProto:
    names = [f"input_{i}" for i in range(len(examples))]
    # Torch's newer exporter writes opset 18 and more, and wants another package.
    older: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is the older one, and whatever it finds odd
            torch.onnx.export(
                network,
                tuple(examples),
                cast(Any, buffer),  # its annotation has forgotten files
                opset_version=OPSET,
                input_names=names,
                output_names=["features"],
                dynamic_axes={name: {0: "batch"} for name in [*names, "features"]},
                **older,
            )
    except Exception as error:  # of many kinds
        raise UserError(
            f"the network of your own cannot be exported: torch finds no ONNX operators of opset {OPSET} for it "
            f"({words_of(error)}); use layers that have some (docs/deploy.md)"
        ) from error
    return onnx.load_from_string(buffer.getvalue())
