"""Pictures of the bubble shooter. Everything is painted three times as large and scaled down, for smooth edges.

Lengths in code are in bubble diameters of the grid, turned into pixels by `Painter._at` and `UNIT`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from envs.games.bubbles.grid import Grid, Point
from envs.games.bubbles.rules import Game
from envs.games.picture import RGB, finish, font, vertical_gradient
from envs.spec import Array

FINE = 3
"""Painted pixels to a pixel of the picture."""
UNIT = 44 * FINE
MARGIN, HEADER, FOOTER = 32 * FINE, 76 * FINE, 84 * FINE

_HEX = ("ff5262", "ffbc2e", "30b0ff", "58d66e", "b668ff", "ff82c8", "40e0d0", "d6dceb")
COLORS: list[RGB] = [(*bytes.fromhex(color),) for color in _HEX]
AIM_START, AIM_GAP = 1.7, 0.26
"""Where the dots of a flight begin, and their distance."""
WHITE: RGB = (255, 255, 255)
QUIET: RGB = (150, 160, 205)


class Painter:
    """Paints games on one grid; keeps what does not change between pictures."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        # Multiples of 16, as video codecs like them.
        width, height = 2 * MARGIN + grid.columns * UNIT, round(HEADER + grid.cannon[1] * UNIT + FOOTER)
        block = 16 * FINE
        self.size = (-(-width // block) * block, -(-height // block) * block)
        self._left = (self.size[0] - grid.columns * UNIT) // 2
        self._bubbles = [_bubble(color) for color in COLORS]
        self._background = vertical_gradient(self.size, (38, 30, 92), (12, 14, 44))
        field = (*self._at((-0.12, -0.12)), *self._at((grid.columns + 0.12, grid.cannon[1] + 1.3)))
        with _layer(self._background) as draw:
            draw.rounded_rectangle(field, 18 * FINE, (10, 12, 40, 150), (140, 150, 255, 110), 2 * FINE)

    def paint(self, game: Game, aim: int | None = None) -> Array:
        """Returns the game as it stands, with what the last shot cleared: (H, W, 3) uint8.

        Shows where the current bubble would fly at the angle `aim`; without one, where the last one flew.
        """
        picture = self._background.copy()
        if aim is not None and not game.over:
            color = game.hand[0]
            self._paint_flight(picture, self.grid.flight(aim, game.look(aim, color).hit), color)
        elif game.last is not None:
            self._paint_flight(picture, self.grid.flight(game.last.angle, game.last.hit), game.last.color)
            aim = game.last.angle
        for color, cells in enumerate(game.board):
            for cell in _cells(cells):
                self._put(picture, self._bubbles[color], self.grid.position(cell))
        self._paint_cleared(picture, game)
        self._paint_cannon(picture, game, aim)
        self._paint_header(picture, game)
        if game.over:
            self._paint_end(picture, game)
        return finish(picture, FINE)

    def point(self, x: float, y: float) -> Point:
        """Returns where in the grid a point of the picture lies, given in shares of the picture's width and height."""
        return (x * self.size[0] - self._left) / UNIT, (y * self.size[1] - HEADER) / UNIT

    def _at(self, point: Point) -> tuple[int, int]:
        return round(self._left + point[0] * UNIT), round(HEADER + point[1] * UNIT)

    def _put(self, picture: Image.Image, sprite: Image.Image, point: Point, opacity: float = 1.0) -> None:
        x, y = self._at(point)
        alpha = sprite.getchannel("A").point([round(a * opacity) for a in range(256)])
        picture.paste(sprite, (x - sprite.width // 2, y - sprite.height // 2), alpha)

    def _disc(self, draw: Any, center: Point, radius: float, *style: Any) -> None:
        """Draws a disc in the grid; `style` is its fill, outline and width."""
        (x, y), r = self._at(center), radius * UNIT
        draw.ellipse((x - r, y - r, x + r, y + r), *style)

    def _paint_flight(self, picture: Image.Image, way: list[Point], color: int) -> None:
        dots = _dots(way, AIM_START, AIM_GAP)
        with _layer(picture, COLORS[color], glow=5 * FINE) as draw:
            for i, point in enumerate(dots):
                nearness = (i + 1) / len(dots)
                self._disc(draw, point, 0.05 + 0.073 * nearness, (*COLORS[color], round(70 + 150 * nearness)))

    def _paint_cleared(self, picture: Image.Image, game: Game) -> None:
        shot = game.last
        if shot is None:
            return
        with _layer(picture, COLORS[shot.color]) as draw:
            for cell in _cells(shot.popped):
                for radius, alpha, width in ((0.50, 90, 2), (0.36, 210, 3), (0.15, 255, 2)):
                    self._disc(draw, self.grid.position(cell), radius, None, (*COLORS[shot.color], alpha), width * FINE)
        for color, cells in enumerate(game.before):
            for cell in _cells(cells & shot.dropped):
                column, row = self.grid.position(cell)
                for fall, opacity in ((0.0, 0.10), (0.3, 0.18), (0.7, 0.45)):
                    self._put(picture, self._bubbles[color], (column, row + fall), opacity)

    def _paint_cannon(self, picture: Image.Image, game: Game, aim: int | None) -> None:
        x, y = cannon = self.grid.cannon
        angle = 0.0 if aim is None else self.grid.angles[aim]
        sine, cosine = math.sin(angle), math.cos(angle)

        def place(forward: float, aside: float) -> Point:
            return self._at((x + sine * forward + cosine * aside, y - cosine * forward + sine * aside))

        with _layer(picture) as draw:
            for shade, half in (((52, 58, 120), 0.62), ((86, 94, 172), 0.54), ((116, 124, 206), 0.30)):
                corners = [place(0, -half), place(1.3, -half * 0.84), place(1.3, half * 0.84), place(0, half)]
                draw.polygon(corners, fill=(*shade, 255))
            muzzle = [place(1.22, -0.6), place(1.42, -0.6), place(1.42, 0.6), place(1.22, 0.6)]
            draw.polygon(muzzle, fill=(170, 178, 250, 255))
            for radius, shade in ((0.86, (40, 44, 98)), (0.80, (74, 82, 156)), (0.62, (28, 30, 76))):
                self._disc(draw, cannon, radius, (*shade, 255))
            following = (x - 2.1, y + 0.25)
            self._disc(draw, following, 0.58, (28, 30, 76, 255), (116, 124, 206, 255), 2 * FINE)
            draw.text(self._at((x - 2.1, y + 0.87)), "NEXT", (*QUIET, 255), font(11 * FINE), anchor="mt")
        self._put(picture, self._bubbles[game.hand[0]], cannon)
        self._put(picture, self._bubbles[game.hand[1]], following)

    def _paint_header(self, picture: Image.Image, game: Game) -> None:
        draw = ImageDraw.Draw(picture)
        left, right = self._at((0, 0))[0], self._at((self.grid.columns, 0))[0]
        top, bar, gap, limit = 18 * FINE, 52 * FINE, 7 * FINE, game.level.limit
        large, small = font(26 * FINE), font(14 * FINE)
        used, remaining = f"{game.used}", f"{game.occupied.bit_count()}"
        draw.text((left, top), used, WHITE, large, anchor="lt")
        after_used = left + draw.textlength(used, large) + gap
        draw.text((after_used, top + 8 * FINE), f"of {limit} shots", QUIET, small, anchor="lt")
        draw.text((right, top), remaining, WHITE, large, anchor="rt")
        before_remaining = right - draw.textlength(remaining, large) - gap
        draw.text((before_remaining, top + 8 * FINE), "bubbles left", QUIET, small, anchor="rt")
        draw.rounded_rectangle((left, bar, right, bar + 6 * FINE), 3 * FINE, (52, 54, 116))
        share = game.used / limit
        if game.used:
            color = COLORS[3] if share < 0.5 else COLORS[1] if share < 0.8 else COLORS[0]
            end = left + max(6 * FINE, (right - left) * share)
            draw.rounded_rectangle((left, bar, end, bar + 6 * FINE), 3 * FINE, color)

    def _paint_end(self, picture: Image.Image, game: Game) -> None:
        x, y = self._at((self.grid.columns / 2, 0.5 + self.grid.cannon[1] / 2))
        title, color = ("SOLVED", COLORS[3]) if game.solved else ("OUT OF BUBBLES", COLORS[0])
        half = min(3.4 * UNIT, self.size[0] / 2 - FINE * 8), 1.0 * UNIT
        with _layer(picture) as draw:
            box = (x - half[0], y - half[1], x + half[0], y + half[1])
            draw.rounded_rectangle(box, 16 * FINE, (14, 16, 52, 235), (*color, 255), 3 * FINE)
            draw.text((x, y - 0.3 * UNIT), title, (*color, 255), font(30 * FINE), anchor="mm")
            note = f"in {game.used} shots" if game.solved else f"{game.occupied.bit_count()} bubbles left"
            draw.text((x, y + 0.45 * UNIT), note, (*WHITE, 255), font(17 * FINE), anchor="mm")


@contextmanager
def _layer(picture: Image.Image, color: RGB = WHITE, glow: int = 0) -> Iterator[Any]:
    """Yields what draws with alpha on `picture`; edges fade into `color`. `glow` pixels around it shine."""
    sheet = Image.new("RGBA", picture.size, (*color, 0))
    yield ImageDraw.Draw(sheet)
    if glow:
        shine = sheet.filter(ImageFilter.BoxBlur(glow))
        picture.paste(shine, (0, 0), shine)
    picture.paste(sheet, (0, 0), sheet)


def _cells(cells: int) -> Iterator[int]:
    while cells:
        yield (cells & -cells).bit_length() - 1
        cells &= cells - 1


def _dots(points: list[Point], start: float, gap: float) -> list[Point]:
    """Points at even distances along a line."""
    dots, carried = [], start
    for (ax, ay), (bx, by) in pairwise(points):
        length = math.hypot(bx - ax, by - ay)
        while carried < length:
            dots.append((ax + (bx - ax) * carried / length, ay + (by - ay) * carried / length))
            carried += gap
        carried -= length
    return dots


def _bubble(color: RGB) -> Image.Image:
    """Returns a glassy ball, lit from the upper left, with alpha."""
    size = round(UNIT * 0.98)
    y, x = (np.mgrid[:size, :size] + 0.5) / size * 2 - 1
    radius = np.hypot(x, y)
    light = np.clip(-0.45 * x - 0.6 * y + 0.66 * np.sqrt(np.clip(1 - radius**2, 0, 1)), 0, 1)
    shaded = np.asarray(color) * (0.42 + 0.62 * light)[..., None]
    shine = 0.85 * np.exp(-((((x + 0.34) / 0.28) ** 2 + ((y + 0.42) / 0.2) ** 2) ** 1.4))[..., None]
    alpha = np.clip((1 - radius) * size / 2, 0, 1)[..., None] * 255
    lit = np.clip(shaded * (1 - shine) + 255 * shine, 0, 255)
    return Image.fromarray(np.concatenate((lit, alpha), -1).astype(np.uint8))
