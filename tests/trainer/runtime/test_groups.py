"""Rows of agents in groups: whom they name, what they are paid, and what follows those who leave."""

import numpy as np
import pytest

from buffers.rollout import RolloutReader
from buffers.rows import Layout, Rows, Writer
from envs.spec import BehaviorSpec, Decisions, ObservationSpec, Ready, StepResults, UserError
from trainer.runtime.collector import Channel
from trainer.runtime.ipc import COUNTERS, SAMPLES
from trainer.runtime.rate_limiter import RateLimiter

SPEC = BehaviorSpec("team", (ObservationSpec("x", (1,), "float32"),), branches=(9,))


class Acting:
    """Chooses, of an observation, its last digit."""

    version = 1

    def refresh(self): ...

    def act(self, observations, mask, state):
        seen = observations[0]
        return np.zeros((len(seen), 0), np.float32), seen.astype(np.int32) % 10, np.full(len(seen), -1.0), state

    def state(self): ...


class Team:
    """A channel that a test tells what agents see, and what they earn."""

    def __init__(self, mates=2, capacity=100, owners=None, name="team"):
        spec = BehaviorSpec(name, SPEC.observations, branches=SPEC.branches)
        layout = Layout(spec, 0, mates)
        self.rows = Rows(layout, bytearray(layout.memory_bytes(capacity)), capacity)
        self.counters = np.zeros(COUNTERS, np.int64)
        self.channel = Channel(spec, Acting(), Writer(self.rows), self.counters, group_owners=owners)
        self.channel.rate_limiter = RateLimiter(1.0, 0, 10**9)

    def message(self, asks, closes=(), lost=(), group=7):
        """Agents that see something, by their number; and who closes: own reward, the group's, how it ends."""
        agents, values = np.array(list(asks), np.int64), np.array(list(asks.values()), np.float32)[:, None]
        closes = dict(closes)
        closing = np.array(list(closes), np.int64)
        own, paid, ends = (np.array([x[i] for x in closes.values()]) for i in range(3))
        cut = ends == "cut"
        results = StepResults(
            closing.astype(np.int32) * 0, closing, (own + paid).astype(np.float32), ends == "dead", cut,
            (np.array([x[3] for x in closes.values() if x[2] == "cut"], np.float32).reshape(-1, 1),),
            np.zeros((int(cut.sum()), 0), bool), paid.astype(np.float32),
        )  # fmt: skip
        groups = np.broadcast_to(np.array(group, np.int64), len(agents))
        decisions = Decisions(
            agents.astype(np.int32) * 0, agents, (values,), np.zeros((len(agents), 0), bool), agents.astype(np.int32),
            groups,
        )  # fmt: skip
        self.channel.take(Ready(results, decisions, np.array(lost, np.int64), {}))
        if self.channel.pending:
            self.channel.act()

    def told(self, *names):
        """Those fields of all rows so far."""
        return self.rows.gather(np.arange(1, self.rows.head + 1), names)

    def sees(self, number):
        """What stands in rows of these numbers, or of one row's teammates."""
        return self.rows.gather(np.abs(np.asarray(number)), ("observation_0",))[0][..., 0].tolist()


def going(own=0.0, paid=0.0):
    return own, paid, ""


def test_rows_of_agents_that_decide_together_name_one_another():
    team = Team()
    team.message({0: 10, 1: 11, 2: 12})
    team.message({0: 20, 1: 21, 2: 22}, dict.fromkeys((0, 1, 2), going()))
    team.message({}, dict.fromkeys((2, 0, 1), (0, 0, "dead")))
    seen, mates, links = team.told("observation_0", "mates", "next")
    assert seen[:, 0].tolist() == [10, 11, 12, 22, 20, 21], "no row more"
    assert mates.tolist() == [[2, 3], [1, 3], [1, 2], [5, 6], [6, 4], [5, 4]]
    assert links.tolist() == [5, 6, 4, 0, 0, 0], "the group has ended, so nothing follows"


def test_agents_of_other_groups_and_of_none_are_no_teammates():
    team = Team()
    team.message({0: 10, 1: 11, 2: 12, 3: 13, 4: 14}, group=[7, 0, 7, 8, 0])
    team.message({}, dict.fromkeys(range(5), (1, 0, "dead")))
    mates, reward = team.told("mates", "reward")
    assert mates.tolist() == [[3, 0], [0, 0], [1, 0], [0, 0], [0, 0]]
    assert reward.tolist() == [2, 1, 2, 1, 1]


def test_agents_are_paid_what_they_their_group_and_their_teammates_earn():
    team = Team()
    team.message({0: 10, 1: 11, 2: 12})
    team.message({0: 20, 1: 21}, {0: going(1, 10), 1: going(2, 10), 2: (4, 10, "dead")})
    reward, final = team.told("reward", "final")
    assert reward[~final].tolist() == [17, 17, 17]
    team.message({}, {0: (0, 5, "dead"), 1: (0, 5, "dead")})
    assert [(e.reward, e.length, e.metrics) for e in team.channel.episodes] == [
        (14, 1, {}),
        (16, 2, {"group_reward": 15}),
        (17, 2, {}),
    ], "what a person reads is what each agent was paid, and once what the group was"


def test_what_follows_an_agent_that_leaves_is_its_group_without_it():
    team = Team()
    team.message({0: 10, 1: 11, 2: 12})
    team.message({0: 20, 1: 21}, {0: going(), 1: going(), 2: (0, 0, "dead")})
    team.message({}, dict.fromkeys((0, 1), (0, 3, "dead")))
    links, final, terminated, mates = team.told("next", "final", "terminated", "mates")
    dead = 5  # behind two rows of what those see who go on
    assert team.sees(dead) == 12
    follows = int(links[dead - 1])
    assert final[follows - 1]
    assert terminated[follows - 1], "it is not there itself"
    assert team.sees(mates[follows - 1]) == [20, 21]
    assert team.counters[SAMPLES] == 5
    assert team.rows.sampleable == 5


def test_an_agent_that_is_cut_off_alone_is_followed_by_itself_and_its_group():
    team = Team()
    team.message({0: 10, 1: 11, 2: 12})
    team.message({0: 20, 1: 21}, {0: going(), 1: going(), 2: (0, 0, "cut", 29)})
    links, terminated, mates = team.told("next", "terminated", "mates")
    follows = int(links[4])
    assert team.sees(follows) == 29
    assert not terminated[follows - 1]
    assert team.sees(mates[follows - 1]) == [20, 21]


def test_a_group_that_is_cut_off_is_followed_by_all_its_last_observations():
    team = Team()
    team.message({0: 10, 1: 11, 2: 12})
    team.message({}, {0: (0, 0, "cut", 20), 1: (0, 0, "cut", 21), 2: (0, 0, "dead")})
    links, mates = team.told("next", "mates")
    assert team.sees(links[:2]) == [20, 21]
    assert [team.sees(mates[follows - 1])[0] for follows in links[:2]] == [21, 20]
    assert mates[links[0] - 1, 1] == 0
    assert links[2] > 0, "the group would have gone on"
    assert team.sees(mates[links[2] - 1]) == [20, 21]


def test_a_teammate_that_takes_longer_stays_with_its_last_decision():
    team = Team()
    team.message({0: 10, 1: 11})
    team.message({0: 20}, {0: going(1)})
    team.message({0: 30}, {0: going(2)})
    team.message({0: 40, 1: 41}, {0: going(4), 1: going(8)})
    seen, mates, final, reward = team.told("observation_0", "mates", "final", "reward")
    own = [i for i, value in enumerate(seen[:, 0]) if not final[i] and value in (10, 20, 30)]
    assert [team.sees(mates[i])[0] for i in own] == [11, 11, 11]
    assert [mates[i, 0] < 0 for i in own] == [False, True, True], "marked where it had decided before"
    assert [reward[i] for i in own] == [1, 2, 12]
    assert final.sum() == 1, "what it saw was appended once"
    (discrete,) = team.told("discrete")
    assert discrete[np.flatnonzero(final)[0], 0] == 1
    slow = np.flatnonzero((seen[:, 0] == 11) & ~final)[0]
    assert team.sees(mates[slow])[0] == 10
    assert reward[slow] == 8 + 1 + 2 + 4


def test_an_agent_leaves_while_its_teammates_are_busy():
    team = Team()
    team.message({0: 10, 1: 11})
    team.message({}, {0: (0, 0, "dead")})
    links, mates = team.told("next", "mates")
    row = np.flatnonzero(links > 0)[0]
    follows = links[row]
    assert team.sees(mates[follows - 1])[0] == 11
    assert mates[follows - 1, 0] < 0
    team.message({}, {1: (0, 5, "dead")})
    assert team.channel.episodes[-1].metrics == {"group_reward": 5}


def test_the_next_episode_of_a_group_does_not_go_on_with_the_last():
    team = Team()
    team.message({0: 10, 1: 11})
    team.message({1: 20, 0: 21}, {0: (0, 1, "dead"), 1: (0, 1, "dead")})
    assert team.told("next")[0].tolist() == [0, 0]
    team.message({}, {0: (0, 1, "dead"), 1: (0, 1, "dead")})
    assert team.told("mates")[0].tolist() == [[2, 0], [1, 0], [4, 0], [3, 0]]


def test_of_a_group_that_is_too_large_rows_name_the_first_and_the_user_is_told():
    team = Team(mates=2)
    team.message({i: 10 + i for i in range(5)})
    team.message({}, dict.fromkeys(range(5), (0, 0, "dead")))
    assert team.told("mates")[0].tolist() == [[2, 3], [1, 3], [1, 2], [1, 2], [1, 2]]
    assert "a group of 5 agents, of which each row tells of 3: raise algorithm.max_group to 5" in str(
        team.channel.warnings
    )
    assert len(team.channel.warnings) == 1


def test_agents_of_an_instance_that_has_failed_leave_no_trace():
    team = Team()
    team.message({0: 10, 1: 11})
    team.message({}, lost=[0, 1])
    team.message({1: 20, 2: 22})
    team.message({}, {1: (3, 0, "dead"), 2: (0, 0, "dead")})
    mates, reward = team.told("mates", "reward")
    assert mates.tolist() == [[2, 0], [1, 0]]
    assert reward.tolist() == [3, 3]


def test_teammates_of_two_behaviors_are_refused():
    owners = {}
    one, other = Team(owners=owners, name="striker"), Team(owners=owners, name="goalie")
    one.message({0: 1})
    with pytest.raises(UserError, match="'goalie' are in a group with agents of 'striker'"):
        other.message({0: 1})
    one.message({}, {0: (0, 0, "dead")})
    other.channel._pending.clear()
    other.message({0: 1})


def test_who_learns_alone_is_told_once_of_what_the_group_earns():
    team = Team(mates=0)
    for paid in (0, 1, 1):
        team.message({0: 10})
        team.message({}, {0: (0, paid, "dead")})
    (told,) = team.channel.warnings
    assert "algorithm=poca learns as a group" in told
    assert team.told("reward")[0].tolist() == [0, 1, 1]


def test_who_learns_as_a_group_without_teammates_is_told_once():
    team = Team()
    for _ in range(3):
        team.message({0: 10, 1: 11}, group=[0, 5])
        team.message({}, {0: (0, 0, "dead"), 1: (0, 0, "dead")})
    (told,) = team.channel.warnings
    assert "has no teammates so far" in told


def test_rollouts_hold_each_teammate_once_and_those_that_are_overwritten_as_absent():
    team = Team(capacity=16)
    team.message({0: 10, 1: 11, 2: 12})
    for step in range(2, 9):
        team.message({i: 10 * step + i for i in range(3)}, dict.fromkeys(range(3), going()))
    reader = RolloutReader(team.rows, 4)
    found = reader.take_any()
    mates = found.teammates
    assert len(mates.mask) == len(np.unique(mates.observations[0]))
    for row, seen in enumerate(found.observations[0][:, 0]):
        others = mates.observations[0][mates.of_rows.places[row][mates.of_rows.present[row]], 0]
        expected = {10 * (seen // 10) + i for i in range(3)} - {seen}
        assert set(others) <= expected
        assert set(others) == (set() if seen // 10 == 2 else expected), "of the oldest, others are overwritten"
    assert not mates.of_rows.stale.any()


def test_whoever_comes_goes_and_takes_longer_rows_name_those_who_are_there():
    """Random messages of a group of up to five, beside what a plain account of them says."""
    team, rng, seen = Team(mates=4, capacity=4000), np.random.default_rng(3), iter(range(1, 10**6))
    doing, expected, behind = {}, {}, {}  # by agent what it decided on; by that whom its row names, and what follows
    for _ in range(400):
        closing = [agent for agent in doing if rng.random() < 0.7] or list(doing)
        ends = {agent: rng.choice(["dead", "cut"]) for agent in closing if rng.random() < 0.15}
        if rng.random() < 0.1:
            closing, ends = list(doing), dict.fromkeys(doing, "dead")
        coming = [agent for agent in range(5) if agent not in doing and rng.random() < 0.3]
        staying = [agent for agent in closing if agent not in ends]
        asks = {agent: next(seen) for agent in [*staying, *coming]}
        closes = {agent: (0, 0, ends.get(agent, ""), next(seen)) for agent in closing}
        there = {(asks[agent], False) for agent in staying}
        there |= {(value, True) for agent, value in doing.items() if agent not in closing}
        for agent, end in ends.items():
            others = there | {(closes[each][3], False) for each in ends if ends[each] == "cut" and each != agent}
            own = closes[agent][3] if end == "cut" else None
            behind[doing[agent]] = (own, others) if others or own else None
        doing = {agent: value for agent, value in doing.items() if agent not in ends} | asks
        for value in asks.values():
            busy = {(other, True) for other in doing.values() if other not in asks.values()}
            expected[value] = {(other, False) for other in asks.values() if other != value} | busy
        team.message(asks, closes)

    def named(number):
        mates = team.rows.gather(np.array([number]), ("mates",))[0][0]
        return {(team.sees(mate), bool(mate < 0)) for mate in mates[mates != 0]}

    values, final, links = team.told("observation_0", "final", "next")
    assert team.channel.warnings == []
    for place in np.flatnonzero(~final):
        value = int(values[place, 0])
        assert named(place + 1) == expected[value]
        if value in behind and behind[value] is None:
            assert links[place] == 0
        elif value in behind:
            own, others = behind[value]
            follows = int(links[place])
            assert named(follows) == others
            (gone,) = team.rows.gather(np.array([follows]), ("terminated",))
            assert gone[0] == (own is None)
            assert own is None or team.sees(follows) == own
    assert sum(each is None for each in behind.values()) > 5
    assert len(behind) > 100
