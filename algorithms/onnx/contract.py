"""What an exported policy takes and gives: the names, shapes and types that Unity's ML-Agents wants of a model.

ML-Agents' C# package calls this model version 3. This file imports no torch: who serves a model does without.

Shapes: N rows, C continuous actions, D discrete branches, A their choices together, R numbers of the recurrent state.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import index
from typing import Any, NamedTuple

from envs.spec import BehaviorSpec, ObservationSpec

MODEL_VERSION = 3.0
BATCH = "batch"
"""How the first axis of inputs and outputs is called: N."""
METADATA = "outstep"
"""The key of a model's metadata behind which `Exported.to_metadata` lies."""


class Port(NamedTuple):
    """An input or an output of a model."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float32"
    """`float32` or `int64`."""


@dataclass(frozen=True)
class Exported:
    """A policy as a model knows it."""

    spec: BehaviorSpec
    memory_size: int
    channels_last: bool
    """Whether observations of three axes are (H, W, C) for sure, as all of Unity's are in a spec; else their shape says
    which axis holds the channels."""

    @property
    def inputs(self) -> list[Port]:
        """The model's inputs. Masks hold 1 for what is allowed."""
        ports = [Port(f"obs_{i}", (BATCH, *self.shape(o))) for i, o in enumerate(self.spec.observations)]
        if self.spec.branches:
            ports.append(Port("action_masks", (BATCH, sum(self.spec.branches))))
        if self.memory_size:
            ports.append(Port("recurrent_in", (BATCH, 1, self.memory_size)))
        return ports

    @property
    def outputs(self) -> list[Port]:
        """The model's outputs."""
        spec = self.spec
        ports = [Port("version_number", (1,)), Port("memory_size", (1,))]
        if spec.continuous_size:
            ports.append(Port("continuous_actions", (BATCH, spec.continuous_size)))
            ports.append(Port("continuous_action_output_shape", (1,)))
            ports.append(Port("deterministic_continuous_actions", (BATCH, spec.continuous_size)))
        if spec.branches:
            ports.append(Port("discrete_actions", (BATCH, len(spec.branches)), "int64"))
            ports.append(Port("discrete_action_output_shape", (1, len(spec.branches))))
            ports.append(Port("deterministic_discrete_actions", (BATCH, len(spec.branches)), "int64"))
        if self.memory_size:
            ports.append(Port("recurrent_out", (BATCH, 1, self.memory_size)))
        return ports

    @property
    def constants(self) -> dict[str, list[Any]]:
        """The outputs that are always the same. Unity reads them as float32."""
        values: dict[str, list[Any]] = {"version_number": [MODEL_VERSION], "memory_size": [float(self.memory_size)]}
        if self.spec.continuous_size:
            values["continuous_action_output_shape"] = [float(self.spec.continuous_size)]
        if self.spec.branches:
            values["discrete_action_output_shape"] = [[float(size) for size in self.spec.branches]]
        return values

    def shape(self, observation: ObservationSpec) -> tuple[int, ...]:
        """An observation's shape in the model, where images are (C, H, W)."""
        shape = observation.shape
        return shape if self.as_in_spec(observation) else (shape[2], shape[0], shape[1])

    def as_in_spec(self, observation: ObservationSpec) -> bool:
        """Whether an observation's axes are in the spec's order; else they are (C, H, W) of the spec's (H, W, C)."""
        return len(observation.shape) != 3 or (not self.channels_last and observation.channels_first)

    def difference(self, inputs: Iterable[Port], outputs: Iterable[Port]) -> str | None:
        """What differs between a model's inputs and outputs and these, in words; None if they agree."""
        for kind, wanted, seen in (("input", self.inputs, inputs), ("output", self.outputs, outputs)):
            by_name = {port.name: port for port in seen}
            if by_name.keys() != {port.name for port in wanted}:
                return f"{kind}s {', '.join(by_name) or 'none'}, not {', '.join(port.name for port in wanted)}"
            for port in wanted:
                if by_name[port.name] != port:
                    return f"{kind} {_words(by_name[port.name])}, not {_words(port)}"
        return None

    def to_metadata(self) -> str:
        """Read back by `from_metadata`."""
        return json.dumps({"spec": self.spec.to_dict(), "memory_size": self.memory_size, "hwc": self.channels_last})

    @staticmethod
    def from_metadata(metadata: Mapping[str, str]) -> Exported | None:
        """What a model's metadata says; None if the model is not of this program."""
        try:
            data = json.loads(metadata[METADATA])
            return Exported(BehaviorSpec.from_dict(data["spec"]), index(data["memory_size"]), bool(data["hwc"]))
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            return None


def _words(port: Port) -> str:
    return f"{port.name} {port.dtype}[{', '.join(map(str, port.shape))}]"
