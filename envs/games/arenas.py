"""Pictures of the games of several agents. Needs Pillow, so it is imported only for rendering."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFilter

from envs.games.picture import RGB, finish, font, vertical_gradient
from envs.spec import Array

if TYPE_CHECKING:
    from envs.games.duel import Duel
    from envs.games.keepers import Keepers

_FINE = 3
"""Pictures are painted so many times as large, and scaled down."""
_TEXT = (220, 224, 255)
RED, BLUE, GOLD, GREEN = (255, 92, 88), (76, 156, 255), (255, 204, 92), (88, 214, 130)


class Canvas:
    """A picture of an arena whose lengths are its own: (0, 0) is its middle, y goes up.

    Args:
        width: pixels; so too `height`.
        scale: pixels of a length of 1.
        top: colour; so too `bottom`.
    """

    def __init__(self, width: int, height: int, scale: float, top: RGB, bottom: RGB) -> None:
        self.picture = vertical_gradient((width * _FINE, height * _FINE), top, bottom)
        self._scale = scale * _FINE
        self._middle = (width * _FINE / 2, height * _FINE / 2 + 12 * _FINE)
        self._draw = ImageDraw.Draw(self.picture)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Returns the pixel of a place."""
        return self._middle[0] + x * self._scale, self._middle[1] - y * self._scale

    def disc(self, x: float, y: float, radius: float, fill: RGB | None, edge: RGB | None = None, line: int = 2) -> None:
        """Draws a circle."""
        (left, top), (right, bottom) = self.at(x - radius, y + radius), self.at(x + radius, y - radius)
        self._draw.ellipse((left, top, right, bottom), fill, edge, line * _FINE)

    def glow(self, x: float, y: float, radius: float, color: RGB) -> None:
        """Draws a soft light."""
        mask = Image.new("L", self.picture.size)
        (left, top), (right, bottom) = self.at(x - radius, y + radius), self.at(x + radius, y - radius)
        ImageDraw.Draw(mask).ellipse((left, top, right, bottom), fill=130)
        self.picture.paste(color, (0, 0), mask.filter(ImageFilter.BoxBlur(9 * _FINE)))

    def box(self, left: float, bottom: float, right: float, top: float, fill: RGB | None, edge: RGB) -> None:
        """Draws a rectangle."""
        self._draw.rounded_rectangle((*self.at(left, top), *self.at(right, bottom)), 6 * _FINE, fill, edge, 2 * _FINE)

    def line(self, x: float, y: float, to_x: float, to_y: float, color: RGB, width: int = 4) -> None:
        """Draws a line."""
        self._draw.line((*self.at(x, y), *self.at(to_x, to_y)), color, width * _FINE)

    def head(self, text: str, result: str, color: RGB) -> None:
        """Writes a line above the arena."""
        self._draw.text((18 * _FINE, 12 * _FINE), text, _TEXT, font(15 * _FINE), anchor="lt")
        place = (self.picture.width - 18 * _FINE, 12 * _FINE)
        self._draw.text(place, result, color, font(15 * _FINE), anchor="rt")

    def pixels(self) -> Array:
        """Returns (H, W, 3) uint8."""
        return finish(self.picture, _FINE)


def painted_duel(game: Duel) -> Array:
    """Returns the ring with both wrestlers and where they thrust: (400, 380, 3) uint8."""
    from envs.games.duel import AGENTS, LIMIT, RADIUS

    canvas = Canvas(380, 400, 170, (38, 30, 92), (12, 14, 44))
    canvas.disc(0, 0, 1, (20, 21, 60), (54, 58, 120))
    canvas.disc(0, 0, game.ring, (34, 36, 92), (150, 160, 235), 3)
    canvas.disc(0, 0, 0.02, (110, 118, 190))
    colors = {"red": RED, "blue": BLUE}
    for agent, at, thrust in zip(AGENTS, game.at, game.thrust):
        color = colors[agent]
        tail = at - 0.24 * thrust
        canvas.line(at.real, at.imag, tail.real, tail.imag, GOLD, 6)
        canvas.glow(at.real, at.imag, RADIUS * 1.5, color)
        canvas.disc(at.real, at.imag, RADIUS, color, (240, 244, 255))
    for k, at in enumerate(game.at):  # eyes look at the other
        way = game.at[1 - k] - at
        side = way / abs(way) * RADIUS if way else RADIUS + 0j
        for eye in (at + 0.5 * side + 0.35j * side, at + 0.5 * side - 0.35j * side):
            canvas.disc(eye.real, eye.imag, 0.028, (255, 255, 255))
    over = not game.agents
    result = "" if not over else f"{game.winner} wins" if game.winner else "draw"
    canvas.head(f"step {game.steps} of {LIMIT}", result, colors.get(game.winner or "", _TEXT))
    return canvas.pixels()


def painted_keepers(game: Keepers) -> Array:
    """Returns the pitch with ball, striker and goalie: (340, 560, 3) uint8."""
    from envs.games.keepers import GOAL, LENGTH, LIMIT, REACH, WIDTH

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
