"""An exported policy that acts: a model file, run by onnxruntime, without torch.

Shapes: N rows, C continuous actions, D discrete branches, A their choices together, R numbers of the recurrent state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from algorithms.onnx.contract import METADATA, Exported, Port
from envs.spec import Array, UserError
from trainer.serve.arrays import cut

_LONGEST_NAME = 1000
"""Of a behavior or an observation, in characters."""
_LARGEST_METADATA = 2**20
"""In characters: parsed they take 50 times as much memory."""


class Chosen(NamedTuple):
    """The actions of a model."""

    continuous: Array
    """(N, C) float32, from -1 to 1."""
    discrete: Array
    """(N, D) int64."""
    recurrent_state: Array
    """(N, R) float32: the recurrent state after."""


class Model:
    """A model that Outstep has exported.

    Args:
        content: the file's.
        name: how messages name it.

    Raises:
        UserError: Outstep has not exported it, or it is damaged; or onnxruntime is missing.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self._session = open_session(content, name)
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map
            ports = _ports(self._session.get_inputs()), _ports(self._session.get_outputs())
        except UnicodeDecodeError as error:
            raise UserError(f"{name} is damaged, it holds text that is not UTF-8: export it again") from error
        if (size := len(metadata.get(METADATA, ""))) > _LARGEST_METADATA:
            raise UserError(f"{name} is damaged, its metadata have {size:,} characters: export it again")
        exported = Exported.from_metadata(metadata)
        if exported is None:
            raise UserError(f"{name} is not a model of ours: write one with outstep export run=runs/... to=")
        if fault := _fault(exported):
            raise UserError(f"{name} is damaged, its metadata say {fault}: export it again")
        if difference := exported.difference(*ports):
            raise UserError(f"{name} is damaged, it has {cut(difference)}: export it again")
        self.exported = exported
        self._inputs = [port.name for port in exported.inputs]
        kinds = ["continuous_actions"] if exported.spec.continuous_size else []
        kinds += ["discrete_actions"] if exported.spec.branches else []
        state = ["recurrent_out"] if exported.memory_size else []
        self._outputs = {True: [*(f"deterministic_{kind}" for kind in kinds), *state], False: [*kinds, *state]}

    @staticmethod
    def load(path: str) -> Model:
        """Returns the model in a file; UserError if it cannot be read, or used."""
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"model={path} cannot be read ({error.strerror}): name an .onnx file") from error
        return Model(content, f"model={path}")

    def act(self, observations: Sequence[Array], mask: Array, state: Array, deterministic: bool) -> Chosen:
        """Returns actions for raw observations, each (N, *shape) as in the spec, under a mask (N, A), True = allowed.

        `state` (N, R) is the recurrent state before, zeros where an episode begins.
        """
        exported, spec = self.exported, self.exported.spec
        values = []
        for observation, x in zip(spec.observations, observations):
            if observation.dtype == "uint8":
                x = np.multiply(x, observation.scale, dtype=np.float32)
            if not exported.as_in_spec(observation):
                x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
            values.append(x)
        if spec.branches:
            values.append(mask.astype(np.float32))
        if exported.memory_size:
            values.append(state[:, None])
        results = iter(self._session.run(self._outputs[deterministic], dict(zip(self._inputs, values))))
        rows = len(observations[0])
        return Chosen(
            next(results) if spec.continuous_size else np.empty((rows, 0), np.float32),
            next(results) if spec.branches else np.empty((rows, 0), np.int64),
            next(results)[:, 0] if exported.memory_size else state,
        )


def open_session(content: bytes, name: str) -> Any:
    """Returns onnxruntime's session of a model; UserError if it is none, or onnxruntime is missing."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"onnxruntime is missing ({error}): pip install 'outstep[serve]'") from error
    options = onnxruntime.SessionOptions()
    # One pass is hardly any work: more threads would only wait for each other.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised as well
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # of many kinds
        reason = str(error).partition("\n")[0]
        raise UserError(f"{name} is not an ONNX model, or damaged ({reason}): export it again") from error


def _fault(exported: Exported) -> str | None:
    """Returns what no policy of ours can have, in a model's metadata, which may come from anybody; None if all is well.

    How large a row may be is bounded by the server's largest request.
    """
    spec = exported.spec
    names = [o.name for o in spec.observations]
    for name in (spec.name, *names):
        if len(name) > _LONGEST_NAME:
            return f"a name of {len(name):,} characters"
        if any("\ud800" <= c <= "\udfff" for c in name):
            return f"the name {name!a}, which is no text"
    if not names or len(set(names)) < len(names):
        return f"{len(names)} observations, of {len(set(names))} names"
    for o in spec.observations:
        if o.dtype not in ("float32", "uint8") or min(o.shape, default=0) < 1 or not 0 < o.scale < math.inf:
            return f"an observation of {o.dtype[:_LONGEST_NAME]!a}{list(o.shape[:10])} and scale {o.scale}"
    sizes = (spec.continuous_size, exported.memory_size)
    if min(sizes) < 0 or min(spec.branches, default=1) < 1 or not (spec.continuous_size or spec.branches):
        return f"{sizes[0]} continuous actions, branches of {list(spec.branches[:10])} and a memory of {sizes[1]}"
    return None


def _ports(nodes: Sequence[Any]) -> list[Port]:
    kinds = {"tensor(float)": "float32", "tensor(int64)": "int64"}
    return [Port(node.name, tuple(node.shape), kinds.get(node.type, node.type)) for node in nodes]
