import json

import numpy as np
import pytest

from envs.gym.adapter import GymEnv
from envs.process.lockstep import Round, _joined, _without
from envs.spec import Decisions, Ready, StepResults
from tests.envs.audit import Audit
from tests.envs.making import gym_manager


def in_lockstep(*args, **kwargs):
    manager = gym_manager(*args, **kwargs)
    manager.lockstep = True
    return manager


def oracles(**kwargs):
    return GymEnv("tests.toys:Oracle-v0", kwargs, time_scale=0)


@pytest.mark.parametrize("workers", [1, 3, 5])
def test_every_recv_returns_all_instances_in_their_order(workers):
    with in_lockstep(oracles(), 5, 7, workers=workers) as manager:
        manager.start()
        audit = Audit(manager, 7)
        for turn in range(200):
            said = audit.turn()["Oracle-v0"]
            assert said.decisions.instance.tolist() == [0, 1, 2, 3, 4]
            assert said.results.instance.tolist() == ([0, 1, 2, 3, 4] if turn else [])
        assert min(audit.endings.values()) > 10


def test_an_instance_that_fails_is_waited_for():
    with in_lockstep(GymEnv("tests.toys:Faulty-v0", {"fault": "kill"}), 3, 7, workers=3) as manager:
        manager.start()
        once = [1]
        audit = Audit(manager, 7, lambda agent, step: 4 if agent in once and not once.clear() else 2)
        rounds = [audit.turn()["Faulty-v0"] for _ in range(6)]
        assert [said.decisions.instance.tolist() for said in rounds] == [[0, 1, 2]] * 6
        assert audit.lost == [1]
        assert rounds[1].results.instance.tolist() == [0, 2]


def test_an_instance_that_is_left_out_is_not_waited_for():
    env = GymEnv("tests.toys:Faulty-v0", {"fault": "kill"})
    with in_lockstep(env, 3, 7, workers=3, restarts=0, min_instances=1) as manager:
        manager.start()
        once = [1]
        audit = Audit(manager, 7, lambda agent, step: 4 if agent in once and not once.clear() else 2)
        rounds = [audit.turn()["Faulty-v0"].decisions.instance.tolist() for _ in range(20)]
        assert rounds == [[0, 1, 2]] + [[0, 2]] * 19
        assert audit.lost == [1]


def test_time_that_runs_out_loses_nothing():
    with in_lockstep(oracles(length=50), 3, 7) as manager:
        manager.start()
        manager.recv(200.0)
        for agent in range(3):
            manager.send("Oracle-v0", np.array([agent]), np.zeros((1, 0), np.float32), np.array([[3]], np.int32))
            if agent < 2:
                assert manager.recv(0.05) == {}
        assert manager.recv(200.0)["Oracle-v0"].results.instance.tolist() == [0, 1, 2]


def _ready(agents, truncated, lost=(), going_on=()):
    """What agents say at the end of an episode, truncated or terminated, but for those `going_on`."""
    agents, truncated = np.array(agents, np.int64), np.array(truncated, bool)
    terminated = ~truncated & ~np.isin(agents, going_on)
    finals = (agents[truncated, None] * np.float32(1.0),)
    results = StepResults(
        agents, agents, agents / 2, terminated, truncated, finals, np.ones((truncated.sum(), 0), bool)
    )
    decisions = Decisions(agents, agents, (agents[:, None] * 10,), np.ones((len(agents), 0), bool))
    return Ready(results, decisions, np.array(lost, np.int64), {int(agent): {"m": float(agent)} for agent in agents})


def test_joining_keeps_final_observations_with_their_instances():
    joined = _joined([_ready([3, 0], [True, True]), _ready([2, 1], [False, True])])
    assert joined.results.instance.tolist() == [0, 1, 2, 3]
    assert joined.results.truncated.tolist() == [True, True, False, True]
    assert joined.results.final_observations[0].ravel().tolist() == [0, 1, 3]
    assert joined.decisions.observations[0].ravel().tolist() == [0, 10, 20, 30]
    assert list(joined.metrics) == [0, 1, 2, 3]


def test_what_a_failed_agent_said_in_this_round_goes_with_it():
    left = _without(_ready([3, 0, 1], [False, True, False], going_on=[3, 1]), np.array([3]))
    assert left.results.agent.tolist() == [0, 1]
    assert left.results.final_observations[0].ravel().tolist() == [0]
    assert left.decisions.agent.tolist() == [0, 1]
    assert list(left.metrics) == [0, 1]


def _collected(instances, parts):
    """What a round hands out behind the last of `parts`, and nothing before."""
    collecting = Round(instances)
    *before, last = [collecting.add({"toy": part}, np.zeros(instances, bool)) for part in parts]
    assert not any(before)
    return last["toy"]


def test_an_agent_lost_within_a_round_is_in_it_once_and_again():
    parts = [
        _ready([1, 0], [False, False], going_on=[1, 0]),
        _ready([], [], lost=[1]),
        _ready([2], [True]),
        _ready([1], [True]),
    ]
    said = _collected(3, parts)
    assert said.decisions.agent.tolist() == [0, 1, 2]
    assert said.results.agent.tolist() == [0, 1, 2]
    assert said.results.truncated.tolist() == [False, True, True]
    assert said.lost.tolist() == [1]


def test_an_episode_that_ended_in_this_round_stays_and_its_agents_number_is_not_lost():
    """The number may have been given to another by then, which has no open step yet."""

    said = _collected(
        2, [_ready([1], [False]), _ready([], [], lost=[1]), _ready([0, 1], [False, False], going_on=[0, 1])]
    )
    assert said.lost.tolist() == []
    assert said.results.terminated.tolist() == [False, True, False]
    assert said.decisions.agent.tolist() == [0, 1]


def _cartpole(state=None):
    return in_lockstep(GymEnv("CartPole-v1"), 4, 3, workers=2, record_actions=True, resume=state)


def _play(manager, turns, rng, said=None):
    """Sends random actions `turns` times; all that is received, flattened."""
    heard = []
    for _ in range(turns):
        said = said or manager.recv(200.0)["CartPole-v1"]
        discrete = rng.integers(0, 2, (4, 1), dtype=np.int32)
        manager.send("CartPole-v1", said.decisions.agent, np.zeros((4, 0), np.float32), discrete)
        said = manager.recv(200.0)["CartPole-v1"]
        heard.append([said.results.reward, said.results.terminated, *said.decisions.observations])
    return said, heard


def test_a_resumed_run_goes_on_bit_for_bit():
    rng = np.random.default_rng(0)
    with _cartpole() as manager:
        manager.start()
        said, _ = _play(manager, 67, rng)
        state, random = json.loads(json.dumps(manager.state())), rng.bit_generator.state
        assert max(state["begun"]) > 1
        assert max(len(actions[1]) for actions in state["actions"]) > 3
        _, straight = _play(manager, 60, rng, said)
    rng.bit_generator.state = random
    with _cartpole(state) as manager:
        manager.start()
        again = manager.recv(200.0)["CartPole-v1"]
        assert len(again.results.agent) == 0
        np.testing.assert_array_equal(again.decisions.observations[0], said.decisions.observations[0])
        assert manager.state() == {**state, "actions": [tuple(actions) for actions in state["actions"]]}
        _, resumed = _play(manager, 60, rng, again)
    for one, other in zip(straight, resumed):
        for ours, theirs in zip(one, other):
            np.testing.assert_array_equal(ours, theirs)


def test_an_episode_that_cannot_be_driven_through_again_is_lost():
    with _cartpole() as manager:
        manager.start()
        _play(manager, 5, np.random.default_rng(0))
        state = json.loads(json.dumps(manager.state()))
    state["actions"][1] = [[[]] * 200, [[0]] * 200]  # the pole falls long before
    with _cartpole(state) as manager:
        manager.start()
        again = manager.recv(200.0)["CartPole-v1"]
    assert again.lost.tolist() == [1]
    assert sorted(again.decisions.agent.tolist()) == [0, 1, 2, 3]
