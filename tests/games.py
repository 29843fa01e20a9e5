"""Toy games of several agents for tests: `tests.games:Meeting` (parallel), `tests.games:Nim` (in turns)."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv

NAMES = ("red_0", "red_1", "blue_0", "late_0")


def stay(seed, name):
    """Steps that an agent of `Meeting` stays, in an episode with this seed; the last one comes two steps later."""
    return 2 + (seed // 7 + 3 * NAMES.index(name)) % 5


class Meeting(ParallelEnv):
    """Agents leave at different times, and `late_0` comes only after two steps; `blue_0` is cut off, others terminate.

    Observation: [seed // 65536, seed % 65536, own step, last own action]. Reward: 100 * own step + action.
    """

    metadata = {"render_modes": ["rgb_array"], "name": "meeting"}  # noqa: RUF012

    def __init__(self, fault=None, duration=None, render_mode=None):
        self.fault, self.duration, self.render_mode = fault, duration, render_mode
        self.possible_agents, self.agents = list(NAMES), []
        self._observation, self._action = spaces.Box(-1, 65536, (4,), np.float32), spaces.Discrete(5)
        self._wide = spaces.Box(-1, 65536, (6,), np.float32)
        self.resets = 0

    def observation_space(self, agent):
        wide = agent == "red_1" if self.fault == "unlike" else self.fault == "changes" and self.resets > 2
        return self._wide if wide else self._observation

    def action_space(self, agent):
        return self._action

    def reset(self, seed=None, options=None):
        self.seed, self.at, self.resets = seed or 0, 0, self.resets + 1
        self.own = dict.fromkeys(NAMES[:3], 0)
        self.last = dict.fromkeys(NAMES, -1)
        self.agents = list(NAMES[:3])
        return {agent: self._see(agent) for agent in self.agents}, {agent: self._info() for agent in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        if self.fault == "raises" and self.at == 1:
            raise RuntimeError("it broke")
        self.at += 1
        acted, over = list(self.agents), {}
        for agent in acted:
            self.own[agent] += 1
            self.last[agent] = int(actions[agent])
            over[agent] = self.own[agent] >= stay(self.seed, agent)
        self.agents = [agent for agent in acted if not over[agent]]
        if self.at == 2 and self.agents:
            self.own["late_0"] = 0
            self.agents.append("stranger" if self.fault == "stranger" else "late_0")
        if self.fault == "vanishes":
            self.agents = self.agents[1:]
        rewards = {agent: 100 * self.own[agent] + self.last[agent] for agent in acted}
        seen = [*acted, *(agent for agent in self.agents if agent not in acted)]
        infos = {agent: self._info() | ({"stayed": self.own[agent]} if over.get(agent) else {}) for agent in acted}
        for agent in ("red_0", "red_1"):
            infos.get(agent, {})["group_reward"] = 0.5 * self.at
        cut = {agent: over[agent] and agent == "blue_0" for agent in acted}
        ended = {agent: over[agent] and agent != "blue_0" for agent in acted}
        return {agent: self._see(agent) for agent in seen}, rewards, ended, cut, infos

    def render(self):
        return np.full((4, 6, 3), (self.at, self.resets, 7), np.uint8)

    def _info(self):
        return {} if self.duration is None else {"duration": self.duration}

    def _see(self, agent):
        values = [self.seed >> 16, self.seed & 0xFFFF, self.own.get(agent, 0), self.last.get(agent, -1)]
        return np.array(values, np.float32)


class Nim(AECEnv):
    """Three players take 1 to 3 matches of 20 in turn; who takes the last wins 1 of each other.

    The taker of an even number pays 0.25 to the player behind it. A player who takes three of an even number
    leaves at once. Observation: a dict of the matches and an action mask.
    """

    metadata = {"name": "nim", "render_modes": []}  # noqa: RUF012

    def __init__(self):
        self.possible_agents = ["player_0", "player_1", "player_2"]
        self._observation = spaces.Dict(
            {"observation": spaces.Box(0, 20, (2,), np.float32), "action_mask": spaces.Box(0, 1, (3,), np.int8)}
        )
        self._action = spaces.Discrete(3)

    def observation_space(self, agent):
        return self._observation

    def action_space(self, agent):
        return self._action

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        self.left = 15 + (seed or 0) % 6
        self.rewards = dict.fromkeys(self.agents, 0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {} for agent in self.agents}
        self.agent_selection = self.agents[0]

    def observe(self, agent):
        mask = np.array([n <= self.left for n in (1, 2, 3)], np.int8)
        return {"observation": np.array([self.left, len(self.agents)], np.float32), "action_mask": mask}

    def step(self, action):
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        taken = int(action) + 1
        assert taken <= self.left
        self._cumulative_rewards[agent] = 0
        self._clear_rewards()
        live = [each for each in self.agents if not self.terminations[each]]
        following = live[(live.index(agent) + 1) % len(live)]
        if taken == 2 and following != agent:
            self.rewards[agent] -= 0.25
            self.rewards[following] += 0.25
        leaves = taken == 3 and self.left % 2 == 0 and len(live) > 1
        self.left -= taken
        if self.left == 0:
            for each in live:
                self.rewards[each] += len(live) - 1 if each == agent else -1
                self.terminations[each] = True
                self.infos[each] = {"won": each == agent}
        elif leaves:
            self.terminations[agent] = True
        self.agent_selection = following
        self._accumulate_rewards()
        self._deads_step_first()
