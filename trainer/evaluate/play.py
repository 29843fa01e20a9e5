"""Plays episodes with a manager's agents: with trained policies, or whatever else acts.

Shapes: N agents; C continuous actions, D discrete branches.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from envs.api import Manager, Setup
from envs.spec import Array, BehaviorSpec, Decisions, Ready
from trainer.checkpoint import Checkpoint
from trainer.config.schema import TrainConfig
from trainer.evaluate.results import PlayedEpisode
from trainer.saved_policy import trained_policy
from trainer.telemetry.metrics import finite

if TYPE_CHECKING:
    from algorithms.policy import Policy

Act = Callable[[Decisions, Array], tuple[Array, Array]]
"""Chooses actions: from decisions of a behavior, and which of them begin an episode (N,) bool, to continuous (N, C) and
discrete (N, D) actions."""


@dataclass
class Trace:
    """An episode of one agent: what is kept of it while it is played, and how it ended."""

    behavior: str
    instance: int
    counts: bool = True
    """Whether it is one of those that were asked for."""
    rewards: list[float] = field(default_factory=list)
    steps: list[tuple[tuple[Array, ...], Array, Array, Array]] = field(default_factory=list)
    """Of each step, if steps are recorded: observations, mask, and continuous (C,) and discrete (D,) actions."""
    terminated: bool = False
    final_observations: tuple[Array, ...] = ()
    """For each observation (1, *shape), the last of an episode that was cut off; (0, *shape) if it terminated."""
    final_mask: Array = field(default_factory=lambda: np.zeros((0, 0), bool))
    metrics: dict[str, float] = field(default_factory=dict)
    """The numbers that its environment reported at its end."""


def evaluate(
    config: TrainConfig,
    checkpoint: Checkpoint,
    episodes: int,
    *,
    seed: int,
    deterministic: bool = True,
    on_episode: Callable[[PlayedEpisode], None] = lambda _: None,
) -> list[PlayedEpisode]:
    """Plays `episodes` episodes of each behavior with the policies of `checkpoint` on the run's environment.

    Environments that are reproducible go in lock-step: one seed then always draws the same. `on_episode` is called as
    soon as one has ended.
    Raises UserError if the environment does not fit the checkpoint, or fails.
    """
    env = config.env.for_evaluation(min(episodes, config.env.instances))

    def make_act(spec: BehaviorSpec) -> Act:
        return PolicyAgent(trained_policy(config, checkpoint, spec), seed, deterministic).act

    with env.make_manager(Setup(seed, checkpoint.path.parents[1] / "players" / "evaluation")) as manager:
        manager.lockstep = env.reproducible
        manager.start()
        played = []
        for each in play(manager, make_act, episodes):
            played.append(PlayedEpisode(each.behavior, sum(each.rewards), len(each.rewards), each.metrics))
            on_episode(played[-1])
        return played


def play(
    manager: Manager,
    make_act: Callable[[BehaviorSpec], Act],
    episodes: int,
    *,
    record: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Trace]:
    """Plays `episodes` episodes of each behavior on a started manager's instances; yields them as they end.

    Each instance plays its share: of each behavior the first that begin in it, even if others end before them, so that
    short ones are not over-represented. Fewer are played if `stopped` becomes true. `record`: their steps are kept.
    """
    share, more = divmod(episodes, manager.instances)
    running: dict[tuple[str, int], Trace] = {}
    """By behavior and agent."""
    acts: dict[str, Act] = {}
    to_begin: dict[str, Array] = {}
    """By behavior: episodes that each instance has yet to begin."""
    done = 0
    while done < episodes * max(1, len(to_begin)) and not stopped():
        while manager.events:
            print(manager.events.popleft().text, file=sys.stderr)
        for behavior, ready in manager.recv(_EVENT_SECONDS).items():
            left = to_begin.setdefault(behavior, np.array([share + (i < more) for i in range(manager.instances)]))
            for agent in ready.lost.tolist():
                lost = running.pop((behavior, agent), None)
                if lost is not None and lost.counts:
                    left[lost.instance] += 1
            for trace in _ended(behavior, ready, running):
                done += 1
                yield trace
            decisions = ready.decisions
            if not len(decisions.agent):
                continue
            if behavior not in acts:
                acts[behavior] = make_act(manager.specs[behavior])
            begun = np.array([(behavior, agent) not in running for agent in decisions.agent.tolist()], np.bool_)
            for agent, instance in zip(decisions.agent[begun].tolist(), decisions.instance[begun].tolist()):
                running[behavior, agent] = Trace(behavior, instance, counts=bool(left[instance] > 0))
                left[instance] -= left[instance] > 0
            continuous, discrete = acts[behavior](decisions, begun)
            for i, agent in enumerate(decisions.agent.tolist() if record else ()):
                if (trace := running[behavior, agent]).counts:
                    rows = tuple(each[i] for each in decisions.observations)
                    trace.steps.append((rows, decisions.mask[i], np.clip(continuous[i], -1, 1), discrete[i]))
            manager.send(behavior, decisions.agent, continuous, discrete)


def _ended(behavior: str, ready: Ready, running: dict[tuple[str, int], Trace]) -> Iterator[Trace]:
    """Adds the rewards of steps; yields the episodes that have ended, if they count."""
    results, finals = ready.results, 0
    for i, agent in enumerate(results.agent.tolist()):
        trace, terminated, truncated = running[behavior, agent], results.terminated[i], results.truncated[i]
        trace.rewards.append(float(results.reward[i]))
        final = slice(finals, finals + truncated)
        finals = final.stop
        if terminated or truncated:
            del running[behavior, agent]
            if trace.counts:
                trace.terminated = bool(terminated)
                trace.final_observations = tuple(each[final] for each in results.final_observations)
                trace.final_mask = results.final_mask[final]
                trace.metrics = finite(ready.metrics.get(agent, {}))
                yield trace


class PolicyAgent:
    """A trained policy that acts, with its recurrent state for each agent."""

    def __init__(self, policy: Policy, seed: int, deterministic: bool) -> None:
        import torch  # takes seconds

        # Threads of torch wait for the next pass by spinning, on the cores that games need: a step of four agents of a
        # Unity player took 20 ms on two cores with two threads, and takes 2.5 with one.
        torch.set_num_threads(1)
        self._policy, self._deterministic = policy, deterministic
        self._generator = torch.Generator().manual_seed(seed)
        self._states: dict[int, Array] = {}

    def act(self, decisions: Decisions, begun: Array) -> tuple[Array, Array]:
        """Acts for decisions (N,), some of which have `begun` an episode (N,): an `Act`."""
        nothing, agents = np.zeros(self._policy.state_size, np.float32), decisions.agent.tolist()
        state = np.stack([nothing if new else self._states[agent] for agent, new in zip(agents, begun.tolist())])
        seen, mask = decisions.observations, decisions.mask
        acted = self._policy.act(seen, mask, state, self._generator, self._deterministic)
        self._states.update(zip(agents, acted.recurrent_state))
        return acted.continuous, acted.discrete


_EVENT_SECONDS = 1.0
