"""Plays episodes with trained policies.

Shapes: N agents; C continuous actions, D discrete branches.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from envs.api import Manager, Setup
from envs.spec import Array, BehaviorSpec, Decisions
from trainer.checkpoint import Checkpoint
from trainer.config.schema import TrainConfig
from trainer.evaluate.results import PlayedEpisode
from trainer.saved_policy import trained_policy

if TYPE_CHECKING:
    from algorithms.policy import Policy

Act = Callable[[Decisions, Array], tuple[Array, Array]]
"""Chooses actions: from decisions of a behavior, and which of them begin an episode (N,) bool, to continuous (N, C) and
discrete (N, D) actions."""


def evaluate(
    config: TrainConfig, checkpoint: Checkpoint, episodes: int, *, seed: int, deterministic: bool = True
) -> list[PlayedEpisode]:
    """Plays `episodes` episodes of each behavior with the policies of `checkpoint` on the run's environment.

    Environments that are reproducible go in lock-step: one seed then always draws the same.
    Raises UserError if the environment does not fit the checkpoint, or fails.
    """
    env = config.env.for_evaluation(min(episodes, config.env.instances))

    def make_act(spec: BehaviorSpec) -> Act:
        return PolicyAgent(trained_policy(config, checkpoint, spec), seed, deterministic).play

    with env.make_manager(Setup(seed, checkpoint.path.parents[1] / "players" / "evaluation")) as manager:
        manager.lockstep = env.reproducible
        manager.start()
        return play(manager, make_act, episodes)


def play(manager: Manager, make_act: Callable[[BehaviorSpec], Act], episodes: int) -> list[PlayedEpisode]:
    """Plays `episodes` episodes of each behavior on a started manager's instances; returns them as they end.

    Each instance plays its share: of each behavior the first that begin in it, even if others end before them.
    """
    share, more = divmod(episodes, manager.instances)
    running: dict[tuple[str, int], _Running] = {}
    acts: dict[str, Act] = {}
    to_begin: dict[str, Array] = {}
    """By behavior: episodes that each instance has yet to begin."""
    played: list[PlayedEpisode] = []
    while len(played) < episodes * max(1, len(to_begin)):
        while manager.events:
            print(manager.events.popleft().text, file=sys.stderr)
        for behavior, ready in manager.recv(_EVENT_SECONDS).items():
            left = to_begin.setdefault(behavior, np.array([share + (i < more) for i in range(manager.instances)]))
            for agent in ready.lost.tolist():
                lost = running.pop((behavior, agent), None)
                if lost is not None and lost.counts:
                    left[lost.instance] += 1
            results, decisions = ready.results, ready.decisions
            ended = results.terminated | results.truncated
            for i, (agent, instance) in enumerate(zip(results.agent.tolist(), results.instance.tolist())):
                episode = running[behavior, agent]
                episode.reward += float(results.reward[i])
                episode.length += 1
                if ended[i]:
                    del running[behavior, agent]
                    if episode.counts:
                        metrics = ready.metrics.get(instance, {})
                        played.append(PlayedEpisode(behavior, episode.reward, episode.length, metrics))
            begun = np.array([(behavior, agent) not in running for agent in decisions.agent.tolist()], np.bool_)
            for agent, instance in zip(decisions.agent[begun].tolist(), decisions.instance[begun].tolist()):
                running[behavior, agent] = _Running(instance, counts=left[instance] > 0)
                left[instance] -= left[instance] > 0
            if len(decisions.agent):
                if behavior not in acts:
                    acts[behavior] = make_act(manager.specs[behavior])
                manager.send(behavior, decisions.agent, *acts[behavior](decisions, begun))
    return played


class PolicyAgent:
    """A trained policy that acts, with its recurrent state for each agent."""

    def __init__(self, policy: Policy, seed: int, deterministic: bool) -> None:
        import torch  # takes seconds

        self._policy, self._deterministic = policy, deterministic
        self._generator = torch.Generator().manual_seed(seed)
        self._states: dict[int, Array] = {}

    def play(self, decisions: Decisions, begun: Array) -> tuple[Array, Array]:
        """Acts for decisions (N,), some of which have `begun` an episode (N,): an `Act`."""
        return self.act(decisions.agent, decisions.observations, decisions.mask, begun)

    def act(self, agents: Array, observations: Sequence[Array], mask: Array, begun: Array) -> tuple[Array, Array]:
        """Returns continuous (N, C) and discrete (N, D) actions of agents (N,); `begun` (N,) marks a new episode."""
        nothing = np.zeros(self._policy.state_size, np.float32)
        known = zip(agents.tolist(), begun.tolist())
        state = np.stack([nothing if new else self._states[agent] for agent, new in known])
        acted = self._policy.act(observations, mask, state, self._generator, self._deterministic)
        self._states.update(zip(agents.tolist(), acted.recurrent_state))
        return acted.continuous, acted.discrete


@dataclass
class _Running:
    """An episode that has begun."""

    instance: int
    counts: bool
    reward: float = 0.0
    length: int = 0


_EVENT_SECONDS = 1.0
