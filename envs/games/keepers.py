"""Keepers: a striker against a goalie, who see and do different things. A PettingZoo `ParallelEnv`."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv

from envs.spec import Array, BehaviorSpec, UserError

STRIKER, GOALIE = AGENTS = ("striker", "goalie")
LENGTH, WIDTH = 2.0, 1.2
"""Of the pitch: the goal is at the end of its length."""
GOAL = 0.8
"""Width of the goal."""
REACH = 0.12
"""Of the goalie: so far from its middle it holds a ball."""
LIMIT = 40
"""Decisions after which the goalie has won."""
SHOTS = (-0.32, 0.0, 0.32)
"""Where shots aim at, from the goal's middle."""
_STEP, _GOALIE_STEP, _SHOT_STEP = 0.06, 0.055, 0.2
"""A shot takes 10 steps from the far end, and 2 from as near as the striker comes."""


class Keepers(ParallelEnv):  # type: ignore[misc] # it has no types
    """A `striker` with a ball, and a `goalie` on the line.

    The striker's action: Discrete(7): 0 stands, 1 to 3 run with the ball up, down, ahead, 4 to 6 shoot at the goal's
    upper, middle or lower part. It shoots once. Its observation: float32 (5,), its place (2), the goalie's place and
    last step, and the share of the time that is left. The goalie's action: Discrete(3): stay, up, down. Its
    observation: float32 (7,), its place, the ball's place (2) and last step (2), whether it has been shot, and the
    share of the time that is left. The last reward is 1 for the striker and -1 for the goalie if the ball is in; the
    other way round if it is held, or not shot within 40 decisions. All others are 0.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 12, "name": "keepers_v0"}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        box = gymnasium.spaces.Box
        self._observation_spaces = {STRIKER: box(-2, 2, (5,), np.float32), GOALIE: box(-2, 2, (7,), np.float32)}
        self._action_spaces = {STRIKER: gymnasium.spaces.Discrete(7), GOALIE: gymnasium.spaces.Discrete(3)}
        self._rng = random.Random(0)

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Returns that of the striker or of the goalie."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Returns that of the striker or of the goalie."""
        return self._action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, dict[str, Any]]]:
        """Puts the striker at the far end, and the goalie before the goal."""
        if seed is not None:
            self._rng = random.Random(seed)
        self.agents = list(AGENTS)
        self.steps = 0
        self.ball = (0.0, self._rng.uniform(-0.4, 0.4))
        self.moved = (0.0, 0.0)
        self.goalie, self.goalie_moved = self._rng.uniform(-0.2, 0.2), 0.0
        self.shot: float | None = None
        self.scored: bool | None = None
        return self._observe(), {agent: {} for agent in AGENTS}

    def step(
        self, actions: dict[str, int]
    ) -> tuple[dict[str, Array], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Moves the goalie, and the striker with the ball or the ball that has been shot."""
        _check(STRIKER, actions[STRIKER], 7)
        _check(GOALIE, actions[GOALIE], 3)
        self.steps += 1
        before, stood = self.ball, self.goalie
        most = GOAL / 2 - REACH / 2
        self.goalie = min(max(stood + (0.0, _GOALIE_STEP, -_GOALIE_STEP)[actions[GOALIE]], -most), most)
        self.goalie_moved = self.goalie - stood
        if self.shot is None:
            self._run(int(actions[STRIKER]))
        if self.shot is not None:
            self._fly(self.shot)
        self.moved = (self.ball[0] - before[0], self.ball[1] - before[1])
        if self.scored is None and self.steps >= LIMIT:
            self.scored = False
        over = self.scored is not None
        score = 0.0 if self.scored is None else 1.0 if self.scored else -1.0
        rewards = {STRIKER: score, GOALIE: 0.0 - score}
        infos: dict[str, dict[str, Any]] = {agent: {} for agent in AGENTS}
        if over:
            self.agents = []
            infos = {agent: {"success": rewards[agent] > 0} for agent in AGENTS}
        return self._observe(), rewards, dict.fromkeys(AGENTS, over), dict.fromkeys(AGENTS, False), infos

    def render(self) -> Array | None:
        """Returns (H, W, 3) uint8 with `render_mode="rgb_array"`, else None."""
        if self.render_mode != "rgb_array":
            return None
        return _painted(self)

    def _run(self, action: int) -> None:
        x, y = self.ball
        if action >= 4:
            self.shot = SHOTS[6 - action]
            return
        along, across = ((0.0, 0.0), (0.0, _STEP), (0.0, -_STEP), (_STEP, 0.0))[action]
        self.ball = (min(x + along, LENGTH - 0.4), min(max(y + across, -WIDTH / 2), WIDTH / 2))

    def _fly(self, aim: float) -> None:
        x, y = self.ball
        left = LENGTH - x
        if left > 1.001 * _SHOT_STEP:
            self.ball = (x + _SHOT_STEP, y + (aim - y) * _SHOT_STEP / left)
        else:
            self.ball = (LENGTH, aim)
            self.scored = abs(aim - self.goalie) > REACH

    def _observe(self) -> dict[str, Array]:
        left, (x, y) = 1 - self.steps / LIMIT, self.ball
        striker = (x, y, self.goalie, self.goalie_moved, left)
        goalie = (self.goalie, x, y, *self.moved, float(self.shot is not None), left)
        return {STRIKER: np.array(striker, np.float32), GOALIE: np.array(goalie, np.float32)}


def make_striker(rng: random.Random) -> Callable[[Array], int]:
    """Returns a bot that runs ahead for a while and shoots at the part of the goal that is farthest from the goalie."""
    run = [0]

    def act(observation: Array) -> int:
        x, _, goalie, _, left = map(float, observation)
        if left == 1:
            run[0] = rng.randrange(12, 30)
        if x < 0.05 * run[0]:
            return 3
        return 6 - max(range(3), key=lambda part: abs(SHOTS[part] - goalie))

    return act


def make_goalie(rng: random.Random) -> Callable[[Array], int]:
    """Returns a bot that goes to where the ball would cross the line, and now and then elsewhere."""

    def act(observation: Array) -> int:
        own, x, y, along, across, shot, _ = map(float, observation)
        if rng.random() < 0.1:
            return rng.randrange(3)
        target = y + across * (LENGTH - x) / along if shot and along > 0 else 0.5 * y
        return 0 if abs(target - own) < _GOALIE_STEP / 2 else 1 if target > own else 2

    return act


def bot(spec: BehaviorSpec, rng: random.Random) -> Callable[[tuple[Array, ...], Array], tuple[list[float], list[int]]]:
    """Returns the bot of one's side, as `outstep evaluate run=… against=envs.games.keepers:bot` takes it."""
    act = (make_striker if spec.observations[0].shape == (5,) else make_goalie)(rng)
    return lambda observations, mask: ([], [act(observations[0])])


def _check(agent: str, action: int, count: int) -> None:
    if not 0 <= action < count:
        raise UserError(f"Keepers: the {agent}'s action {action!r} is not one of 0 to {count - 1}")


def _painted(game: Keepers) -> Array:
    """Returns the pitch with ball, striker and goalie: (340, 560, 3) uint8."""
    from envs.games.arenas import BLUE, GOLD, GREEN, RED, Canvas  # it needs Pillow

    canvas, shift = Canvas(560, 340, 220, (20, 66, 62), (10, 32, 44)), LENGTH / 2
    for stripe in range(8):
        left = stripe * LENGTH / 8 - shift
        color = (28, 92, 74) if stripe % 2 else (24, 82, 68)
        canvas.box(left, -WIDTH / 2, left + LENGTH / 8, WIDTH / 2, color, color)
    canvas.box(-shift, -WIDTH / 2, shift, WIDTH / 2, None, (150, 210, 190))
    canvas.box(shift, -GOAL / 2, shift + 0.14, GOAL / 2, (18, 40, 60), (230, 236, 250))
    (x, y), goalie = game.ball, game.goalie
    if game.shot is None:
        canvas.glow(x - 0.07 - shift, y, 0.1, BLUE)
        canvas.disc(x - 0.07 - shift, y, 0.06, BLUE, (240, 244, 255))
    canvas.glow(shift - 0.03, goalie, 0.12, RED)
    canvas.line(shift - 0.03, goalie - REACH, shift - 0.03, goalie + REACH, RED, 10)
    canvas.disc(shift - 0.03, goalie, 0.05, RED, (240, 244, 255))
    canvas.disc(x - shift, y, 0.03, (255, 255, 255), GOLD)
    result = {None: "", True: "goal", False: "held"}[game.scored]
    canvas.head(f"step {game.steps} of {LIMIT}", result, GREEN if game.scored else GOLD)
    return canvas.pixels()
