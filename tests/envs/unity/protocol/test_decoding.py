import io
import struct

import numpy as np
import pytest
from PIL import Image

from envs.spec import UserError

from envs.unity.protocol.messages import message, raw_class  # isort: skip
import mlagents_envs
from mlagents_envs.base_env import ActionTuple
from mlagents_envs.environment import UnityEnvironment
from mlagents_envs.rpc_utils import behavior_spec_from_proto, steps_from_proto
from mlagents_envs.side_channel.side_channel_manager import SideChannelManager

from envs.unity.protocol.bounds import MOST_AGENTS, MOST_BEHAVIORS, PlayerFault, check_parts
from envs.unity.protocol.decoding import Decoder, behavior_name, encode_reply, team_of

BEHAVIOR = "Runner?team=0"
CHANNELS_FIRST = not mlagents_envs.__version__.startswith("0.")
"""How this mlagents-envs reads images."""


def unity_message(continuous=2, branches=(), behavior=BEHAVIOR):
    """A message, as a player of a current package starts it."""
    built = message("unity_message", "UnityMessageProto")()
    built.header.status = 200
    add_parameters(built, continuous, branches, behavior)
    return built


def add_parameters(built, continuous=2, branches=(), behavior=BEHAVIOR):
    parameters = built.unity_output.rl_initialization_output.brain_parameters.add(brain_name=behavior)
    parameters.action_spec.num_continuous_actions = continuous
    parameters.action_spec.num_discrete_actions = len(branches)
    parameters.action_spec.discrete_branch_sizes.extend(branches)
    return parameters


def add_agent(built, *observations, behavior=BEHAVIOR, **fields):
    info = built.unity_output.rl_output.agentInfos[behavior].value.add(**fields)
    for observation in observations:
        info.observations.add().CopyFrom(observation)
    return info


def floats(values, name="sensor", properties=(1,)):
    values = np.asarray(values, np.float32)
    observation = message("observation", "ObservationProto")(name=name, shape=values.shape)
    observation.dimension_properties.extend(properties)
    observation.float_data.data.extend(values.ravel().tolist())
    return observation


def pngs(pictures, shape, mapping=(), properties=(2, 2, 1), name="camera"):
    """An image of `shape` on the wire, sent as PNGs of `pictures`."""
    observation = message("observation", "ObservationProto")(name=name, shape=shape, compression_type=1)
    observation.dimension_properties.extend(properties)
    observation.compressed_channel_mapping.extend(mapping)
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        observation.compressed_data += file.getvalue()
    return observation


def decode(built, decoder=None):
    return (decoder or Decoder()).decode(
        raw_class("UnityMessageProto").FromString(built.SerializeToString()).unity_output
    )


def theirs(built, behavior=BEHAVIOR):
    output = built.unity_output
    infos = output.rl_output.agentInfos[behavior].value
    spec = behavior_spec_from_proto(output.rl_initialization_output.brain_parameters[0], infos[0])
    return spec, *steps_from_proto(infos, spec)


def assert_as_mlagents_reads(built):
    ours = decode(built)[BEHAVIOR]
    spec, deciding, terminal = theirs(built)
    for steps, rows in ((deciding, ~ours.done), (terminal, ours.done)):
        np.testing.assert_array_equal(ours.id[rows], steps.agent_id)
        np.testing.assert_array_equal(ours.group[rows], steps.group_id)
        np.testing.assert_array_equal(ours.group_reward[rows], steps.group_reward)
        np.testing.assert_allclose(ours.reward[rows], steps.reward + steps.group_reward, rtol=1e-6)
        for mine, other in zip(ours.observations, steps.obs):
            scale = 1 / 255 if mine.dtype == np.uint8 else 1
            if mine.dtype == np.uint8 and CHANNELS_FIRST:
                other = other.transpose(0, 2, 3, 1)
            np.testing.assert_allclose(mine[rows] * scale, other, atol=0.51 / 255 if scale < 1 else 0)
    np.testing.assert_array_equal(ours.truncated[ours.done], terminal.interrupted)
    assert not ours.truncated[~ours.done].any()
    if spec.action_spec.discrete_size and not ours.done.all():
        np.testing.assert_array_equal(~ours.mask[~ours.done], np.concatenate(deciding.action_mask, axis=1))
    assert ours.mask.shape == (len(ours.id), sum(spec.action_spec.discrete_branches))


def random_message(rng, count, branches):
    built = unity_message(int(rng.integers(3)) if branches else 2, branches)
    size = sum(branches)
    sparse = rng.random() < 0.5  # else every agent has every field
    for agent in range(count):
        some = not sparse or rng.random() < 0.5
        done = bool(sparse and rng.random() < 0.3)
        mask = np.concatenate([[False], rng.random(size - 1) < 0.5]).tolist() if size and some else []
        starts = np.cumsum((0, *branches))[:-1]
        mask = [m and i not in starts for i, m in enumerate(mask)]
        add_agent(
            built,
            floats(rng.standard_normal(5), "a"),
            floats(rng.random((4, 3, 2)), "b", (2, 2, 1)),
            floats(rng.standard_normal((2, 3)), "c", (1, 1)),
            id=agent if sparse else 3 * agent + 200,
            reward=rng.standard_normal() if some else 0,
            done=done,
            max_step_reached=done and bool(rng.random() < 0.5),
            group_id=int(rng.integers(3)) if sparse else 1,
            group_reward=rng.standard_normal() if some else 0,
            action_mask=mask,
        )
    return built


@pytest.mark.parametrize("branches", [(), (3,), (2, 4, 3)])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_random_messages_are_read_as_mlagents_reads_them(count, branches):
    rng = np.random.default_rng(count)
    for _ in range(6):
        assert_as_mlagents_reads(random_message(rng, count, branches))


@pytest.mark.parametrize("count", [1, 20])
def test_arrays_are_of_the_declared_types_and_belong_to_the_receiver(count):
    decoder = Decoder()
    agents = decode(random_message(np.random.default_rng(0), count, (2, 2)), decoder)[BEHAVIOR]
    dtypes = [array.dtype for array in (agents.id, agents.reward, agents.group, agents.group_reward)]
    assert dtypes == [np.int32, np.float32, np.int32, np.float32]
    assert agents.done.dtype == agents.truncated.dtype == agents.mask.dtype == bool
    for spec, array in zip(decoder.specs["Runner"].observations, agents.observations):
        assert array.shape == (count, *spec.shape)
        assert array.dtype == spec.dtype
    for array in (*agents[:6], *agents.observations, agents.mask):
        array[...] = 0  # raises where read-only


def test_a_behavior_is_specified_by_its_parameters_and_first_agent():
    built = unity_message(2, (3, 4))
    add_agent(built, floats([1, 2], "speed"), floats([1], ""), floats([3], "speed"), floats(np.zeros((2, 2)), "obs_3"))
    decoder = Decoder()
    decode(built, decoder)
    spec = decoder.specs["Runner"]
    assert [o.name for o in spec.observations] == ["speed", "obs_1", "obs_2", "obs_3"]
    assert [o.shape for o in spec.observations] == [(2,), (1,), (1,), (2, 2)]
    assert (spec.name, spec.continuous_size, spec.branches, spec.masked) == ("Runner", 2, (3, 4), True)
    assert decoder.specs.keys() == {"Runner"}


@pytest.mark.parametrize(("kind", "expected"), [(1, (3, ())), (0, (0, (3, 2)))])
def test_deprecated_action_fields_of_old_players_are_read(kind, expected):
    built = unity_message(0)
    parameters = built.unity_output.rl_initialization_output.brain_parameters[0]
    parameters.vector_action_size_deprecated.extend([3, 2])
    parameters.vector_action_space_type_deprecated = kind
    add_agent(built, floats([1.0]))
    decoder = Decoder()
    decode(built, decoder)
    spec = decoder.specs["Runner"]
    assert (spec.continuous_size, spec.branches) == expected


def test_behaviors_may_appear_late_and_teams_share_a_spec():
    decoder = Decoder()
    first = unity_message()
    add_agent(first, floats([1.0]), id=1)
    assert decode(first, decoder).keys() == {BEHAVIOR}
    later = unity_message(0, (2,), "Keeper?team=1")
    add_parameters(later, behavior="Runner?team=1")
    add_agent(later, floats([1.0, 2.0]), id=2, behavior="Keeper?team=1")
    add_agent(later, floats([5.0]), id=3, behavior="Runner?team=1")
    add_agent(later, floats([7.0]), id=1)
    agents = decode(later, decoder)
    assert list(agents) == ["Keeper?team=1", BEHAVIOR, "Runner?team=1"]
    assert [agents[key].observations[0][0, 0] for key in agents] == [1, 7, 5]
    assert decoder.specs.keys() == {"Runner", "Keeper"}
    assert behavior_name("Keeper?team=1") == behavior_name("Keeper") == "Keeper"
    assert (team_of("Keeper"), team_of("Keeper?team=12"), team_of("Keeper?team=-1")) == (0, 12, -1)


@pytest.mark.parametrize("team", ["one", "1&x=2", "9999999999", "٣"])
def test_a_team_that_is_no_number_is_the_players_fault(team):
    message = unity_message(behavior=f"Runner?team={team}")
    add_agent(message, floats([1.0]), behavior=f"Runner?team={team}")
    with pytest.raises(PlayerFault, match="whose team is not a number of 32 bits"):
        decode(message, Decoder())


def test_parameters_without_agents_wait_for_the_first_and_empty_lists_are_left_out():
    decoder = Decoder()
    built = unity_message()
    built.unity_output.rl_output.agentInfos[BEHAVIOR].SetInParent()
    assert decode(built, decoder) == decoder.specs == {}
    built.unity_output.ClearField("rl_initialization_output")
    add_agent(built, floats([1.0]))
    assert decode(built, decoder).keys() == {BEHAVIOR}


def random_pictures(rng, count, height=5, width=7):
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize(
    ("files", "channels", "mapping"),
    [
        (1, 3, ()),
        (1, 3, (0, 1, 2)),
        (1, 1, ()),
        (1, 1, (0, 0, 0)),
        (2, 4, ()),
        (2, 2, (0, 0, 0, 1, 1, 1)),
        (2, 4, (3, 1, 2, 0, -1, -1)),
        (3, 3, (0, 0, 0, 1, 1, 1, 2, 2, -1)),
    ],
)
def test_stacked_pngs_are_read_as_mlagents_reads_them(files, channels, mapping):
    rng = np.random.default_rng(3)
    built = unity_message()
    shape, properties = ((channels, 5, 7), (1, 2, 2)) if CHANNELS_FIRST else ((5, 7, channels), (2, 2, 1))
    for agent in range(3):
        picture = pngs(random_pictures(rng, files), shape, mapping, properties)
        add_agent(built, picture, floats([agent], "own"), id=agent)
    assert_as_mlagents_reads(built)
    decoder = Decoder()
    agents = decode(built, decoder)[BEHAVIOR]
    camera = decoder.specs["Runner"].observations[0]
    assert (camera.shape, camera.dtype, camera.scale) == ((5, 7, channels), "uint8", 1 / 255)
    assert agents.observations[0].dtype == np.uint8


@pytest.mark.parametrize(
    ("properties", "version", "first"),
    [
        ((1, 2, 2), "2.0.1", True),
        ((2, 2, 1), "3.0.0", False),
        ((0, 0, 0), "3.0.0-exp.1", True),
        ((), "4.0.0", True),
        ((0, 0, 0), "2.3.0-exp.3", False),
        ((), "1.0.8", False),
        ((0, 0, 0), "", True),
    ],
)
@pytest.mark.parametrize("count", [1, 12])
def test_images_become_channels_last_by_properties_else_by_version(properties, version, first, count):
    image = np.arange(60, dtype=np.float32).reshape(4, 5, 3)
    picture = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    sent = image.transpose(2, 0, 1) if first else image
    built = unity_message()
    for agent in range(count):
        add_agent(built, floats(sent, "raw", properties), pngs([picture], sent.shape, (), properties), id=agent)
    decoder = Decoder(version)
    raw, compressed = decode(built, decoder)[BEHAVIOR].observations
    assert [o.shape for o in decoder.specs["Runner"].observations] == [(4, 5, 3)] * 2
    assert [o.dtype for o in decoder.specs["Runner"].observations] == ["float32", "uint8"]
    np.testing.assert_array_equal(raw, np.stack([image] * count))
    np.testing.assert_array_equal(compressed, np.stack([picture] * count))


@pytest.mark.parametrize("count", [2, 30])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda info: info.observations[0].float_data.data.__setitem__(1, np.nan), "'sensor', agent 12.*value nan"),
        (lambda info: info.observations[0].float_data.data.__setitem__(1, -np.inf), "'sensor', agent 12.*value -inf"),
        (lambda info: info.observations[0].float_data.data.append(1), "'sensor', agent 12: it sent 4 floats"),
        (lambda info: info.observations[0].shape.append(1), r"'sensor', agent 12.*\[3, 1\], not 3.*\[3\]"),
        (lambda info: info.observations[0].shape.__setitem__(0, 4), r"'sensor', agent 12: it sent 3 floats.*\[4\]"),
        (lambda info: info.observations.add(), "agent 12: it has 2 observations, not 1"),
        (lambda info: info.ClearField("observations"), "agent 12: it has 0 observations, not 1"),
        (lambda info: setattr(info, "reward", np.nan), "agent 12: its reward is nan"),
        (lambda info: setattr(info, "group_reward", -np.inf), "agent 12: its reward is -inf"),
        (lambda info: info.action_mask.extend([False] * 4), r"agent 12: .* 4 entries, not 5 for branches \[2, 3\]"),
        (lambda info: info.action_mask.extend([True, True, False, True, True]), "agent 12: .*without a choice"),
        (lambda info: setattr(info, "id", 11), "agent 11: it asks twice"),
    ],
)
def test_what_one_agent_sends_amiss_is_named(count, spoil, words):
    decoder = Decoder()
    built = unity_message(0, (2, 3))
    for agent in range(count):
        add_agent(built, floats([1, 2, 3]), id=11 + agent)
    decode(built, decoder)
    built.unity_output.ClearField("rl_initialization_output")
    assert len(decode(built, decoder)[BEHAVIOR].id) == count
    spoil(built.unity_output.rl_output.agentInfos[BEHAVIOR].value[1])
    with pytest.raises(PlayerFault, match=f"(?s)'Runner.team=0'.*{words}"):
        decode(built, decoder)


@pytest.mark.parametrize("count", [2, 30])
def test_large_but_finite_values_pass(count):
    built = unity_message()
    for agent in range(count):
        add_agent(built, floats([3e38, -3e38]), id=agent, reward=3e38)
    agents = decode(built)[BEHAVIOR]
    np.testing.assert_array_equal(agents.observations[0], np.full((count, 2), [3e38, -3e38], np.float32))


def test_an_agent_may_ask_and_end_in_one_message_but_a_group_and_own_reward_may_not_overflow():
    built = unity_message()
    add_agent(built, floats([1.0]), id=4)
    last = add_agent(built, floats([2.0]), id=4, done=True)
    np.testing.assert_array_equal(decode(built)[BEHAVIOR].id, [4, 4])
    last.reward = last.group_reward = 3e38
    with pytest.raises(PlayerFault, match=r"agent 4: its reward is [56]"):
        decode(built)


def bomb(data, size):
    """The same PNG, declaring another width and height."""
    return data[:16] + struct.pack(">II", size, size) + data[24:]


def corrupt(data):
    return data[:60] + bytes(20) + data[80:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"compressed_data": b""}, "0 bytes that hold no PNG"),
        ({"compressed_data": b"\x89PNG\r\n\x1a\n"}, "cut off"),
        (lambda o: {"compressed_data": o.compressed_data[:50]}, "cannot be read"),
        (lambda o: {"compressed_data": corrupt(o.compressed_data)}, "cannot be read"),
        (lambda o: {"compressed_data": bomb(o.compressed_data, 60000)}, "a PNG of 60000 x 60000 pixels"),
        ({"mapping": [0, 1]}, "mapping of 2 entries for 3 PNG channels"),
        ({"mapping": [0, 1, 7]}, r"the channel mapping \[0, 1, 7\]"),
        ({"mapping": [0, 1, -1]}, r"the channel mapping \[0, 1, -1\]"),
        ({"shape": [5, 7, 1]}, r"PNGs of shape \[5, 7, 1\]"),
        ({"compression_type": 0}, "no PNGs"),
    ],
)
def test_pngs_that_cannot_be_used_are_named(change, words):
    picture = pngs(random_pictures(np.random.default_rng(0), 1), (5, 7, 3))
    decoder = Decoder()
    built = unity_message()
    add_agent(built, picture, id=6)
    decode(built, decoder)
    built.unity_output.ClearField("rl_initialization_output")
    observation = built.unity_output.rl_output.agentInfos[BEHAVIOR].value[0].observations[0]
    change = dict(change(observation) if callable(change) else change)
    observation.compressed_channel_mapping.extend(change.pop("mapping", []))
    if "shape" in change:
        observation.shape[:] = change.pop("shape")
    for name, value in change.items():
        setattr(observation, name, value)
    with pytest.raises(PlayerFault, match=rf"(?s)observation 'camera', agent 6.*{words}.*\[5, 7, 3\]"):
        decode(built, decoder)


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        (
            floats(np.zeros((4, 2)), "others", (4, 4)),
            r"observation 'others' is of variable .* properties \[4, 4\]",
        ),
        (floats(np.zeros(4), "others", (4,)), "observation 'others' is of variable length, with shape .4. and"),
        (floats(np.zeros((1, 1, 1, 1)), "cube"), r"observation 'cube' has shape \[1, 1, 1, 1\]"),
        (pngs([], (9999, 9999, 3)), r"observation 'camera' has shape \[9999, 9999, 3\].* at most 16777216"),
        (pngs([], (-5, 7, 3)), r"observation 'camera' has shape \[-5, 7, 3\]"),
        (pngs([], (5, 7)), r"observation 'camera' has shape \[5, 7\] and compression 1: only images"),
    ],
)
def test_observations_that_cannot_be_trained_on_are_refused_by_name(observation, words):
    built = unity_message()
    add_agent(built, observation)
    with pytest.raises(UserError, match=f"behavior 'Runner', {words}"):
        decode(built)


def entities(values, name="others"):
    """What a BufferSensor sends."""
    return floats(values, name, (4, 1))


def test_buffer_sensors_are_sets_beside_others():
    built, decoder = unity_message(), Decoder()
    allies, enemies = np.float32([[1, 0.05], [0, 0], [0, 0]]), np.float32([[0, 0, 0], [0, 0, 0]])
    for agent in (4, 5):
        add_agent(built, floats([agent]), entities(allies, "allies"), entities(enemies, "enemies"), id=agent)
    agents = decode(built, decoder)[BEHAVIOR]
    assert [(o.name, o.shape, o.entities) for o in decoder.specs["Runner"].observations] == [
        ("sensor", (1,), False),
        ("allies", (3, 2), True),
        ("enemies", (2, 3), True),
    ]
    np.testing.assert_array_equal(agents.observations[1], [allies, allies])
    _, decisions, _ = theirs(built)
    np.testing.assert_array_equal(decisions.obs[1], agents.observations[1])


def test_a_goal_signal_of_variable_length_is_refused():
    built, goal = unity_message(), entities(np.zeros((4, 2)))
    goal.observation_type = 1
    add_agent(built, goal)
    with pytest.raises(UserError, match="observation 'others' is a goal signal of variable length"):
        decode(built)


@pytest.mark.parametrize(("continuous", "branches"), [(0, ()), (-1, (2,)), (1, (2, 0))])
def test_a_behavior_without_usable_actions_is_refused(continuous, branches):
    built = unity_message(continuous, branches)
    add_agent(built, floats([1.0]))
    with pytest.raises(UserError, match="behavior 'Runner' has no usable actions"):
        decode(built)


@pytest.mark.parametrize(
    ("observations", "words"),
    [((), ": give its agents a sensor"), ((floats([], "void"),), ", as observation 'void' has size 0: give")],
)
def test_a_behavior_that_observes_nothing_is_refused(observations, words):
    built = unity_message()
    add_agent(built, *observations)
    with pytest.raises(UserError, match=f"behavior 'Runner' observes nothing{words}"):
        decode(built)


def test_parameters_that_come_again_must_be_the_same():
    decoder = Decoder()
    built = unity_message()
    add_agent(built, floats([1.0]))
    decode(built, decoder)
    assert decode(built, decoder).keys() == {BEHAVIOR}
    other = unity_message(3)
    add_agent(other, floats([1.0]))
    with pytest.raises(PlayerFault, match=r"other parameters of behavior 'Runner.team=0' than before: 3 continuous"):
        decode(other, decoder)


def test_teams_that_differ_are_the_users_to_mend():
    built = unity_message()
    add_parameters(built, 3, behavior="Runner?team=1")
    add_agent(built, floats([1.0]))
    add_agent(built, floats([1.0]), behavior="Runner?team=1")
    with pytest.raises(UserError, match=r"'Runner.team=1' is not like other teams of 'Runner': it has 3 continuous"):
        decode(built)


def test_agents_of_a_behavior_without_parameters_are_a_fault():
    built = unity_message()
    add_agent(built, floats([1.0]), behavior="Stranger?team=0")
    with pytest.raises(PlayerFault, match=r"'Stranger.team=0'"):
        decode(built)


@pytest.mark.parametrize(("continuous", "branches"), [(3, 0), (0, 2), (2, 3)])
def test_replies_say_what_those_of_mlagents_say(continuous, branches):
    rng = np.random.default_rng(1)
    actions = {
        key: (
            rng.standard_normal((count, continuous)).astype(np.float32),
            rng.integers(0, 300, (count, branches)).astype(np.int32),
        )
        for key, count in (("A?team=0", 1), ("B?team=1", 5))
    }
    environment = UnityEnvironment.__new__(UnityEnvironment)
    environment._env_state = {key: (floats,) for key, (floats, _) in actions.items()}
    environment._side_channel_manager = SideChannelManager([])
    environment._loaded = False
    tuples = {key: ActionTuple(*pair) for key, pair in actions.items()}
    answer = message("unity_message", "UnityMessageProto").FromString(encode_reply(actions))
    assert answer.header.status == 200
    assert answer.unity_input == environment._generate_step_input(tuples)


def test_a_reset_carries_its_command_and_the_side_channels_bytes():
    answer = message("unity_message", "UnityMessageProto").FromString(encode_reply({}, b"\x01\x02", reset=True))
    assert (answer.unity_input.rl_input.command, answer.unity_input.rl_input.side_channel) == (1, b"\x01\x02")
    assert not answer.unity_input.rl_input.agent_actions
    assert message("unity_message", "UnityMessageProto").FromString(encode_reply({})).unity_input.rl_input.command == 0


@pytest.mark.parametrize("count", [1, 20])
def test_an_observation_of_size_0_is_left_out_and_told_of_once(count):
    decoder = Decoder()
    for start in (0, count):
        built = unity_message()
        for agent in range(start, start + count):
            add_agent(built, floats([], "void"), floats([1.0, agent], "sensor"), id=agent)
        agents = decode(built, decoder)[BEHAVIOR]
        (values,) = agents.observations
        assert values.tolist() == [[1.0, agent] for agent in range(start, start + count)]
    assert [each.name for each in decoder.specs["Runner"].observations] == ["sensor"]
    (note,) = decoder.notes
    assert "behavior 'Runner', observation 'void': it has size 0" in note


def empty_agents(count):
    built = unity_message()
    for agent in range(count):
        built.unity_output.rl_output.agentInfos[BEHAVIOR].value.add(id=agent)
    return built


def empty_behaviors(count):
    built = message("unity_message", "UnityMessageProto")()
    for place in range(count):
        add_parameters(built, behavior=f"Made up {place}")
    return built


def named(behavior, observation="sensor"):
    built = unity_message(behavior=behavior)
    add_agent(built, floats([1.0], observation), behavior=behavior)
    return built


def many_observations(count):
    built = unity_message()
    add_agent(built, *[floats([1.0])] * count)
    return built


@pytest.mark.parametrize(
    ("built", "words"),
    [
        (empty_agents(MOST_AGENTS + 1), "it sent 10,001 agents in one message, not at most 10,000"),
        (empty_behaviors(MOST_BEHAVIORS + 1), "it sent 65 behaviors in one message, not at most 64"),
        (many_observations(257), "it sent 257 observations of an agent of behavior 'Runner', not at most 256"),
        (named("x" * 2**20), "it sent the name of a behavior 'xxx.*… of 1,048,576 characters, not at most 1,000"),
        (named("a", "\x1b" * 1001), r"the name of an observation of behavior 'a' '\\x1b.*… of 1,001 characters"),
    ],
)
def test_a_message_beyond_the_bounds_is_the_players_fault(built, words):
    with pytest.raises(PlayerFault, match=words) as fault:
        decode(built)
    assert len(str(fault.value)) < 300


def test_behaviors_are_counted_over_all_messages():
    decoder = Decoder()
    for start in range(0, MOST_BEHAVIORS, 16):
        built = message("unity_message", "UnityMessageProto")()
        for place in range(start, start + 16):
            add_parameters(built, behavior=f"Made up {place}")
        decode(built, decoder)
    with pytest.raises(PlayerFault, match="it sent 65 behaviors, not at most 64"):
        decode(unity_message(), decoder)


def large(built):
    """The bytes of a message that has much of what is read as it is besides."""
    built.unity_output.rl_output.side_channel = bytes(2**21)
    return built.SerializeToString()


def one_agent(**fields):
    built = message("unity_message", "UnityMessageProto")()
    built.unity_output.rl_output.agentInfos[BEHAVIOR].value.add(**fields)
    return built


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (large(empty_agents(20 * MOST_AGENTS)), "it sent 200,000 agents in one message, not at most 10,000"),
        (
            large(one_agent(observations=[message("observation", "ObservationProto")()] * 2**19)),
            "it sent a message of 3,.* bytes with more than 524,288 fields",
        ),
        (large(one_agent(action_mask=[True] * 2**25)), "with more than 33,554,432 bytes of lists and names"),
    ],
)
def test_a_large_message_is_counted_before_it_is_read(data, words):
    with pytest.raises(PlayerFault, match=words):
        check_parts(data)


def test_a_large_message_within_the_bounds_passes():
    check_parts(large(empty_agents(MOST_AGENTS)))
    check_parts(large(random_message(np.random.default_rng(5), 100, (3, 2))))
