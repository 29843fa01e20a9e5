"""Plays episodes and records them whole: one Gymnasium environment in this process, or Unity players through a manager.

Shapes: N agents; C continuous actions, B discrete branches, A mask entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from envs.api import Manager
from envs.gym.adapter import Env, GymAdapter, begin
from envs.gym.spaces import ActionCodec, scalar_metrics
from envs.gym.values import ended, number, reset_result, step_result
from envs.parameters import Parameters
from envs.seeding import episode_seed
from envs.spec import Array, BehaviorSpec, Demonstration, UserError
from trainer.evaluate.play import Act, Trace, play
from trainer.telemetry.metrics import finite

_NONE = Parameters({})


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
    env: Env,
    spec: BehaviorSpec,
    player: Demonstrator,
    episodes: int,
    seed: int,
    stopped: Callable[[], bool],
    parameters: Parameters = _NONE,
) -> Iterator[Recorded]:
    """Plays `episodes` episodes, or fewer if the demonstrator quits or `stopped` becomes true.

    What is recorded is what was done: the environment gets the recorded action, whose continuous parts are clipped.
    With environment `parameters` that have lessons, their last ones are played. Raises UserError if an action is not
    one of the environment's.
    """
    adapter, codec = GymAdapter(env, spec), ActionCodec(env.action_space)

    def play_episode() -> Recorded:
        values = parameters.episode(parameters.last, seed, 0, episode).values
        observation, info = reset_result(begin(env, episode_seed(seed, 0, episode), values))
        trace, reward, over = Trace(spec.name, 0), 0.0, False
        while True:
            rows = tuple(np.zeros(each.shape, each.dtype) for each in spec.observations)
            mask = np.ones(spec.mask_size, bool)
            adapter.observe(observation, rows)
            if spec.masked:
                adapter.mask(info, mask)
            moment = Moment(observation, rows, mask, episode, reward)
            if over:
                player.ended(moment)
                kept = not trace.terminated
                trace.final_observations = tuple(row[None][:kept] for row in rows)
                trace.final_mask = mask[None][:kept]
                return Recorded(spec, _demonstration(trace), finite(scalar_metrics(info)))
            if stopped():
                raise Quit
            action = player.act(moment)
            try:
                actions = codec.encode(action)
            except ValueError as error:
                raise UserError(f"the player's action is not one of the environment's: {error}") from error
            trace.steps.append((rows, mask, *actions))
            observation, earned, terminated, truncated, info = step_result(env.step(codec.decode(*actions)))
            trace.rewards.append(number(earned, "the reward"))
            trace.terminated = ended(terminated, "terminated")
            reward, over = reward + trace.rewards[-1], trace.terminated or ended(truncated, "truncated")

    episode = 1
    while episode <= episodes:
        try:
            recorded = play_episode()
        except Restart:
            continue
        except Quit:
            return
        yield recorded
        episode += 1


def record_players(
    manager: Manager, make_act: Callable[[BehaviorSpec], Act], episodes: int, stopped: Callable[[], bool]
) -> Iterator[Recorded]:
    """Plays `episodes` episodes with a started manager's agents, or fewer if `stopped` becomes true; see `play`.

    Raises UserError if agents of several behaviors appear, or the instances fail.
    """

    def make_only_act(spec: BehaviorSpec) -> Act:
        if len(manager.specs) > 1:
            names = " and ".join(map(repr, sorted(manager.specs)))
            raise UserError(f"a .demo file holds one behavior, but {names} appeared: play a scene with one of them")
        return make_act(spec)

    for trace in play(manager, make_only_act, episodes, record=True, stopped=stopped):
        yield Recorded(manager.specs[trace.behavior], _demonstration(trace), trace.metrics)


def _demonstration(trace: Trace) -> Demonstration:
    observations, masks, continuous, discrete = zip(*trace.steps)
    return Demonstration(
        tuple(np.stack(each) for each in zip(*observations)),
        np.stack(masks),
        np.stack(continuous).astype(np.float32),
        np.stack(discrete).astype(np.int32),
        np.asarray(trace.rewards, np.float32),
        trace.terminated,
        trace.final_observations,
        trace.final_mask,
    )
