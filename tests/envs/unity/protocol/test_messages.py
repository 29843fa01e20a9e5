import subprocess
import sys

import numpy as np
import pytest
from google.protobuf import json_format

from envs.unity.protocol.messages import API_VERSION, METHOD, message, raw_class

from mlagents_envs.environment import UnityEnvironment  # isort: skip

FILES = {
    "agent_action": "AgentActionProto",
    "agent_info": "AgentInfoProto",
    "agent_info_action_pair": "AgentInfoActionPairProto",
    "brain_parameters": "BrainParametersProto",
    "capabilities": "UnityRLCapabilitiesProto",
    "demonstration_meta": "DemonstrationMetaProto",
    "header": "HeaderProto",
    "observation": "ObservationProto",
    "unity_message": "UnityMessageProto",
    "unity_output": "UnityOutputProto",
}


def fill(target, depth=0):
    """Sets every field, so that none is at its default."""
    for field in target.DESCRIPTOR.fields:
        value = getattr(target, field.name)
        repeated = hasattr(value, "append") or hasattr(value, "add")
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            fill(value["key?team=1"], depth + 1)
        elif field.message_type is not None:
            for inner in [value.add(), value.add()] if repeated else [value]:
                inner.SetInParent()
                fill(inner, depth + 1)
        else:
            one = {"string": "né", "bytes": b"\x00\xff"}.get(kind_of(field), 1)
            if repeated:
                value.extend([one] * 3)
            else:
                setattr(target, field.name, one)
    return target


def kind_of(field):
    return {field.TYPE_STRING: "string", field.TYPE_BYTES: "bytes"}.get(field.type, "number")


def full_message():
    """Every field of the protocol, with floats in an observation that has them and bytes in one that is compressed."""
    full = fill(message("unity_message", "UnityMessageProto")())
    for listed in full.unity_output.rl_output.agentInfos.values():
        for info in listed.value:
            info.observations[0].float_data.data.extend([0.5, -2.0, 1e30])
            assert info.observations[1].WhichOneof("observation_data") == "float_data"
            info.observations[1].compressed_data = b"\x89PNG"
    return full


def test_importing_our_messages_first_makes_mlagents_envs_importable_in_a_fresh_interpreter():
    code = "import envs.unity.protocol.messages, mlagents_envs.environment, mlagents_envs.registry; print('imported')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "imported\n"), done.stderr
    assert UnityEnvironment.API_VERSION == API_VERSION


@pytest.mark.parametrize(("module", "name"), FILES.items())
def test_every_message_keeps_its_fields_over_the_wire(module, name):
    kind = message(module, name)
    filled = fill(kind())
    assert kind.FromString(filled.SerializeToString()) == filled
    assert filled.SerializeToString()


def test_the_method_is_the_one_of_the_service():
    service = message("unity_to_external", "DESCRIPTOR").services_by_name["UnityToExternalProto"]
    (method,) = service.methods
    assert f"/{service.full_name}/{method.name}" == METHOD


def without_floats(data):
    """The JSON form of a message, `float_data` left out."""
    if isinstance(data, dict):
        return {key: without_floats(value) for key, value in data.items() if key != "floatData"}
    return [without_floats(value) for value in data] if isinstance(data, list) else data


def test_the_raw_class_equals_the_standard_one_field_by_field():
    full = full_message()
    raw = raw_class("UnityMessageProto").FromString(full.SerializeToString())
    assert without_floats(json_format.MessageToDict(raw)) == without_floats(json_format.MessageToDict(full))
    assert raw.SerializeToString(deterministic=True) == full.SerializeToString(deterministic=True)
    seen = 0
    for key, listed in full.unity_output.rl_output.agentInfos.items():
        for info, raw_info in zip(listed.value, raw.unity_output.rl_output.agentInfos[key].value):
            for observation, raw_observation in zip(info.observations, raw_info.observations):
                numbers = np.frombuffer(raw_observation.float_data.data, "<f4").tolist()
                assert numbers == np.float32(list(observation.float_data.data)).tolist()
                seen += len(numbers)
    assert seen == 2 * 6


def test_the_raw_class_outlives_a_garbage_collection():
    code = (
        "import gc; from envs.unity.protocol.messages import raw_class; kind = raw_class('UnityMessageProto'); "
        "gc.collect(); kind().unity_output.rl_output.agentInfos['a'].value.add().id = 3; print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_the_raw_class_is_made_once():
    assert raw_class("UnityMessageProto") is raw_class("UnityMessageProto")
