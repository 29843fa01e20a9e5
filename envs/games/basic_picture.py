"""A picture of Basic: the line, both goals and the agent. Painted four times as large and scaled down."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFilter

from envs.games.basic import LARGE_GOAL, LIMIT, POSITIONS, SMALL_GOAL, START
from envs.games.picture import RGB, finish, font, vertical_gradient
from envs.spec import Array

FINE = 4
CELL = 28 * FINE
SIZE = (640 * FINE, 176 * FINE)
LINE = 98 * FINE
AGENT: RGB = (48, 176, 255)
SMALL: RGB = (255, 188, 46)
LARGE: RGB = (88, 214, 110)


def paint(position: int, steps: int) -> Array:
    """The agent at `position` after `steps` steps: (176, 640, 3) uint8."""
    picture = vertical_gradient(SIZE, (38, 30, 92), (12, 14, 44))
    draw = ImageDraw.Draw(picture)
    draw.text((24 * FINE, 20 * FINE), f"step {steps} of {LIMIT}", (220, 224, 255), font(15 * FINE), anchor="lt")
    if position in (SMALL_GOAL, LARGE_GOAL):
        text, color = ("large goal reached", LARGE) if position == LARGE_GOAL else ("small goal reached", SMALL)
        draw.text((SIZE[0] - 24 * FINE, 20 * FINE), text, color, font(15 * FINE), anchor="rt")
    for cell in range(POSITIONS):
        goal = {SMALL_GOAL: SMALL, LARGE_GOAL: LARGE}.get(cell)
        box = _box(cell, 12 * FINE)
        edge = goal or ((150, 160, 205) if cell == START else (70, 74, 140))
        draw.rounded_rectangle(box, 6 * FINE, (22, 24, 66), edge, (2 if goal else 1) * FINE)
        shade = goal or (110, 118, 175)
        draw.text((_middle(cell), LINE + 26 * FINE), str(cell), shade, font(11 * FINE), anchor="mm")
        if goal:
            reward = "+1" if cell == LARGE_GOAL else "+0.1"
            draw.text((_middle(cell), LINE - 30 * FINE), reward, goal, font(15 * FINE), anchor="mm")
    _paint_agent(picture, position)
    return finish(picture, FINE)


def _paint_agent(picture: Image.Image, position: int) -> None:
    glow = Image.new("L", SIZE)
    ImageDraw.Draw(glow).ellipse(_box(position, 16 * FINE), fill=150)
    picture.paste(AGENT, (0, 0), glow.filter(ImageFilter.BoxBlur(7 * FINE)))
    draw = ImageDraw.Draw(picture)
    draw.ellipse(_box(position, 9 * FINE), AGENT, (225, 240, 255), 2 * FINE)


def _middle(cell: int) -> int:
    return SIZE[0] // 2 + round((cell - (POSITIONS - 1) / 2) * CELL)


def _box(cell: int, half: int) -> tuple[int, int, int, int]:
    return _middle(cell) - half, LINE - half, _middle(cell) + half, LINE + half
