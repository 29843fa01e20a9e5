"""BubbleShooter-v0: a stand-in for Snoopy Pop's level 25, which ML-Agents' own figures were measured on."""

from __future__ import annotations

import difflib
import math
import random
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import gymnasium
import numpy as np

from envs.games.bubbles.bot import HUMAN, Bot
from envs.games.bubbles.rules import Game, Level
from envs.games.keys import DOWN, LEFT, RIGHT, SPACE, UP
from envs.spec import Array, UserError

Observation = dict[str, Array]
RAY_NUMBERS = 5
FAR = 20.0
"""Bubbles: the length that is 1 in `rays`."""


class BubbleShooter(gymnasium.Env[Any, Any]):
    """Clears a staggered grid of bubbles with as few shots as possible.

    Action: MultiDiscrete([angles, 2]): direction from the left, and the current (0) or the next (1) bubble in hand.

    Observation, all seen from the bubbles in hand (absolute colour planes did not learn within 360,000 samples):
    `board` uint8 (3, rows, columns), 0 or 1: bubbles of the current bubble's colour, of the next one's, all others;
    `rays` float32 (angles * 5,), for each direction what a shot would touch first, as Unity's ray sensors report it: 1
    for a bubble of the current one's colour, the next one's, another, or the ceiling; then the distance / 20 bubbles;
    `state` float32 (3,): 1 if both bubbles in hand have one colour, shots used / limit, share of the cells filled.

    An episode *terminates*, solved or with the last bubble spent. Each step's `info` has `duration`, the seconds that
    the step takes at time scale 1 (this env itself never waits); the last one's has `bubbles` (shots used; a failed
    game counts the limit) and `solved` (0 or 1).

    Keyword arguments are the fields of `bubble_rules.Level`; a wrong one raises UserError.
    """

    metadata = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": 4,
        "controls": "mouse or left, right: aim; left button or space: shoot; right button or down: shoot the next",
    }

    def __init__(self, render_mode: str | None = None, **level: Any) -> None:
        self.level = _level(level)
        self.render_mode = render_mode
        self.game = Game(self.level, random.Random(0))
        self.action_space = gymnasium.spaces.MultiDiscrete([self.level.angles, 2])
        self._shape = (3, self.level.rows, self.level.columns)
        self._plane_bits = self.level.rows * self.level.columns
        board = gymnasium.spaces.Box(0, 1, self._shape, np.uint8)
        state = gymnasium.spaces.Box(0, 1, (3,), np.float32)
        farthest = max(ray.ceiling.distance for ray in self.game.grid.rays) / FAR
        rays = gymnasium.spaces.Box(0, max(1.0, farthest), (self.level.angles * RAY_NUMBERS,), np.float32)
        self.observation_space = gymnasium.spaces.Dict({"board": board, "rays": rays, "state": state})
        self.aim: int | None = None
        """Where a person aims, which pictures show; None if nobody does."""
        self._painter: Any = None
        self._seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Returns a new board; the same seed gives the same game, durations included."""
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            # Python's own generator: a draw costs 0.04 us, numpy's 0.5 us.
            self.game.rng.seed(int(self.np_random.integers(2**62)))
            self._seeded = True
        self.game.reset()
        self.aim = None
        return self._observe(), {}

    def step(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Shoots once."""
        game, level = self.game, self.level
        angle, which = map(int, action)
        if not (0 <= angle < level.angles and 0 <= which < 2):
            raise UserError(f"BubbleShooter: action {[angle, which]} is outside [0..{level.angles - 1}, 0..1]")
        shot = game.shoot(angle, which)
        over = game.over
        info = {"duration": game.duration(shot)}
        if over:
            info["bubbles"] = float(game.used if game.solved else level.limit)
            info["solved"] = float(game.solved)
        return self._observe(), game.reward(shot), over, False, info

    def render(self) -> Array | None:
        """Returns (H, W, 3) uint8 with `render_mode="rgb_array"`, else None."""
        if self.render_mode != "rgb_array":
            return None
        picture: Array = self._the_painter().paint(self.game, self.aim)
        return picture

    def make_bot(self, rng: random.Random) -> Callable[[Observation], tuple[int, int]]:
        """Returns the human-like bot, on this env's game."""
        bot = Bot(HUMAN, rng)
        return lambda observation: bot.act(self.game)

    def key_to_action(self, key: int) -> tuple[int, int] | None:
        """Returns what a pressed key does: the arrows aim, space or up shoots the current bubble, down the next one."""
        middle = (self.level.angles - 1) // 2
        self.aim = middle if self.aim is None else self.aim
        if key in (LEFT, RIGHT):
            self.aim = min(max(self.aim + (1 if key == RIGHT else -1), 0), self.level.angles - 1)
        if key in (SPACE, UP, DOWN):
            return self.aim, int(key == DOWN)
        return None

    def pointer_to_action(self, x: float, y: float, button: int | None) -> tuple[int, int] | None:
        """Aims from the cannon at a point of the picture, given in shares of its width and height.

        Button 0 (left) shoots the current bubble, 1 (right) the next one; None only aims.
        """
        at = self._the_painter().point(x, y)
        grid = self.game.grid
        direction = math.atan2(at[0] - grid.cannon[0], grid.cannon[1] - at[1])
        self.aim = min(range(self.level.angles), key=lambda angle: abs(grid.angles[angle] - direction))
        return None if button is None else (self.aim, button)

    def _the_painter(self) -> Any:
        if self._painter is None:
            # Pillow is needed for pictures alone.
            from envs.games.bubbles.render import Painter

            self._painter = Painter(self.game.grid)
        return self._painter

    def _observe(self) -> Observation:
        game, bits = self.game, self._plane_bits
        current, following = game.hand
        ours, theirs = game.board[current], game.board[following]
        planes = ours | theirs << bits | (game.occupied & ~(ours | theirs)) << 2 * bits
        packed = np.frombuffer(planes.to_bytes((3 * bits + 7) // 8, "little"), np.uint8)
        board = np.unpackbits(packed, count=3 * bits, bitorder="little").reshape(self._shape)
        filled = game.occupied.bit_count() / len(game.grid.cells)
        state = np.array((current == following, game.used / self.level.limit, filled), np.float32)
        return {"board": board, "rays": self._look(ours, theirs), "state": state}

    def _look(self, ours: int, theirs: int) -> Array:
        """Returns what each direction's ray touches first."""
        occupied = self.game.occupied
        others = occupied & ~(ours | theirs)
        numbers: list[float] = []
        for ray in self.game.grid.rays:
            for hit in ray.hits:
                if occupied & hit[0]:
                    break
            else:
                hit = ray.ceiling
            bit = hit[0]
            kinds = (bit & ours > 0, bit & theirs > 0, bit & others > 0, bit == 0)
            numbers += (*kinds, hit[2] / FAR)
        return np.array(numbers, np.float32)


def _level(arguments: dict[str, Any]) -> Level:
    names = [field.name for field in fields(Level)]
    for name in arguments:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"
            raise UserError(f"BubbleShooter has no argument {name!r}; {hint}")
    return Level(**arguments)
