"""`.demo` files made message by message, as ML-Agents' recorders of all times have left them."""

import io

import numpy as np
from PIL import Image

from envs.unity.protocol.messages import message


def delimited(proto):
    serialized = proto.SerializeToString()
    length, prefix = len(serialized), []
    while length > 127:
        prefix.append(length % 128 + 128)
        length //= 128
    return bytes([*prefix, length]) + serialized


def floats(values, properties=(1,), name="sensor"):
    values = np.asarray(values, np.float32)
    observation = message("observation", "ObservationProto")(name=name, shape=values.shape)
    observation.dimension_properties.extend(properties)
    observation.float_data.data.extend(values.ravel().tolist())
    return observation


def png(picture, properties=(2, 2, 1), channels_first=False, name="camera"):
    """An (H, W, 3) picture."""
    shape = (3, *picture.shape[:2]) if channels_first else picture.shape
    observation = message("observation", "ObservationProto")(name=name, shape=shape, compression_type=1)
    observation.dimension_properties.extend(properties)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    observation.compressed_data = file.getvalue()
    return observation


def pair(*observations, continuous=(), discrete=(), old=(), **fields):
    """One record: `fields` are the agent's, `old` the actions in the field that was deprecated."""
    built = message("agent_info_action_pair", "AgentInfoActionPairProto")()
    for name, value in fields.items():
        if name == "action_mask":
            built.agent_info.action_mask.extend(value)
        else:
            setattr(built.agent_info, name, value)
    for observation in observations:
        built.agent_info.observations.add().CopyFrom(observation)
    built.action_info.continuous_actions.extend(continuous)
    built.action_info.discrete_actions.extend(discrete)
    built.action_info.vector_actions_deprecated.extend(old)
    return built


def parameters(continuous=0, branches=(), behavior="Runner?team=0"):
    built = message("brain_parameters", "BrainParametersProto")(brain_name=behavior)
    built.action_spec.num_continuous_actions = continuous
    built.action_spec.num_discrete_actions = len(branches)
    built.action_spec.discrete_branch_sizes.extend(branches)
    return built


def old_parameters(sizes, continuous):
    return message("brain_parameters", "BrainParametersProto")(
        brain_name="Runner", vector_action_size_deprecated=sizes, vector_action_space_type_deprecated=int(continuous)
    )


def file_of(pairs, behavior, at=33, tail=b"", **fields):
    """The bytes of a file; `fields` are the meta's, whose number of steps is that of `pairs` if not given."""
    meta = {"api_version": 1, "demonstration_name": "Test", "number_steps": len(pairs), **fields}
    header = delimited(message("demonstration_meta", "DemonstrationMetaProto")(**meta)).ljust(at, b"\0")
    return header + delimited(behavior) + b"".join(map(delimited, pairs)) + tail


def walk(steps, done=True, first=0, **fields):
    """An episode: step t observes [t, t], chooses t modulo 3 and earns t + 1, told by the record behind it."""
    reported = [{"reward": float(t)} for t in range(steps + 1)]
    reported[-1].update(done=done, **fields)
    return [
        pair(floats([first + t, first + t]), discrete=[t % 3], **each, id=7)
        for t, each in zip(range(steps + 1), reported)
    ]
