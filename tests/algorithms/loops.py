"""A plain synchronous loop: a few environments in this process, a buffer, an algorithm. What tests learn with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import gymnasium
import numpy as np
import torch

from algorithms.policy import Policy
from algorithms.ppo.ppo import PPO
from algorithms.ppo.settings import PPOSettings
from algorithms.sac.sac import SAC
from algorithms.sac.settings import SACSettings
from buffers.rows import Layout, Rows, Writer
from envs.spec import Array, BehaviorSpec, ObservationSpec
from tests.algorithms.hybrid_toy import AGENTS, SPEC, HybridToy

MakeEnv = Callable[[], gymnasium.Env]


def make_rows(spec: BehaviorSpec, capacity: int) -> Rows:
    layout = Layout(spec)
    return Rows(layout, bytearray(layout.memory_bytes(capacity)), capacity)


def gym_spec(make: MakeEnv) -> BehaviorSpec:
    """A spec of one float32 vector and a Box, Discrete or MultiDiscrete action."""
    env = make()
    space = env.action_space
    observation = ObservationSpec("observation", env.observation_space.shape, "float32")
    if isinstance(space, gymnasium.spaces.Discrete):
        return BehaviorSpec("toy", (observation,), 0, (int(space.n),))
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return BehaviorSpec("toy", (observation,), 0, tuple(map(int, space.nvec)))
    return BehaviorSpec("toy", (observation,), space.shape[0])


def env_action(env: gymnasium.Env, continuous: Array, discrete: Array) -> object:
    if len(discrete):
        return int(discrete[0]) if isinstance(env.action_space, gymnasium.spaces.Discrete) else discrete
    low, high = env.action_space.low, env.action_space.high
    return low + (np.clip(continuous, -1, 1) + 1) / 2 * (high - low)


class Loop:
    """Steps all environments once for each `step`."""

    def __init__(self, make: MakeEnv, settings: PPOSettings | SACSettings, seed: int, envs: int) -> None:
        torch.set_num_threads(1)
        self.spec = gym_spec(make)
        self.rows = make_rows(self.spec, 200_000)
        algorithm = PPO if isinstance(settings, PPOSettings) else SAC
        self.algorithm = algorithm(self.spec, settings, self.rows, "cpu", seed)
        self.writer = Writer(self.rows)
        self.actor = Policy(self.spec, settings.network, settings.name)
        self.envs = [make() for _ in range(envs)]
        self.observations = np.stack([env.reset(seed=1000 * seed + i)[0] for i, env in enumerate(self.envs)])
        self.generator = torch.Generator().manual_seed(seed + 1)
        self.samples = 0
        self.publish()

    def publish(self) -> None:
        self.actor.flat.copy_(self.algorithm.policy.flat)
        self.version = self.algorithm.updates + 1

    def run(self, samples: int) -> None:
        """Collects, and updates whenever an update is due."""
        until = self.samples + samples
        algorithm = self.algorithm
        while self.samples < until:
            self.step()
            algorithm.set_progress(self.samples)
            due = (self.rows.sampleable - algorithm.dropped - algorithm.start_samples) * algorithm.updates_per_sample
            while algorithm.updates + 1 <= due + 1e-6:
                before = algorithm.updates
                algorithm.update()
                if algorithm.updates == before:
                    break
                self.publish()

    def step(self) -> None:
        count = len(self.envs)
        mask = np.zeros((count, 0), np.bool_)
        nothing = np.zeros((count, 0), np.float32)
        continuous, discrete, log_prob, _ = self.actor.act((self.observations,), mask, nothing, self.generator)
        acted_on = self.observations.copy()
        reward, ended = np.zeros(count, np.float32), np.zeros((2, count), np.bool_)
        final = []
        for i, env in enumerate(self.envs):
            seen, reward[i], terminated, truncated, _ = env.step(env_action(env, continuous[i], discrete[i]))
            ended[:, i] = terminated, truncated and not terminated
            if ended[1, i]:
                final.append(seen)
            self.observations[i] = env.reset()[0] if ended[:, i].any() else seen
        finals = np.array(final, np.float32).reshape(-1, *self.observations.shape[1:])
        self.writer.append(
            np.arange(count),
            (acted_on,),
            mask,
            continuous,
            discrete,
            log_prob,
            self.version,
            reward,
            *ended,
            (finals,),
            mask[: len(finals)],
        )
        self.samples += count


def learn_hybrid_toy(settings: PPOSettings | SACSettings, seed: int, samples: int, lag: int = 0) -> float:
    """Mean reward of the likeliest actions after learning from so many samples of policies `lag` versions old."""
    torch.set_num_threads(1)
    rows = make_rows(SPEC, 50_000)
    algorithm = (PPO if isinstance(settings, PPOSettings) else SAC)(SPEC, settings, rows, "cpu", seed)
    writer, toy, generator = Writer(rows), HybridToy(seed), torch.Generator().manual_seed(seed)
    agents, never, nothing = np.arange(AGENTS), np.zeros(AGENTS, np.bool_), np.zeros((AGENTS, 0), np.float32)
    actor, published = Policy(SPEC, settings.network, settings.name), []
    while rows.sampleable < samples:
        if len(published) <= algorithm.updates:
            published += [algorithm.policy.flat.clone()] * (algorithm.updates + 1 - len(published))
            actor.flat.copy_(published[max(0, algorithm.updates - lag)])
        observations, mask = toy.observe()
        action = actor.act((observations,), mask, nothing, generator)[:3]
        reward = toy.reward(*action[:2])
        version = max(1, algorithm.updates + 1 - lag)
        writer.append(
            agents, (observations,), mask, *action, version, reward, ~never, never, (observations[:0],), mask[:0]
        )
        due = (rows.sampleable - algorithm.start_samples) * algorithm.updates_per_sample
        while algorithm.updates + 1 <= due + 1e-6:
            algorithm.update()
    assert algorithm.dropped == 0
    rewards = []
    for _ in range(40):
        observations, mask = toy.observe()
        rewards.append(toy.reward(*algorithm.policy.act((observations,), mask, nothing, None, deterministic=True)[:2]))
    return float(np.mean(rewards))


def evaluate(policy: Policy, make: MakeEnv, episodes: int) -> float:
    """Mean reward of the likeliest actions, on seeds that training does not use."""
    totals = []
    for episode in range(episodes):
        env = make()
        observation, _ = env.reset(seed=10_000_000 + episode)
        total, ended = 0.0, False
        while not ended:
            observations: Sequence[Array] = (np.asarray(observation, np.float32)[None],)
            no_mask, nothing = np.zeros((1, 0), np.bool_), np.zeros((1, 0), np.float32)
            continuous, discrete, *_ = policy.act(observations, no_mask, nothing, None, deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(env_action(env, continuous[0], discrete[0]))
            total, ended = total + float(reward), terminated or truncated
        totals.append(total)
    return float(np.mean(totals))
