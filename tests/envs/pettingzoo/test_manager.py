"""Every message of a manager of games is compared with what the game must say."""

from collections import Counter

import numpy as np
import pytest

from envs.api import InstanceFailed, Setup
from envs.pettingzoo.config import PettingZooConfig
from envs.seeding import episode_seed
from tests.envs.playing import Playing
from tests.games import NAMES, Nim, stay

BEHAVIORS = {"red_*": "Red", "*": "Other"}


def manager(tmp_path, env_id="tests.games:Meeting", seed=3, resume=None, lessons=None, record=False, **settings):
    settings = {"instances": 2, "workers": 1, "time_scale": 0, **settings}
    setup = Setup(seed, tmp_path, record_actions=record, resume=resume, lessons=lessons)
    return PettingZooConfig(id=env_id, **settings).make_manager(setup)


def test_agents_that_come_and_go_get_what_is_theirs(tmp_path):
    with manager(tmp_path, behaviors=BEHAVIORS, teams={"red_*": 0, "blue_0": 1}, groups={"red_*": 1}) as games:
        assert list(games.start()) == ["Red", "Other"]
        playing = Playing(games)
        while min(games.begun) < 12:
            ready = playing.turn()
            for name, said in ready.items():
                asked = said.decisions
                if name == "Red":
                    assert set(asked.team.tolist()) <= {0}
                    assert asked.group.tolist() == (1 + (asked.instance.astype(np.int64) << 32)).tolist()
                else:
                    assert asked.team.tolist() == [agent % 2 == 0 for agent in asked.agent.tolist()]
                    assert not asked.group.any()
                assert len(said.results.group_reward) == len(said.results.agent)
        counts = games.samples.copy()
    assert np.bincount([entry[0] for entry in playing.log], minlength=2).tolist() == counts.tolist()
    ended = Counter()
    steps = {}
    for instance, name, agent, seen, reward, terminated, truncated, final, metrics in playing.log:
        high, low, step, _, action = seen
        own = NAMES[agent % 2 + 2 * (name == "Other")]
        seed = int(high) * 65536 + int(low)
        episode = ended[instance, own]
        assert seed == episode_seed(3, instance, episode)
        assert step == steps.get((instance, own), 0)
        assert reward == 100 * (step + 1) + action
        over = step + 1 == stay(seed, own)
        assert (terminated, truncated) == (over and own != "blue_0", over and own == "blue_0")
        assert metrics == ({"stayed": step + 1} if over else None)
        assert (final is None) == (not truncated)
        if truncated:
            assert final == [high, low, step + 1, action]
        steps[instance, own] = 0 if over else step + 1
        ended[instance, own] += over
    assert min(ended[0, own] for own in NAMES) > 5


def test_turns_are_as_in_pettingzoos_own_loop(tmp_path):
    with manager(tmp_path, "tests.games:Nim", instances=1) as games:
        (spec,) = games.start().values()
        assert spec.name == "player"
        assert spec.masked
        assert [o.name for o in spec.observations] == ["observation"]
        playing = Playing(games)
        while games.begun[0] < 9:
            ready = playing.turn()
            assert len(ready["player"].decisions.agent) == 1
    env, expected, episode = Nim(), [], 0
    while len(expected) < len(playing.log):
        env.reset(episode_seed(3, 0, episode))
        episode += 1
        pending = {}
        for agent in env.agent_iter():
            observation, reward, terminated, truncated, info = env.last()
            seat = env.possible_agents.index(agent)
            if agent in pending:
                metrics = {"won": float(info["won"])} if "won" in info else None
                expected.append((0, "player", seat, pending.pop(agent), reward, terminated, truncated, None, metrics))
            action = None
            if not (terminated or truncated):
                seen = tuple(observation["observation"].tolist())
                action = Playing.choose(seen, observation["action_mask"].astype(bool))
                pending[agent] = (*seen, action)
            env.step(action)
    assert {entry[4] for entry in expected} > {0.25, -0.25, -1}
    assert any(entry[5] and entry[8] is None for entry in expected), "somebody left before the end"

    def by_agent(log):
        return {seat: [entry for entry in log if entry[2] == seat] for seat in range(3)}

    for seat, own in by_agent(playing.log).items():
        assert own == by_agent(expected)[seat][: len(own)]


def test_an_instance_waits_for_no_other_and_only_for_its_own_agents(tmp_path):
    with manager(tmp_path, behaviors=BEHAVIORS) as games:
        games.start()
        playing = Playing(games)
        held, send = {}, games.send

        def hold(name, agents, continuous, discrete):
            """Keeps back what the first red agent of instance 0 does."""
            keep = (agents == 0) & (name == "Red")
            if keep.any():
                held["action"] = (name, agents[keep], continuous[keep], discrete[keep])
            send(name, agents[~keep], continuous[~keep], discrete[~keep])

        games.send = hold
        while games.samples[1] < 50:
            playing.turn()
        assert games.samples[0] == 0
        games.send = send
        games.send(*held["action"])
        while not games.samples[0]:
            playing.turn()
        with pytest.raises(ValueError, match="do not wait"):
            send("Red", *(np.concatenate([each, each]) for each in held["action"][1:]))


def test_a_failed_game_loses_its_agents_and_is_begun_again(tmp_path):
    kwargs = {"fault": "raises"}
    with manager(tmp_path, behaviors=BEHAVIORS, kwargs=kwargs, restarts=2, instances=1) as games:
        games.start()
        playing = Playing(games)
        with pytest.raises(InstanceFailed, match="it broke"):
            [playing.turn() for _ in range(100)]
        assert playing.lost == {"Red": 4, "Other": 2}


def test_lockstep_is_the_same_every_time(tmp_path):
    def played(workers):
        with manager(tmp_path, behaviors=BEHAVIORS, instances=3, workers=workers) as games:
            games.lockstep = True
            games.start()
            playing = Playing(games)
            for _ in range(30):
                playing.turn()
            return playing.log

    assert played(1) == played(3)


@pytest.mark.parametrize("env_id", ["tests.games:Meeting", "tests.games:Nim"])
def test_open_episodes_go_on_where_they_were(tmp_path, env_id):
    def begun():
        games = manager(tmp_path, env_id, record=True)
        games.lockstep = True
        games.start()
        return games

    with begun() as games:
        whole = Playing(games)
        for _ in range(25):
            whole.turn()
        ready = whole.hear()
        state, held, done = games.state(), dict(whole.open), len(whole.log)
        whole.act(ready)
        for _ in range(40):
            whole.turn()
    with manager(tmp_path, env_id, record=True, resume=state) as games:
        games.lockstep = True
        games.start()
        rest = Playing(games)
        rest.open = held
        for _ in range(41):
            rest.turn()
    assert len(whole.log) > done + 40
    assert rest.log == whole.log[done:]
