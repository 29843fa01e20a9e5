"""POCA against numbers computed by hand, and in everything that PPO can do."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from algorithms.poca.poca import POCA
from algorithms.poca.settings import POCASettings
from algorithms.policy import Policy
from algorithms.rewards.settings import CuriositySettings, ExtrinsicSettings, RNDSettings
from algorithms.settings import Cell, MemorySettings, NetworkSettings
from buffers.rows import Layout, Rows, Writer
from envs.spec import BehaviorSpec, Decisions, ObservationSpec, Ready, StepResults
from trainer.runtime.collector import Channel
from trainer.runtime.ipc import COUNTERS
from trainer.runtime.rate_limiter import RateLimiter

VECTOR = ObservationSpec("o", (3,), "float32")
IMAGE = ObservationSpec("i", (8, 8, 1), "uint8", 1 / 255)
SPECS = {
    "continuous": BehaviorSpec("b", (VECTOR,), 2),
    "branches": BehaviorSpec("b", (VECTOR,), 0, (3, 2), True),
    "hybrid": BehaviorSpec("b", (VECTOR,), 1, (3,)),
    "sets": BehaviorSpec("b", (VECTOR, ObservationSpec("s", (4, 2), "float32", entities=True)), 0, (3,)),
    "images": BehaviorSpec("b", (VECTOR, IMAGE), 0, (3,)),
}
SMALL = POCASettings(
    network=NetworkSettings([8, 8]), rollout_size=60, minibatch_size=20, epochs=2, max_lag=50, max_group=4
)  # fmt: skip


class Acting:
    """A copy of a policy."""

    version = 1

    def __init__(self, policy):
        self.policy, self.generator = policy, torch.Generator().manual_seed(0)

    def refresh(self): ...

    def act(self, observations, mask, state):
        return self.policy.act(observations, mask, state, self.generator)

    def state(self): ...


class Teams:
    """Groups of three in rows: agents leave by chance, one after another or all at once, and some take longer."""

    def __init__(self, spec, settings, groups=4, patience=0.0):
        layout = Layout(spec, settings.network.memory.numbers, settings.mates)
        self.rows = Rows(layout, bytearray(layout.memory_bytes(2000)), 2000)
        policy = Policy(spec, settings.network, "ppo")
        self.channel = Channel(spec, Acting(policy), Writer(self.rows), np.zeros(COUNTERS, np.int64))
        self.channel.rate_limiter = RateLimiter(1.0, 0, 10**9)
        self.spec, self.rng, self.patience = spec, np.random.default_rng(0), patience
        self.groups = [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(groups)]
        self.message(np.arange(3 * groups), np.zeros(0, np.int64), "")

    def seen(self, count):
        shapes = [(o, (count, *o.shape)) for o in self.spec.observations]
        return tuple(
            self.rng.integers(0, 255, shape).astype(np.uint8)
            if o.dtype == "uint8"
            else self.rng.normal(size=shape).astype(np.float32)
            for o, shape in shapes
        )

    def message(self, asking, closing, ends):
        cut = np.array([ends.get(i) == "cut" for i in closing], bool) if ends else np.zeros(len(closing), bool)
        dead = np.array([ends.get(i) == "dead" for i in closing], bool) if ends else np.zeros(len(closing), bool)
        results = StepResults(
            np.zeros(len(closing), np.int32), closing, self.rng.normal(size=len(closing)).astype(np.float32), dead, cut,
            self.seen(int(cut.sum())), np.ones((int(cut.sum()), self.spec.mask_size), bool),
            np.zeros(len(closing), np.float32),
        )  # fmt: skip
        mask = self.rng.random((len(asking), self.spec.mask_size)) < 0.9
        mask[:, [0, 3][: self.spec.mask_size]] = True
        decisions = Decisions(
            np.zeros(len(asking), np.int32), asking, self.seen(len(asking)), mask, np.zeros(len(asking), np.int32),
            asking // 3 + 1,
        )  # fmt: skip
        self.channel.take(Ready(results, decisions, np.zeros(0, np.int64), {}))
        if self.channel.pending:
            self.channel.act()

    def play(self, turns):
        for _ in range(turns):
            for i, group in enumerate(self.groups):
                closing = np.array([agent for agent in group if self.rng.random() >= self.patience], np.int64)
                ends = {agent: self.rng.choice(["dead", "cut"]) for agent in closing if self.rng.random() < 0.1}
                self.groups[i] = [agent for agent in group if agent not in ends] or [3 * i, 3 * i + 1, 3 * i + 2]
                asking = closing[[agent not in ends for agent in closing.tolist()]]
                if not set(group) - set(ends):
                    asking = np.array(self.groups[i])
                self.message(asking, closing, ends)
        return self


def learned(spec, settings, rewards=None, **more):
    teams = Teams(spec, settings, **more).play(40)
    poca = POCA(spec, settings, teams.rows, "cpu", 0, rewards)
    before = poca.policy.flat.clone()
    poca.update()
    poca.update()
    assert poca.updates == 2
    metrics = poca.metrics()
    assert (poca.policy.flat - before).abs().max() > 0
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["update/skipped_non_finite"] == 0
    assert metrics["loss/baseline"] > 0
    return poca, teams


@pytest.mark.parametrize("actions", SPECS)
@pytest.mark.parametrize("cell", ["none", "lstm"])
def test_poca_learns_with_all_kinds_of_actions_and_observations(actions, cell):
    network = replace(SMALL.network, memory=MemorySettings(Cell[cell], 8, 4))
    learned(SPECS[actions], replace(SMALL, network=network))


def test_poca_learns_where_agents_ask_at_different_times():
    _, teams = learned(SPECS["hybrid"], SMALL, patience=0.4)
    (mates,) = teams.rows.gather(np.arange(1, teams.rows.head + 1), ("mates",))
    assert (mates < 0).any()


@pytest.mark.parametrize("signal", [CuriositySettings(strength=0.1, hidden=[8]), RNDSettings(strength=0.1, hidden=[8])])
@pytest.mark.parametrize("normalize", [False, True])
def test_poca_learns_with_further_reward_signals(signal, normalize):
    name = "curiosity" if isinstance(signal, CuriositySettings) else "rnd"
    rewards = {"extrinsic": ExtrinsicSettings(), name: signal}
    learned(SPECS["hybrid"], replace(SMALL, normalize_returns=normalize), rewards)
