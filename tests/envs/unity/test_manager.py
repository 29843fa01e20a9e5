import numpy as np
import pytest

from envs.spec import UserError
from envs.unity.agent_ids import AgentIds
from envs.unity.protocol.decoding import Agents
from tests.envs.making import unity_manager
from tests.envs.unity.client import Client, free_port, info, parameters

ONE, TWO = "Walker?team=0", "Runner?team=0"


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def manager(port, tmp_path):
    with unity_manager(tmp_path / "players", port=port) as manager:
        manager.start()
        yield manager


@pytest.fixture
def client(port, manager):
    client = Client(port, manager)
    client.introduce()
    client.ask_for_input()
    yield client
    client.close()


def fault_of(manager):
    """The text of the one fault."""
    (text,) = [events.text for events in manager.events if events.kind == "fault"]
    return text


def send(manager, behavior, agents, choices):
    agents = np.asarray(agents)
    discrete = np.asarray(choices, np.int32).reshape(len(agents), 1)
    manager.send(behavior, agents, np.zeros((len(agents), 0), np.float32), discrete)


def test_players_are_told_seed_version_and_reset(port, manager):
    client = Client(port, manager)
    reported = client.introduce().unity_input.rl_initialization_input
    assert reported.communication_version == "1.5.0"
    assert reported.seed >= 0
    assert reported.capabilities.hybridActions
    first = client.ask_for_input().unity_input.rl_input
    assert first.command == 1  # RESET
    client.close()


def test_actions_come_back_in_the_order_in_which_agents_asked(manager, client):
    answer = client.say({ONE: [info(7, [1.0]), info(3, [2.0]), info(9, [3.0])]}, [parameters(ONE)])
    ready = manager.recv(100)["Walker"]
    assert ready.decisions.observations[0].tolist() == [[1.0], [2.0], [3.0]]
    send(manager, "Walker", ready.decisions.agent[::-1], [2, 1, 0])
    assert answer.actions(ONE) == [[0], [1], [2]]


def test_continuous_actions_reach_the_game_within_minus_one_and_one(manager, client):
    answer = client.say({ONE: [info(7, [1.0])]}, [parameters(ONE, branches=(), continuous=3)])
    ready = manager.recv(100)["Walker"]
    drawn = np.array([[-1.5, 0.25, 3.0]], np.float32)  # PPO's Gaussian is unbounded
    manager.send("Walker", ready.decisions.agent, drawn, np.zeros((1, 0), np.int32))
    (action,) = answer.get().unity_input.rl_input.agent_actions[ONE].value
    assert list(action.continuous_actions) == [-1, 0.25, 1]
    assert drawn.tolist() == [[-1.5, 0.25, 3.0]]


def test_an_instance_goes_on_once_every_agent_of_every_behavior_has_an_action(manager, client):
    answer = client.say(
        {ONE: [info(1, [1.0]), info(2, [1.0])], TWO: [info(3, [1.0])]}, [parameters(ONE), parameters(TWO)]
    )
    ready = manager.recv(100)
    assert set(ready) == {"Walker", "Runner"}
    first, second = ready["Walker"].decisions.agent
    send(manager, "Walker", [second], [1])
    send(manager, "Runner", ready["Runner"].decisions.agent, [2])
    assert manager.recv(0.05) == {}
    assert not answer.there
    send(manager, "Walker", [first], [0])
    assert answer.actions(ONE) == [[0], [1]]
    assert answer.actions(TWO) == [[2]]


def test_a_behavior_may_appear_at_any_time_and_teams_share_one(manager, client):
    answer = client.say({"Striker?team=1": [info(1, [1.0])]}, [parameters("Striker?team=1")])
    send(manager, "Striker", manager.recv(100)["Striker"].decisions.agent, [1])
    assert answer.actions("Striker?team=1") == [[1]]
    answer = client.say(
        {"Striker?team=1": [info(1, [2.0], 0.5)], "Striker?team=0": [info(2, [3.0])], TWO: [info(3, [4.0])]},
        [parameters("Striker?team=0"), parameters(TWO)],
    )
    ready = manager.recv(100)
    assert set(manager.specs) == {"Striker", "Runner"}
    assert sorted(ready["Striker"].decisions.observations[0].ravel().tolist()) == [2.0, 3.0]
    decisions = ready["Striker"].decisions
    assert sorted(zip(decisions.observations[0].ravel(), decisions.team.tolist())) == [(2.0, 1), (3.0, 0)]
    values = dict(zip(ready["Striker"].decisions.agent.tolist(), ready["Striker"].decisions.observations[0].ravel()))
    for agent, value in values.items():
        send(manager, "Striker", [agent], [int(value) - 1])
    send(manager, "Runner", ready["Runner"].decisions.agent, [0])
    assert answer.actions("Striker?team=1") == [[1]]
    assert answer.actions("Striker?team=0") == [[2]]


def test_a_group_has_a_number_unlike_those_of_other_instances(manager, client):
    client.say({ONE: [info(1, [1.0], group=3), info(2, [2.0], group=3), info(3, [3.0])]}, [parameters(ONE)])
    decisions = manager.recv(100)["Walker"].decisions
    assert decisions.group.tolist() == [3, 3, 0]
    ids = AgentIds(manager.specs["Walker"])
    nothing, one = np.zeros(1, bool), np.ones(1, np.int32)
    agents = Agents(one, nothing, 3 * one, nothing, nothing, nothing, (np.zeros((1, 1)),), np.ones((1, 3), bool))
    assert ids.take(1, agents).decisions.group.tolist() == [2**32 + 3]


def test_the_end_of_an_episode_and_the_next_ones_first_decision_come_together(manager, client):
    client.say({ONE: [info(1, [1.0]), info(2, [5.0])]}, [parameters(ONE)])
    asked = manager.recv(100)["Walker"].decisions.agent.tolist()
    send(manager, "Walker", asked, [0, 0])
    client.say(
        {
            ONE: [
                info(1, [2.0], reward=1.5, done=True),
                info(2, [6.0], reward=0.25, done=True, cut=True, group_reward=0.5),
                info(11, [3.0]),
                info(12, [7.0]),
            ]
        }
    )
    ready = manager.recv(100)["Walker"]
    assert ready.results.agent.tolist() == asked
    assert ready.results.reward.tolist() == [1.5, 0.75]
    assert ready.results.group_reward.tolist() == [0.0, 0.5]
    assert ready.results.terminated.tolist() == [True, False]
    assert ready.results.truncated.tolist() == [False, True]
    assert ready.results.final_observations[0].tolist() == [[6.0]]
    assert ready.decisions.observations[0].tolist() == [[3.0], [7.0]]
    assert sorted(ready.decisions.agent.tolist()) == sorted(asked)  # numbers are given out again
    assert manager.samples.tolist() == [2]


def test_agents_that_do_not_ask_in_a_message_keep_their_number_and_open_step(manager, client):
    client.say({ONE: [info(1, [1.0]), info(2, [2.0])]}, [parameters(ONE)])
    first, second = manager.recv(100)["Walker"].decisions.agent.tolist()
    send(manager, "Walker", [first, second], [0, 0])
    client.say({ONE: [info(2, [3.0], reward=1.0)]})
    ready = manager.recv(100)["Walker"]
    assert ready.results.agent.tolist() == ready.decisions.agent.tolist() == [second]
    send(manager, "Walker", [second], [0])
    client.say({ONE: [info(1, [4.0], reward=2.0), info(2, [5.0], reward=3.0)]})
    ready = manager.recv(100)["Walker"]
    assert ready.results.agent.tolist() == [first, second]
    assert ready.results.reward.tolist() == [2.0, 3.0]


def test_an_agent_that_asks_and_ends_in_one_message_closes_once_and_is_answered(manager, client):
    client.say({ONE: [info(1, [1.0]), info(2, [2.0])]}, [parameters(ONE)])
    first, second = manager.recv(100)["Walker"].decisions.agent.tolist()
    send(manager, "Walker", [first, second], [0, 0])
    ends = [info(1, [3.0], reward=1.0), info(2, [4.0], reward=2.0), info(1, [5.0], reward=0.5, done=True)]
    answer = client.say({ONE: [*ends, info(8, [6.0])]})
    ready = manager.recv(100)["Walker"]
    assert dict(zip(ready.results.agent.tolist(), ready.results.reward.tolist())) == {first: 1.5, second: 2.0}
    assert ready.decisions.agent.tolist() == [second, first]  # the newcomer has the other's number
    assert ready.decisions.observations[0].tolist() == [[4.0], [6.0]]
    send(manager, "Walker", [first, second], [1, 2])
    given = answer.actions(ONE)
    assert len(given) == 3
    assert given[1:] == [[2], [1]]
    client.say({ONE: [info(2, [7.0]), info(8, [8.0])]})
    assert manager.recv(100)["Walker"].results.agent.tolist() == [second, first]


def test_what_came_before_an_agents_first_action_is_no_sample(manager, client):
    client.say({ONE: [info(1, [1.0], reward=9.0), info(2, [1.0], reward=9.0, done=True)]}, [parameters(ONE)])
    ready = manager.recv(100)["Walker"]
    assert len(ready.results.agent) == 0
    assert ready.decisions.observations[0].tolist() == [[1.0]]


def test_a_message_in_which_nobody_asks_is_answered_at_once(manager, client):
    answer = client.say({})
    assert manager.recv(0.3) == {}
    assert answer.get().unity_input.rl_input.command == 0  # STEP
    answer = client.say({ONE: [info(1, [1.0], done=True)]}, [parameters(ONE)])
    manager.recv(0.3)
    assert answer.get().header.status == 200


def test_an_agent_that_does_not_wait_cannot_be_sent_an_action(manager, client):
    client.say({ONE: [info(1, [1.0])]}, [parameters(ONE)])
    agents = manager.recv(100)["Walker"].decisions.agent
    send(manager, "Walker", agents, [0])
    with pytest.raises(ValueError, match="do not wait"):
        send(manager, "Walker", agents, [0])


def test_a_player_that_leaves_is_told_of_and_waited_for_again(port, manager, client):
    client.say({ONE: [info(1, [1.0]), info(2, [1.0])]}, [parameters(ONE)])
    agents = manager.recv(100)["Walker"].decisions.agent.tolist()
    client.close()
    ready = manager.recv(100)["Walker"]
    assert sorted(ready.lost.tolist()) == sorted(agents)
    assert "closed its connection" in fault_of(manager)
    while not any("closed its connection" in events.text for events in manager.events):
        manager.recv(0.1)
    manager.recv(0.5)  # it listens again
    again = Client(port, manager)
    again.introduce()
    again.ask_for_input()
    again.say({ONE: [info(1, [8.0])]}, [parameters(ONE)])
    ready = manager.recv(100)["Walker"]
    assert ready.decisions.observations[0].tolist() == [[8.0]]
    assert len(ready.results.agent) == len(ready.lost) == 0
    again.close()


def test_the_editor_may_be_stopped_as_often_as_one_likes(port, tmp_path):
    with unity_manager(tmp_path, port=port, restarts=1) as manager:
        manager.start()
        for _ in range(4):
            client = Client(port, manager)
            client.introduce()
            client.ask_for_input()
            client.say({ONE: [info(1, [8.0])]}, [parameters(ONE)])
            assert len(manager.recv(100)["Walker"].decisions.agent) == 1
            client.close()
            assert len(manager.recv(100)["Walker"].lost) == 1
            manager.recv(0.5)  # it listens again


def test_a_number_that_is_none_fails_its_instance_alone_by_name(manager, client):
    client.say({ONE: [info(1, [1.0])]}, [parameters(ONE)])
    send(manager, "Walker", manager.recv(100)["Walker"].decisions.agent, [0])
    answer = client.say({ONE: [info(1, [float("nan")])]})
    ready = manager.recv(100)["Walker"]
    assert len(ready.lost) == 1
    assert answer.get().header.status == 400
    text = fault_of(manager)
    assert "Walker" in text
    assert "vector" in text


def test_a_second_client_is_refused_and_the_first_goes_on(port, manager, client):
    import grpc

    unexpected_client = Client(port)
    with pytest.raises(grpc.RpcError, match="refused"):  # nobody listens any more
        unexpected_client.introduce()
    unexpected_client.close()
    answer = client.say({ONE: [info(1, [1.0])]}, [parameters(ONE)])
    send(manager, "Walker", manager.recv(100)["Walker"].decisions.agent, [1])
    assert answer.actions(ONE) == [[1]]


def test_another_version_of_the_protocol_is_named(port, manager):
    client = Client(port, manager)
    with pytest.raises(UserError, match=r"version '2\.0\.0' .* Outstep 1\.5\.0"):
        client.introduce("2.0.0")
    client.close()


def test_a_spec_that_differs_between_instances_ends_the_run(port, manager, client):
    client.say({ONE: [info(1, [1.0])]}, [parameters(ONE)])
    manager.recv(100)
    client.close()
    while not any("closed its connection" in events.text for events in manager.events):
        manager.recv(0.1)
    manager.recv(0.5)  # it listens again
    again = Client(port, manager)
    again.introduce()
    again.ask_for_input()
    again.say({ONE: [info(1, [1.0, 2.0])]}, [parameters(ONE)])
    with pytest.raises(UserError, match=r"Walker.*float32\[2\], not float32\[1\]"):
        manager.recv(100)
    again.close()


def test_nobody_who_connects_is_an_error_with_the_usual_causes(port, tmp_path):
    with unity_manager(tmp_path, port=port, connect_timeout=0.2) as manager:
        manager.start()
        with pytest.raises(UserError, match=r"did not connect within 0\.2 s .*(\n.*)*pressed Play"):
            manager.recv(100)


def test_players_that_show_no_agent_are_told_of_once(port, tmp_path, clock):
    with unity_manager(tmp_path, port=port, connect_timeout=100.0) as manager:
        manager.start()
        client = Client(port, manager)
        client.introduce()
        client.ask_for_input()
        client.say({})
        assert manager.recv(0.1) == {}
        manager.events.clear()
        clock.ahead += 101.0
        turns = 5
        while turns:
            client.say({})
            assert manager.recv(0.1) == {}
            turns -= bool(manager.events)
        (events,) = manager.events
        assert "no agent has asked for a decision" in events.text
        client.close()


def test_a_taken_port_is_named(port, manager, tmp_path):
    with (
        unity_manager(tmp_path, port=port) as second,
        pytest.raises(UserError, match=f"port {port} is in use"),
    ):
        second.start()


def test_leaving_tells_the_player_to_quit(port, tmp_path):
    with unity_manager(tmp_path, port=port) as manager:
        manager.start()
        client = Client(port, manager)
        client.introduce()
        client.ask_for_input()
        answer = client.say({ONE: [info(1, [1.0])]}, [parameters(ONE)])
        manager.recv(100)
    assert answer.get().header.status == 400
    client.close()


def step_once(manager, client):
    """One whole step of one agent: the game has shown that it can be trained on."""
    client.say({ONE: [info(1, [1.0])]}, [parameters(ONE)])
    send(manager, "Walker", manager.recv(100)["Walker"].decisions.agent, [0])
    client.say({ONE: [info(1, [2.0])]})
    send(manager, "Walker", manager.recv(100)["Walker"].decisions.agent, [0])


def test_what_cannot_be_trained_on_is_one_players_fault_once_others_can(manager, client):
    step_once(manager, client)
    answer = client.say({TWO: [info(2, [1.0])]}, [parameters(TWO, branches=(-3,))])
    assert len(manager.recv(100)["Walker"].lost) == 1
    assert answer.get().header.status == 400
    assert "behavior 'Runner' has no usable actions (0 continuous, branches (-3,))" in fault_of(manager)


@pytest.mark.parametrize("proven", [False, True])
def test_a_behavior_that_the_run_does_not_admit(manager, client, proven):
    def admit(spec):
        if spec.name == "Runner":
            raise UserError("there is no room for Runner")

    manager.admit = admit
    if proven:
        step_once(manager, client)
    client.say({TWO: [info(2, [1.0])]}, [parameters(TWO)])
    if proven:
        assert len(manager.recv(100)["Walker"].lost) == 1
        assert "there is no room for Runner" in fault_of(manager)
        assert set(manager.specs) == {"Walker"}
    else:
        with pytest.raises(UserError, match="there is no room for Runner"):
            manager.recv(100)


def test_agents_that_go_without_an_end_are_counted(manager, client, monkeypatch):
    monkeypatch.setattr("envs.unity.agent_ids.MOST_AGENTS", 20)
    new = [parameters(ONE)]
    for start in (0, 10):
        client.say({ONE: [info(start + i, [1.0]) for i in range(10)]}, new)
        agents, new = manager.recv(100)["Walker"].decisions.agent, []
        send(manager, "Walker", agents, [0] * 10)
    client.say({ONE: [info(0, [1.0], done=True), info(20, [1.0])]})
    send(manager, "Walker", manager.recv(100)["Walker"].decisions.agent, [0])
    client.say({ONE: [info(21, [1.0])]})
    assert len(manager.recv(100)["Walker"].lost) == 20
    assert "behavior 'Walker': 21 of its agents are alive, not at most 20" in fault_of(manager)


def test_what_nobody_listens_to_or_holds_nothing_is_told_of_once(port, manager, client):
    unknown = bytes(range(16)) + bytes(4)
    for _ in range(2):
        empty = info(1, [1.0])
        empty.observations.add(shape=[0], name="void")
        client.say({ONE: [empty]}, [parameters(ONE)], side_channel=unknown * 2)
        ready = manager.recv(100)["Walker"]
        assert [each.tolist() for each in ready.decisions.observations] == [[[1.0]]]
        client.close()
        assert len(manager.recv(100)["Walker"].lost) == 1
        manager.recv(0.5)  # it listens again
        client = Client(port, manager)
        client.introduce()
        client.ask_for_input()
    texts = [event.text for event in manager.events if event.kind == "unexpected"]
    assert ["size 0" in text for text in texts] == [True, False]
    assert ["side channel 03020100-0504-0706-0809-0a0b0c0d0e0f, which" in text for text in texts] == [False, True]


def test_a_message_that_never_ends_is_its_players_fault(manager, client, monkeypatch):
    (player,) = manager._players.of
    player.server._player.connection.limit = 2**20
    client.say({ONE: [info(1, [1.0])]}, [parameters(ONE)], side_channel=bytes(2**21))
    while not any(event.kind == "fault" for event in manager.events):
        manager.recv(0.1)
    assert "it sent a message of more than 1,048,576 bytes" in fault_of(manager)
