"""Basic-v0: ML-Agents' example environment Basic, step for step."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from envs.games.keys import DOWN, LEFT, RIGHT
from envs.spec import Array, UserError

POSITIONS = 20
START = 10
SMALL_GOAL, LARGE_GOAL = 7, 17
LIMIT = 100
"""Steps after which an episode is truncated."""


class Basic(gymnasium.Env[Any, Any]):
    """An agent on a line of 20 positions, between a small goal near by and a large one farther off.

    Action: Discrete(3): stay, left, right. Observation: float32 (20,), the position one-hot. Every step, the last one
    included, costs 0.01; position 7 pays 0.1 and position 17 pays 1, and both end the episode. Best possible: seven
    steps right, 1 - 7 * 0.01 = 0.93.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0, 1, (POSITIONS,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(3)
        self.position, self.steps = START, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Starts at position 10 again. Nothing is random."""
        super().reset(seed=seed)
        self.position, self.steps = START, 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Moves by one position at most."""
        if action not in (0, 1, 2):
            raise UserError(f"Basic: action {action!r} is not 0 (stay), 1 (left) or 2 (right)")
        self.steps += 1
        # The goals end an episode before it can leave the line.
        self.position += (0, -1, 1)[action]
        reward = -0.01 + {SMALL_GOAL: 0.1, LARGE_GOAL: 1.0}.get(self.position, 0.0)
        terminated = self.position in (SMALL_GOAL, LARGE_GOAL)
        return self._observe(), reward, terminated, not terminated and self.steps >= LIMIT, {}

    def render(self) -> Array | None:
        """Returns (H, W, 3) uint8 with `render_mode="rgb_array"`, else None."""
        if self.render_mode != "rgb_array":
            return None
        return _painted(self.position, self.steps)

    def make_bot(self, rng: random.Random) -> Callable[[Array], int]:
        """Returns the best bot there is: seven steps right."""
        return lambda observation: 2

    def get_keys_to_action(self) -> dict[tuple[int, ...], int]:
        """Returns the arrows; down stays."""
        return {(DOWN,): 0, (LEFT,): 1, (RIGHT,): 2}

    def _observe(self) -> Array:
        return np.asarray(np.arange(POSITIONS) == self.position, np.float32)


# The picture is painted four times as large and scaled down.
_FINE = 4
_CELL = 28 * _FINE
_SIZE = (640 * _FINE, 176 * _FINE)
_LINE = 98 * _FINE
_AGENT = (48, 176, 255)
_SMALL = (255, 188, 46)
_LARGE = (88, 214, 110)


def _painted(position: int, steps: int) -> Array:
    """Returns the line, both goals and the agent at `position` after `steps` steps: (176, 640, 3) uint8."""
    # Pillow is needed for pictures alone.
    from PIL import Image, ImageDraw, ImageFilter

    from envs.games.picture import finish, font, vertical_gradient

    picture = vertical_gradient(_SIZE, (38, 30, 92), (12, 14, 44))
    draw = ImageDraw.Draw(picture)
    draw.text((24 * _FINE, 20 * _FINE), f"step {steps} of {LIMIT}", (220, 224, 255), font(15 * _FINE), anchor="lt")
    if position in (SMALL_GOAL, LARGE_GOAL):
        text, color = ("large goal reached", _LARGE) if position == LARGE_GOAL else ("small goal reached", _SMALL)
        draw.text((_SIZE[0] - 24 * _FINE, 20 * _FINE), text, color, font(15 * _FINE), anchor="rt")
    for cell in range(POSITIONS):
        goal = {SMALL_GOAL: _SMALL, LARGE_GOAL: _LARGE}.get(cell)
        box = _box(cell, 12 * _FINE)
        edge = goal or ((150, 160, 205) if cell == START else (70, 74, 140))
        draw.rounded_rectangle(box, 6 * _FINE, (22, 24, 66), edge, (2 if goal else 1) * _FINE)
        shade = goal or (110, 118, 175)
        draw.text((_middle(cell), _LINE + 26 * _FINE), str(cell), shade, font(11 * _FINE), anchor="mm")
        if goal:
            reward = "+1" if cell == LARGE_GOAL else "+0.1"
            draw.text((_middle(cell), _LINE - 30 * _FINE), reward, goal, font(15 * _FINE), anchor="mm")
    glow = Image.new("L", _SIZE)
    ImageDraw.Draw(glow).ellipse(_box(position, 16 * _FINE), fill=150)
    picture.paste(_AGENT, (0, 0), glow.filter(ImageFilter.BoxBlur(7 * _FINE)))
    ImageDraw.Draw(picture).ellipse(_box(position, 9 * _FINE), _AGENT, (225, 240, 255), 2 * _FINE)
    return finish(picture, _FINE)


def _middle(cell: int) -> int:
    return _SIZE[0] // 2 + round((cell - (POSITIONS - 1) / 2) * _CELL)


def _box(cell: int, half: int) -> tuple[int, int, int, int]:
    return _middle(cell) - half, _LINE - half, _middle(cell) + half, _LINE + half
