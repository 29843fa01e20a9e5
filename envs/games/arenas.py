"""Pictures of the games of several agents. Needs Pillow, so it is imported only for rendering."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFilter

from envs.games.picture import RGB, finish, font, vertical_gradient
from envs.spec import Array

_FINE = 3
"""Pictures are painted so many times as large, and scaled down."""
TEXT = (220, 224, 255)
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
        self._draw.text((18 * _FINE, 12 * _FINE), text, TEXT, font(15 * _FINE), anchor="lt")
        place = (self.picture.width - 18 * _FINE, 12 * _FINE)
        self._draw.text(place, result, color, font(15 * _FINE), anchor="rt")

    def pixels(self) -> Array:
        """Returns (H, W, 3) uint8."""
        return finish(self.picture, _FINE)
