"""Plays episodes and records them whole: one Gymnasium environment in this process, or Unity players through a manager.

Shapes: N agents; C continuous actions, B discrete branches, A mask entries.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from envs.api import Manager
from envs.gym.adapter import Env, GymAdapter
from envs.gym.spaces import ActionCodec, scalar_metrics
from envs.seeding import episode_seed
from envs.spec import Array, BehaviorSpec, Demonstration, StepResults, UserError
from trainer.evaluate.play import Act


class Recorded(NamedTuple):
    """One whole episode."""

    spec: BehaviorSpec
    demonstration: Demonstration
    metrics: dict[str, float]
    """Numbers of the last step's `info`."""


class Moment(NamedTuple):
    """What a demonstrator in a Gymnasium environment sees before an action."""

    observation: Any
    """The environment's own."""
    rows: tuple[Array, ...]
    """The same as arrays of the spec, each (*shape)."""
    mask: Array
    """(A,) bool."""
    episode: int
    """From 1 on."""
    reward: float
    """What the episode has earned so far."""


class Demonstrator:
    """Plays a Gymnasium environment: this one by a function from its observation to its action."""

    def __init__(self, bot: Callable[[Any], Any]) -> None:
        self._bot = bot

    def act(self, moment: Moment) -> Any:
        """Returns the environment's action; raises `Quit` or `Restart` where the demonstrator wants that."""
        return self._bot(moment.observation)

    def ended(self, moment: Moment) -> None:
        """Is called at the end of an episode."""

    def close(self) -> None:
        """Is called when there is nothing more to play."""


class Quit(Exception):
    """The demonstrator ends the recording: the running episode is not kept."""


class Restart(Exception):
    """The demonstrator wants this episode again, from its start."""


def record_gym(
    env: Env, spec: BehaviorSpec, player: Demonstrator, episodes: int, seed: int, stopped: Callable[[], bool]
) -> Iterator[Recorded]:
    """Plays `episodes` episodes, or fewer if the demonstrator quits or `stopped` becomes true.

    What is recorded is what was done: the environment gets the recorded action, whose continuous parts are clipped.
    Raises UserError if an action is not one of the environment's.
    """
    adapter, codec = GymAdapter(env, spec), ActionCodec(env.action_space)

    def play() -> Recorded:
        observation, info = env.reset(seed=episode_seed(seed, 0, episode))
        trace, reward, over, terminated = _Trace(0), 0.0, False, False
        while True:
            rows = tuple(np.zeros(each.shape, each.dtype) for each in spec.observations)
            mask = np.ones(spec.mask_size, bool)
            adapter.observe(observation, rows)
            if spec.masked:
                adapter.mask(info, mask)
            moment = Moment(observation, rows, mask, episode, reward)
            if over:
                player.ended(moment)
                kept = not terminated
                finals = tuple(row[None][:kept] for row in rows)
                return Recorded(spec, trace.closed(terminated, finals, mask[None][:kept]), scalar_metrics(info))
            if stopped():
                raise Quit
            action = player.act(moment)
            try:
                actions = codec.encode(action)
            except ValueError as error:
                raise UserError(f"the player's action is not one of the environment's: {error}") from error
            trace.steps.append((rows, mask, *actions))
            observation, earned, terminated, truncated, info = env.step(codec.decode(*actions))
            trace.rewards.append(float(earned))
            reward, over = reward + float(earned), terminated or truncated

    episode = 1
    while episode <= episodes:
        try:
            recorded = play()
        except Restart:
            continue
        except Quit:
            return
        yield recorded
        episode += 1


def record_players(
    manager: Manager, make_act: Callable[[BehaviorSpec], Act], episodes: int, stopped: Callable[[], bool]
) -> Iterator[Recorded]:
    """Plays `episodes` episodes with a started manager's agents, or fewer if `stopped` becomes true.

    Each instance takes its share, the first that begin in it, so that short episodes are not over-represented.
    Raises UserError if agents of several behaviors appear, or the instances fail.
    """
    share, more = divmod(episodes, manager.instances)
    left = [share + (instance < more) for instance in range(manager.instances)]
    traces: dict[int, _Trace | None] = {}
    """By agent; None where an instance has had its share."""
    act: Act | None = None
    done = 0
    while done < episodes and not stopped():
        while manager.events:
            print(manager.events.popleft().text, file=sys.stderr)
        for behavior, ready in manager.recv(_EVENT_SECONDS).items():
            if len(manager.specs) > 1:
                names = " and ".join(map(repr, sorted(manager.specs)))
                raise UserError(f"a .demo file holds one behavior, but {names} appeared: play a scene with one of them")
            spec, decisions = manager.specs[behavior], ready.decisions
            act = act or make_act(spec)
            for agent in ready.lost.tolist():
                trace = traces.pop(agent, None)
                if trace is not None:
                    left[trace.instance] += 1
            for demonstration, instance in _close(ready.results, traces):
                done += 1
                yield Recorded(spec, demonstration, ready.metrics.get(instance, {}))
            if not len(decisions.agent):
                continue
            begun = np.array([agent not in traces for agent in decisions.agent.tolist()], np.bool_)
            continuous, discrete = act(decisions, begun)
            for i, (agent, instance) in enumerate(zip(decisions.agent.tolist(), decisions.instance.tolist())):
                if agent not in traces:
                    traces[agent] = _Trace(instance) if left[instance] else None
                    left[instance] -= left[instance] > 0
                trace = traces[agent]
                if trace is not None:
                    rows = tuple(each[i] for each in decisions.observations)
                    trace.steps.append((rows, decisions.mask[i], np.clip(continuous[i], -1, 1), discrete[i]))
            manager.send(behavior, decisions.agent, continuous, discrete)


_EVENT_SECONDS = 1.0


def _close(results: StepResults, traces: dict[int, _Trace | None]) -> Iterator[tuple[Demonstration, int]]:
    """Adds the rewards of steps; yields the episodes that have ended, with their instances."""
    row = 0
    for i, agent in enumerate(results.agent.tolist()):
        trace, terminated, truncated = traces[agent], bool(results.terminated[i]), bool(results.truncated[i])
        finals = slice(row, row + truncated)
        row += truncated
        if trace is not None:
            trace.rewards.append(float(results.reward[i]))
        if terminated or truncated:
            del traces[agent]
        if trace is not None and (terminated or truncated):
            observations = tuple(each[finals] for each in results.final_observations)
            yield trace.closed(terminated, observations, results.final_mask[finals]), trace.instance


class _Trace:
    """The steps of an agent whose episode has not ended."""

    def __init__(self, instance: int) -> None:
        self.instance = instance
        self.rewards: list[float] = []
        self.steps: list[tuple[tuple[Array, ...], Array, Array, Array]] = []

    def closed(self, terminated: bool, final_observations: tuple[Array, ...], final_mask: Array) -> Demonstration:
        observations, masks, continuous, discrete = zip(*self.steps)
        return Demonstration(
            tuple(np.stack(each) for each in zip(*observations)),
            np.stack(masks),
            np.stack(continuous).astype(np.float32),
            np.stack(discrete).astype(np.int32),
            np.asarray(self.rewards, np.float32),
            terminated,
            final_observations,
            final_mask,
        )
