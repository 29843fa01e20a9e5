"""A spec in the words of the protocol: an agent's observations, and the parameters of its behavior.

Shapes: (C, H, W) and (H, W, C) images.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from envs.spec import Array, BehaviorSpec, ObservationSpec
from envs.unity.protocol.messages import raw_class

_NONE, _TRANSLATIONAL, _VARIABLE_SIZE = 1, 2, 4
_PNG = 1


class Encoder:
    """Writes the observations of one agent into its AgentInfoProto.

    Images (uint8 up to 255 of three axes, the channels the shorter of the first and the last) become PNGs of three
    channels each in `layout`, with a channel mapping if they have not three themselves; without `mapping` (a trainer
    that knows none) these go uncompressed. All else becomes floats, scaled as the spec says.
    """

    def __init__(self, spec: BehaviorSpec, layout: str, mapping: bool) -> None:
        self._layout = layout
        self._mapping = mapping
        self._like = raw_class("UnityMessageProto")().unity_output.rl_output.agentInfos[""].value.add()
        self._writers = [self._observation(self._like.observations.add(), each) for each in spec.observations]

    def info(self, rows: tuple[Array, ...]) -> Any:
        """Returns a new AgentInfoProto (FloatData as bytes) that holds rows (*shape) of observations.

        One that is written again and again would grow: what a field has held is freed with the message alone.
        """
        info = type(self._like)()
        info.CopyFrom(self._like)
        for proto, write, row in zip(info.observations, self._writers, rows):
            write(proto, row)
        return info

    def _observation(self, proto: Any, spec: ObservationSpec) -> _Writer:
        """Fills what all messages share of an observation; returns what writes a row into one."""
        proto.name = spec.name
        proto.observation_type = int(spec.goal)
        if len(spec.shape) == 3 and spec.dtype == "uint8" and spec.scale < 1:
            return self._image(proto, spec)
        proto.shape.extend(spec.shape)
        if len(spec.shape) == 3:
            first = spec.shape[0] < spec.shape[2]
            proto.dimension_properties.extend(_dimensions(first))
        else:
            proto.dimension_properties.extend([_NONE] * len(spec.shape))
            if spec.entities:
                proto.dimension_properties[0] = _VARIABLE_SIZE
        return _floats(spec)

    def _image(self, proto: Any, spec: ObservationSpec) -> _Writer:
        from_first, to_first = spec.shape[0] < spec.shape[2], self._layout == "chw"
        axes = (0, 1, 2) if from_first == to_first else (2, 0, 1) if to_first else (1, 2, 0)
        proto.shape.extend(spec.shape[axis] for axis in axes)
        proto.dimension_properties.extend(_dimensions(to_first))
        channels = spec.shape[0 if from_first else 2]
        if channels != 3 and not self._mapping:
            floats = _floats(spec)
            return lambda proto, row: floats(proto, row.transpose(axes))
        proto.compression_type = _PNG
        if channels != 3:
            proto.compressed_channel_mapping.extend([*range(channels), *[-1] * (-channels % 3)])

        def write(proto: Any, row: Array) -> None:
            proto.compressed_data = pngs(row.transpose(1, 2, 0) if from_first else row)

        return write


_Writer = Callable[[Any, Array], None]
"""Writes a row into an ObservationProto."""


def brain_parameters(proto: Any, spec: BehaviorSpec, behavior_id: str) -> None:
    """Fills a BrainParametersProto."""
    proto.brain_name = behavior_id
    proto.is_training = True
    action = proto.action_spec
    action.num_continuous_actions = spec.continuous_size
    action.num_discrete_actions = len(spec.branches)
    action.discrete_branch_sizes.extend(spec.branches)


def pngs(image: Array) -> bytes:
    """Returns an (H, W, C) uint8 image as PNGs, one after another, of three channels each; missing ones are 0."""
    from PIL import Image  # for players with images alone

    missing = -image.shape[2] % 3
    if missing:
        image = np.pad(image, ((0, 0), (0, 0), (0, missing)))
    stream = io.BytesIO()
    for first in range(0, image.shape[2], 3):
        part = np.ascontiguousarray(image[:, :, first : first + 3])
        Image.fromarray(part).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


def _dimensions(channels_first: bool) -> tuple[int, int, int]:
    if channels_first:
        return _NONE, _TRANSLATIONAL, _TRANSLATIONAL
    return _TRANSLATIONAL, _TRANSLATIONAL, _NONE


def _floats(spec: ObservationSpec) -> _Writer:
    scale = None if spec.dtype == "float32" else np.float32(spec.scale)

    def write(proto: Any, row: Array) -> None:
        floats = row if scale is None else np.multiply(row, scale, dtype=np.float32)
        proto.float_data.data = floats.tobytes()

    return write
