"""A graph of ONNX in the making: its nodes, its constants, and what most layers are made of.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from algorithms.networks.mlp import NORM_EPSILON
from algorithms.onnx.contract import METADATA, Exported, Port
from algorithms.settings import Activation
from envs.spec import Array

OPSET = 9
"""What ML-Agents exports; Unity reads 7 to 15."""


class Graph:
    """Nodes and constants in the order in which they were added; a value is known by its name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: Array) -> str:
        """A float32 or int64 tensor."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def number(self, value: float) -> str:
        """One float32, which fits every shape."""
        return self.constant(np.array([value], np.float32))

    def node(self, operator: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """The first output of an operator, which bears the name `to`."""
        name = to or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name, **attributes))
        return name

    def linear(self, x: str, weight: Tensor | Array, bias: Tensor | Array) -> str:
        """A linear layer with `weight` (outputs, inputs)."""
        return self.node("Gemm", x, self.constant(as_array(weight)), self.constant(as_array(bias)), transB=1)

    def linear_of_last(self, x: str, weight: Tensor | Array, bias: Tensor | None) -> str:
        """A linear layer of the last axis of (N, ..., inputs), which may have several axes."""
        x = self.node("MatMul", x, self.constant(as_array(weight).T))
        return x if bias is None else self.node("Add", x, self.constant(as_array(bias)))

    def layer_norm(self, x: str, axis: int) -> str:
        """The last axis, which is `axis`, of zero mean and unit deviation, in operators that Unity reads."""
        centred = self.node("Sub", x, self.node("ReduceMean", x, axes=[axis], keepdims=1))
        variance = self.node("ReduceMean", self.node("Mul", centred, centred), axes=[axis], keepdims=1)
        return self.node("Div", centred, self.node("Sqrt", self.node("Add", variance, self.number(NORM_EPSILON))))

    def as_number(self, x: str) -> str:
        """1 where a bool is true, else 0, as float32."""
        name = f"cast_{len(self.nodes)}"
        self.nodes.append(helper.make_node("Cast", [x], [name], name, to=TensorProto.FLOAT))
        return name

    def slice(self, x: str, start: int, end: int) -> str:
        """Columns of (N, ...)."""
        return self.node("Slice", x, axes=[1], starts=[start], ends=[end])

    def concat(self, parts: Sequence[str], to: str | None = None) -> str:
        """(N, ...) of parts beside each other."""
        if len(parts) == 1 and to is None:
            return parts[0]
        return self.node("Concat", *parts, to=to, axis=1)

    def model(self, exported: Exported) -> onnx.ModelProto:
        """All of it as a model."""
        inputs, outputs = _infos(exported.inputs), _infos(exported.outputs)
        graph = helper.make_graph(self.nodes, "policy", inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="outstep")
        model.ir_version = 4  # that of opset 9, which Unity's importers are used to
        helper.set_model_props(model, {METADATA: exported.to_metadata()})
        return model


ACTIVATIONS: dict[Activation, Callable[[Graph, str], str]] = {
    Activation["relu"]: lambda graph, x: graph.node("Relu", x),
    Activation["silu"]: lambda graph, x: graph.node("Mul", x, graph.node("Sigmoid", x)),
    Activation["tanh"]: lambda graph, x: graph.node("Tanh", x),
}


def as_array(values: Tensor | Array) -> Array:
    """Returns a tensor, or what is an array already, as an array."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values


def _infos(ports: Sequence[Port]) -> list[onnx.ValueInfoProto]:
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    return [helper.make_tensor_value_info(port.name, kinds[port.dtype], port.shape) for port in ports]
