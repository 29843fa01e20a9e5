"""What our player sends, message by message, to a trainer that is a function."""

import numpy as np
import psutil
import pytest

from envs.seeding import episode_seed
from envs.spec import UserError
from envs.unity.protocol.messages import message
from envs.unity.python_player import serving
from envs.unity.python_player.options import parse
from envs.unity.python_player.serving import Closed, PlayerClient
from tests.envs.unity.player_toys import Script, act, reset
from tests.toys import oracle_truncates

ORACLE = ["env=tests.toys:Oracle-v0"]
BY_HAND = "tests.envs.unity.player_toys"


class Clock:
    """Time that passes only in sleeps."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(serving, "time", clock)
    return clock


def engine(time_scale):
    from mlagents_envs.side_channel.engine_configuration_channel import EngineConfigurationChannel

    channel = EngineConfigurationChannel()
    channel.set_configuration_parameters(width=80, height=80, time_scale=time_scale)
    return sent_by(channel)


def sent_by(channel):
    from mlagents_envs.side_channel.side_channel_manager import SideChannelManager

    return bytes(SideChannelManager([channel]).generate_side_channel_messages())


def test_the_first_messages_are_introduction_then_nothing_then_agents_with_their_parameters():
    script = Script(ORACLE, [reset(), act(0)])
    first, second, third, fourth = script.sent
    hello = first.unity_output.rl_initialization_output
    assert (first.header.status, hello.name, hello.communication_version) == (200, "Oracle-v0", "1.5.0")
    assert hello.package_version
    assert hello.capabilities.hybridActions
    assert hello.capabilities.variableLengthObservation
    assert not second.HasField("unity_output") or not second.unity_output.ListFields()
    (parameters,) = third.unity_output.rl_initialization_output.brain_parameters
    assert parameters.brain_name == "Oracle-v0?team=0"
    assert list(parameters.action_spec.discrete_branch_sizes) == [5]
    assert len(script.infos(3)) == 1
    assert not fourth.unity_output.HasField("rl_initialization_output")
    assert script.end == "the trainer sent status 400"


def test_every_episode_has_the_seed_of_run_agent_and_episode():
    script = Script([*ORACLE, "agents=2", "kwargs.length=1"], [reset(), act(0), act(0)], seed=9)
    for number, episode in ((3, 1), (4, 2), (5, 3)):
        asking = [info for info in script.infos(number) if not info.done]
        seen = [info.observations[0].float_data.data[:2] for info in asking]
        assert [int(high) << 16 | int(low) for high, low in seen] == [episode_seed(9, i, episode) for i in range(2)]


def test_an_end_and_the_next_first_decision_share_a_message_under_different_ids():
    script = Script([*ORACLE, "agents=2", "kwargs.length=2"], [reset(), act(1, 3), act(2, 4), act(0)])
    assert script.ids(4) == [(0, False), (1, False)]
    assert [info.reward for info in script.infos(4)] == [101, 103]
    assert script.ids(5) == [(0, True), (2, False), (1, True), (3, False)]
    assert [info.reward for info in script.infos(5)] == [202, 0, 204, 0]
    assert [info.observations[0].float_data.data[2] for info in script.infos(5)] == [2, 0, 2, 0]
    assert script.ids(6) == [(2, False), (3, False)]


def test_max_step_reached_tells_truncated_from_terminated():
    script = Script([*ORACLE, "agents=6", "kwargs.length=1"], [reset(), act(0)], seed=3)
    results = [info.max_step_reached for info in script.infos(4) if info.done]
    assert results == [oracle_truncates(episode_seed(3, index, 1)) for index in range(6)]
    assert len(set(results)) == 2


def test_reset_begins_anew_without_an_end_and_keeps_ids():
    """As Unity does: the academy's reset begins an episode without closing the last."""
    script = Script([*ORACLE, "agents=2", "kwargs.length=9"], [reset(), act(1), reset(), act(2)])
    assert script.ids(5) == [(0, False), (1, False)]
    assert [info.reward for info in script.infos(5)] == [0, 0]
    first, again = (script.infos(number)[0].observations[0].float_data.data for number in (3, 5))
    assert first[2] == again[2] == 0
    assert first[:2] != again[:2]
    assert script.infos(6)[0].reward == 102


def test_agents_appear_when_they_are_due_and_only_then(clock):
    words = ["env=tests.toys:Paced-v0", "agents=3"]  # actions 0, 1, 2 last 1, 2, 3 seconds
    reported = []

    def noting(answer):
        def fill(said, content):
            reported.append(clock.now)
            answer(said, content)

        return fill

    answers = [reset(), act(2, 1, 0), act(1), act(3), act(3), act(0)]
    script = Script([*words, "kwargs.length=99"], [noting(answer) for answer in answers])
    assert [[agent for agent, _ in script.ids(number)] for number in range(3, 8)] == [[0, 1, 2], [2], [1], [0, 2], [1]]
    assert reported[1:] == [0, 1, 2, 3, 102]


def test_time_scale_divides_durations_from_when_it_is_told(clock):
    words = ["env=tests.toys:Oracle-v0", "kwargs.duration=3", "kwargs.length=99"]
    Script(words, [reset(engine(20.0)), act(0)])
    assert clock.now == pytest.approx(0.3)
    Script(words, [reset(), act(0), act(0, side_channel=engine(2.0))])
    assert clock.now == pytest.approx(0.3 + 3 + 3 + 1.5)


def test_the_durations_of_a_last_step_and_of_the_reset_after_it_add_up(clock):
    Script(["env=tests.toys:Oracle-v0", "kwargs.duration=1", "kwargs.length=1"], [reset(), act(0)])
    assert clock.now == 1 + 2


def test_parameters_reach_the_next_episode():
    from mlagents_envs.side_channel.environment_parameters_channel import EnvironmentParametersChannel

    channel = EnvironmentParametersChannel()
    channel.set_float_parameter("gravity", 9.5)
    first = sent_by(channel)
    channel.set_float_parameter("wind", 2.0)
    script = Script(
        [f"env={BY_HAND}:Parameters-v0"], [reset(first), act(0, side_channel=sent_by(channel)), act(1), act(0)]
    )
    seen = [list(script.infos(number)[-1].observations[0].float_data.data) for number in (3, 4, 5, 6)]
    assert seen == [[9.5, -1], [9.5, -1], [9.5, 2], [9.5, 2]]


def test_sampled_parameters_are_drawn_for_each_episode_within_their_bounds():
    from mlagents_envs.side_channel.environment_parameters_channel import EnvironmentParametersChannel

    channel = EnvironmentParametersChannel()
    channel.set_uniform_sampler_parameters("gravity", 2.0, 3.0, 1)
    channel.set_multirangeuniform_sampler_parameters("wind", [(1, 2), (5, 6)], 1)
    script = Script([f"env={BY_HAND}:Parameters-v0"], [reset(sent_by(channel)), *[act(1)] * 30])
    seen = np.array([script.infos(number)[-1].observations[0].float_data.data for number in range(3, 34)])
    assert len(np.unique(seen[:, 0])) > 25
    assert ((seen[:, 0] >= 2) & (seen[:, 0] <= 3)).all()
    low = (seen[:, 1] >= 1) & (seen[:, 1] <= 2)
    assert 0 < low.sum() < 31
    assert (low | ((seen[:, 1] >= 5) & (seen[:, 1] <= 6))).all()


def test_gaussian_parameters_have_their_mean_and_deviation():
    from mlagents_envs.side_channel.environment_parameters_channel import EnvironmentParametersChannel

    channel = EnvironmentParametersChannel()
    channel.set_gaussian_sampler_parameters("gravity", 4.0, 0.5, 1)
    script = Script([f"env={BY_HAND}:Parameters-v0"], [reset(sent_by(channel)), *[act(1)] * 40])
    seen = [script.infos(number)[-1].observations[0].float_data.data[0] for number in range(3, 44)]
    assert (np.mean(seen), np.std(seen)) == (pytest.approx(4.0, abs=0.3), pytest.approx(0.5, abs=0.2))


def test_a_late_behavior_appears_in_its_message_with_its_parameters():
    script = Script([*ORACLE, "kwargs.length=99", "late=Guest:5"], [reset(), act(0), act(0), act(0)])
    assert [sorted(message.unity_output.rl_output.agentInfos) for message in script.sent[2:]] == [
        ["Oracle-v0?team=0"],
        ["Oracle-v0?team=0"],
        ["Guest?team=0", "Oracle-v0?team=0"],
        ["Guest?team=0", "Oracle-v0?team=0"],
    ]
    assert [len(message.unity_output.rl_initialization_output.brain_parameters) for message in script.sent[2:]] == [
        1,
        0,
        1,
        0,
    ]
    assert [info.id for info in script.infos(5, "Guest?team=0")] == [1]


def test_images_are_channels_first_where_asked_and_uncompressed_where_a_trainer_knows_no_mapping():
    words = [f"env={BY_HAND}:Pictures-v0"]
    for layout, shapes, dimensions in (
        ("hwc", [[6, 5, 3], [6, 5, 1], [6, 5, 4]], [2, 2, 1]),
        ("chw", [[3, 6, 5], [1, 6, 5], [4, 6, 5]], [1, 2, 2]),
    ):
        mapped, plain = (
            Script([*words, f"layout={layout}"], [reset()], capable=capable).infos(3)[0].observations
            for capable in (True, False)
        )
        for sent in (mapped, plain):
            assert [list(observation.shape) for observation in sent] == shapes
            assert all(list(observation.dimension_properties) == dimensions for observation in sent)
        assert [observation.compression_type for observation in mapped] == [1, 1, 1]
        assert [observation.compression_type for observation in plain] == [1, 0, 0]
        assert [list(observation.compressed_channel_mapping) for observation in mapped] == [
            [],
            [0, -1, -1],
            [0, 1, 2, 3, -1, -1],
        ]
        assert mapped[0].compressed_data == plain[0].compressed_data
        stack = np.reshape(plain[2].float_data.data, shapes[2])
        np.testing.assert_allclose(stack if layout == "chw" else stack.transpose(2, 0, 1), by_hand_stack() / 255)


def by_hand_stack():
    from envs.gym.adapter import GymEnv

    observation, _ = GymEnv(f"{BY_HAND}:Pictures-v0").make().reset(seed=episode_seed(5, 0, 1))
    return observation["stack"].astype(np.float32)


def test_a_masked_env_sends_true_for_what_is_disabled():
    script = Script([f"env={BY_HAND}:Hybrid-v0"], [reset()])
    mask = list(script.infos(3)[0].action_mask)
    assert len(mask) == 7
    assert mask[1]
    assert mask[0] != mask[2]
    assert not any(mask[3:])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda said, content: None, "1 agents asked, 0 actions came"),
        (act(7), r"\[7\] came; its branches have \[5\]"),
        (act([1, 1]), "0 continuous and 2 discrete numbers came"),
        (act(1, continuous=(0.5,)), "1 continuous and 1 discrete numbers came"),
        (reset(b"cut short"), "side channel data"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused(answer, message):
    with pytest.raises(UserError, match=message):
        Script(ORACLE, [reset(), answer])


def test_a_wrong_keyword_argument_of_the_env_is_named():
    with pytest.raises(UserError, match=r"cannot be made with size=3: .*size"):
        Script(["env=basic", "kwargs.size=3"], [reset()])


def test_bytes_that_are_no_answer_are_refused():
    with pytest.raises(UserError, match="answer to message 1 is not of the protocol"):
        serving.PlayerClient(parse(ORACLE), None, lambda message: b"\xff" * 9).run()


def test_quit_ends_the_player():
    def leave(said, content):
        content.command = 2

    script = Script(ORACLE, [reset(), leave])
    assert script.end == "the trainer said quit"
    assert len(script.sent) == 3


def test_faults_come_in_their_message_and_not_before():
    length = [*ORACLE, "kwargs.length=99"]
    answers = [reset(), act(0), act(0), act(0)]
    script = Script([*length, "fault=nan:4"], answers)
    nans = [np.isnan(script.infos(number)[0].observations[0].float_data.data).any() for number in (3, 4, 5)]
    assert nans == [False, True, False]
    script = Script([*length, "fault=garbage:4"], answers)
    assert [isinstance(message, bytes) for message in script.sent] == [False, False, False, True]
    script = Script([*length, "fault=quit:4"], answers)
    assert [message.header.status for message in script.sent] == [200, 200, 200, 400]
    assert script.end == "this player quit"
    script = Script([*length, "fault=spec:4"], answers)
    observations = [script.infos(number)[0].observations[0] for number in (3, 4, 5)]
    assert [list(observation.shape) for observation in observations] == [[4], [5], [5]]
    assert [len(observation.float_data.data) for observation in observations] == [4, 5, 5]
    script = Script([*length, "version=0.9.0"], answers)
    assert script.sent[0].unity_output.rl_initialization_output.communication_version == "0.9.0"


def test_a_player_that_has_sent_much_is_no_larger():
    answer = message("unity_message", "UnityMessageProto")()
    answer.header.status = 200
    first = answer.SerializeToString()
    answer.unity_input.rl_input.agent_actions["Wide-v0?team=0"].value.add().discrete_actions.append(1)
    step = answer.SerializeToString()
    memory = []

    def exchange(data: bytes) -> bytes:
        memory.append(psutil.Process().memory_info().rss)
        if len(memory) == 1500:
            raise Closed("it has sent enough")
        return step if len(memory) > 2 else first

    with pytest.raises(Closed, match="enough"):
        PlayerClient(parse([f"env={BY_HAND}:Wide-v0"]), None, exchange).run()
    assert memory[-1] - memory[500] < 4 * 2**20  # of 16 MiB that were sent meanwhile


GATHER = ["env=envs.games:Gather-v0", "max_entities=20", "goal=place"]


def test_sequences_are_sent_as_buffer_sensors_and_goals_by_their_type():
    script = Script(GATHER, [reset(), act(0)])
    place, things = script.infos(3)[0].observations
    assert (place.observation_type, list(place.dimension_properties)) == (1, [1])
    assert (things.observation_type, list(things.dimension_properties), list(things.shape)) == (0, [4, 1], [20, 4])
    assert len(things.float_data.data) == 80


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (GATHER[:1], "by env.max_entities"),
        ([*GATHER[:2], "goal=sky"], "goal=sky: there are the observations place, things"),
    ],
)
def test_a_player_that_cannot_be_is_refused(words, message):
    with pytest.raises(UserError, match=message):
        Script(words, [reset()])


def test_sets_need_a_trainer_that_takes_them():
    with pytest.raises(UserError, match="'things' is of variable length, and the trainer cannot take such"):
        Script(GATHER, [reset()], capable=False)
