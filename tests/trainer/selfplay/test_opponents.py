"""Opponents: who is drawn, how many act at a time, and that each acts with its own snapshot."""

from __future__ import annotations

from collections import Counter

import numpy as np

from envs.spec import BehaviorSpec, Decisions, ObservationSpec
from trainer.selfplay.matches import FIXED, LATEST
from trainer.selfplay.opponents import Opponents
from trainer.selfplay.settings import SelfPlayConfig
from trainer.selfplay.snapshots import Snapshots, snapshots_bytes

SPEC = BehaviorSpec("Duelist", (ObservationSpec("clock", (2,), "float32"),), branches=(100,))


class Says:
    """An actor that plays the first number of its weights, and remembers how often it acted by a recurrent state."""

    def __init__(self, weights, seed):
        self.weights, self.flat, self.passes = weights, np.zeros(1, np.float32), 0

    version = 0

    def refresh(self):
        self.weights.refresh(self.flat)

    def act(self, observations, mask, state):
        self.passes += 1
        discrete = np.full((len(state), 1), int(self.flat[0]), np.int32)
        return np.zeros((len(state), 0), np.float32), discrete, np.zeros(len(state), np.float32), state + 1

    def state(self):
        return None

    def load_state(self, state): ...


def made(window=20, limit=2, latest_ratio=0.0, fixed=()):
    settings = SelfPlayConfig(save_samples=1, window=window, opponents=limit, latest_ratio=latest_ratio)
    memory = memoryview(bytearray(snapshots_bytes(1, settings)))
    snapshots = Snapshots(memory, 1, settings)
    for number in range(1, 6):
        snapshots.add(number, np.array([number], np.float32), range(1, number + 1))
    return Opponents(SPEC, settings, snapshots, Says, 1, fixed, seed=0), snapshots


def asked(*agents):
    numbers = np.array(agents)
    seen = (np.zeros((len(agents), 2), np.float32),)
    return Decisions(numbers * 0, numbers, seen, np.zeros((len(agents), 0), bool))


def test_no_more_than_the_limit_act_at_a_time_and_over_time_all_do():
    opponents, snapshots = made(limit=2)
    pool = dict.fromkeys(range(1, 6), 1.0)
    playing, met = [], Counter()
    for agent in range(600):
        number = opponents.draw(pool)
        opponents.join(number, agent)
        met[number] += 1
        playing.append(number)
        if len(playing) > 8:
            opponents.leave(playing.pop(0))
        assert len(set(playing)) <= 2
        assert set(playing) <= {*snapshots.held.tolist()}
    assert set(met) == set(pool)
    assert min(met.values()) > 40


def test_all_agents_of_one_opponent_share_a_pass_with_its_own_weights_and_their_own_memories():
    opponents, _ = made(limit=3)
    for agent, number in enumerate((2, 2, 4, 40)):
        assert opponents.draw({number: 1.0}) == (number if number < 6 else LATEST)  # 40 is not there
        if number < 6:
            opponents.join(number, agent)
    for _ in range(2):
        _, discrete = opponents.act(2, asked(0, 1), np.zeros(2, bool))
        assert discrete[:, 0].tolist() == [2, 2]
    assert opponents.act(4, asked(2), np.zeros(1, bool))[1].tolist() == [[4]]
    assert opponents.state()["memories"][:3] == [[2.0], [2.0], [1.0]]
    opponents.leave(2)
    opponents.join(2, 1)
    assert opponents.state()["memories"][1] == [0.0]


def test_the_newest_weights_and_fixed_opponents_have_their_shares():
    def plays(decisions, begun):
        return np.zeros((len(begun), 0), np.float32), np.full((len(begun), 1), 7, np.int32)

    opponents, _ = made(latest_ratio=0.25, fixed=(plays,))
    met = Counter(opponents.draw({1: 1.0, FIXED: 3.0}) for _ in range(800))
    assert 150 < met[LATEST] < 250
    assert 2 < met[FIXED] / met[1] < 4
    opponents.join(FIXED, 5)
    assert opponents.act(FIXED, asked(5), np.ones(1, bool))[1].tolist() == [[7]]
    assert made()[0].draw({}) == LATEST
