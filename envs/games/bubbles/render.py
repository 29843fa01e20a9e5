"""Pictures of the bubble shooter. Everything is painted three times as large and scaled down, for smooth edges.

Lengths in code are in bubble diameters of the grid, turned into pixels by `Painter._at` and `UNIT`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

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
"""Where the dots of the aim line and of the flight begin, and their distance."""
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
        self._shadow = _shadow()
        self._background = self._paint_background()

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
        self._paint_board(picture, game)
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
        if opacity < 1:
            sprite = sprite.copy()
            sprite.putalpha(sprite.getchannel("A").point([round(a * opacity) for a in range(256)]))
        x, y = self._at(point)
        picture.paste(sprite, (x - sprite.width // 2, y - sprite.height // 2), sprite)

    def _paint_background(self) -> Image.Image:
        width, height = self.size
        picture = vertical_gradient(self.size, (38, 30, 92), (12, 14, 44))
        glow = Image.new("L", self.size)
        ImageDraw.Draw(glow).ellipse((0, -height // 4, width, height // 2), fill=80)
        picture.paste((96, 84, 220), (0, 0), glow.filter(ImageFilter.GaussianBlur(width // 6)))
        field = (*self._at((-0.12, -0.12)), *self._at((self.grid.columns + 0.12, self.grid.cannon[1] + 1.3)))
        sheet = Image.new("RGBA", self.size)
        draw = ImageDraw.Draw(sheet)
        draw.rounded_rectangle(field, 18 * FINE, (10, 12, 40, 150), (140, 150, 255, 110), 2 * FINE)
        for cell in self.grid.cells:
            x, y = self._at(self.grid.position(cell))
            draw.ellipse((x - 3 * FINE, y - 3 * FINE, x + 3 * FINE, y + 3 * FINE), fill=(160, 170, 255, 16))
        picture.paste(sheet, (0, 0), sheet)
        return picture

    def _paint_board(self, picture: Image.Image, game: Game) -> None:
        for cell in self.grid.cells:
            if game.occupied >> cell & 1:
                x, y = self.grid.position(cell)
                self._put(picture, self._shadow, (x, y + 0.12))
        for color, cells in enumerate(game.board):
            for cell in _cells(cells):
                self._put(picture, self._bubbles[color], self.grid.position(cell))

    def _paint_flight(self, picture: Image.Image, way: list[Point], color: int) -> None:
        dots = _dots(way, AIM_START, AIM_GAP)
        sheet = Image.new("RGBA", picture.size, (*COLORS[color], 0))
        draw = ImageDraw.Draw(sheet)
        for i, point in enumerate(dots):
            nearness = (i + 1) / len(dots)
            x, y = self._at(point)
            radius = (2.2 + 3.2 * nearness) * FINE
            box = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(box, fill=(*COLORS[color], round(70 + 150 * nearness)))
        glow = sheet.filter(ImageFilter.BoxBlur(5 * FINE))
        picture.paste(glow, (0, 0), glow)
        picture.paste(sheet, (0, 0), sheet)

    def _paint_cleared(self, picture: Image.Image, game: Game) -> None:
        shot = game.last
        if shot is None:
            return
        sheet = Image.new("RGBA", picture.size, (255, 255, 255, 0))
        draw = ImageDraw.Draw(sheet)
        for cell in _cells(shot.popped):
            x, y = self._at(self.grid.position(cell))
            for radius, alpha, width in ((0.50, 90, 2), (0.36, 210, 3)):
                r = radius * UNIT
                draw.ellipse((x - r, y - r, x + r, y + r), outline=(*COLORS[shot.color], alpha), width=width * FINE)
            for i in range(8):
                dx, dy = math.cos(math.pi * i / 4 + 0.2) * UNIT, math.sin(math.pi * i / 4 + 0.2) * UNIT
                spark = (x + dx * 0.12, y + dy * 0.12, x + dx * 0.25, y + dy * 0.25)
                draw.line(spark, fill=(255, 255, 255, 200), width=2 * FINE)
        picture.paste(sheet, (0, 0), sheet)
        for color, cells in enumerate(game.before):
            for cell in _cells(cells & shot.dropped):
                column, row = self.grid.position(cell)
                for fall, opacity in ((0.0, 0.10), (0.3, 0.18), (0.7, 0.45)):
                    self._put(picture, self._bubbles[color], (column, row + fall), opacity)

    def _paint_cannon(self, picture: Image.Image, game: Game, aim: int | None) -> None:
        x, y = self._at(self.grid.cannon)
        angle = 0.0 if aim is None else self.grid.angles[aim]
        along, across = (math.sin(angle), -math.cos(angle)), (math.cos(angle), math.sin(angle))

        def place(forward: float, aside: float) -> tuple[float, float]:
            return (
                x + (along[0] * forward + across[0] * aside) * UNIT,
                y + (along[1] * forward + across[1] * aside) * UNIT,
            )

        sheet = Image.new("RGBA", picture.size, (60, 66, 130, 0))
        draw = ImageDraw.Draw(sheet)
        for i in range(9):
            dot_x, dot_y = place(AIM_START + AIM_GAP * i, 0)
            radius = (3.4 - 0.25 * i) * FINE
            box = (dot_x - radius, dot_y - radius, dot_x + radius, dot_y + radius)
            draw.ellipse(box, fill=(255, 255, 255, 190 - 20 * i))
        for shade, half in (((52, 58, 120), 0.62), ((86, 94, 172), 0.54), ((116, 124, 206), 0.30)):
            corners = [place(0, -half), place(1.3, -half * 0.84), place(1.3, half * 0.84), place(0, half)]
            draw.polygon(corners, fill=(*shade, 255))
        muzzle = [place(1.22, -0.6), place(1.42, -0.6), place(1.42, 0.6), place(1.22, 0.6)]
        draw.polygon(muzzle, fill=(170, 178, 250, 255))
        for radius, shade in ((0.86, (40, 44, 98)), (0.80, (74, 82, 156)), (0.62, (28, 30, 76))):
            r = radius * UNIT
            draw.ellipse((x - r, y - r, x + r, y + r), fill=(*shade, 255))
        picture.paste(sheet, (0, 0), sheet)
        self._put(picture, self._bubbles[game.hand[0]], self.grid.cannon)
        self._paint_next(picture, game)

    def _paint_next(self, picture: Image.Image, game: Game) -> None:
        point = (self.grid.cannon[0] - 2.1, self.grid.cannon[1] + 0.25)
        x, y = self._at(point)
        draw = ImageDraw.Draw(picture)
        radius = 0.58 * UNIT
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), (28, 30, 76), (116, 124, 206), 2 * FINE)
        self._put(picture, self._bubbles[game.hand[1]], point)
        draw.text((x, y + 0.62 * UNIT), "NEXT", QUIET, font(11 * FINE), anchor="mt")

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
        sheet = Image.new("RGBA", picture.size)
        draw = ImageDraw.Draw(sheet)
        box = (x - half[0], y - half[1], x + half[0], y + half[1])
        draw.rounded_rectangle(box, 16 * FINE, (14, 16, 52, 235), (*color, 255), 3 * FINE)
        draw.text((x, y - 0.3 * UNIT), title, color, font(30 * FINE), anchor="mm")
        note = f"in {game.used} shots" if game.solved else f"{game.occupied.bit_count()} bubbles left"
        draw.text((x, y + 0.45 * UNIT), note, WHITE, font(17 * FINE), anchor="mm")
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
    radius = np.sqrt(x * x + y * y)
    z = np.sqrt(np.clip(1 - radius**2, 0, 1))
    light = np.clip(-0.45 * x - 0.6 * y + 0.66 * z, 0, 1)
    bounce = np.clip(0.5 * x + 0.7 * y - 0.1, 0, 1) ** 2 * np.clip(1.2 - z, 0, 1)
    shaded = np.asarray(color) * (0.42 + 0.62 * light + 0.28 * bounce)[..., None]
    rim = np.clip((radius - 0.86) / 0.14, 0, 1)[..., None] ** 2
    shaded = shaded * (1 - 0.35 * rim)
    turned_x, turned_y = (x + 0.34) * 0.8 + (y + 0.42) * -0.6, (x + 0.34) * 0.6 + (y + 0.42) * 0.8
    shine = np.exp(-(((turned_x / 0.30) ** 2 + (turned_y / 0.17) ** 2) ** 1.4)) * 0.85
    spark = np.exp(-(((x - 0.42) / 0.09) ** 2 + ((y - 0.5) / 0.09) ** 2)) * 0.35
    white = np.clip(shine + spark, 0, 1)[..., None]
    shaded = shaded * (1 - white) + 255 * white
    alpha = np.clip((1 - radius) * size / 2, 0, 1)[..., None] * 255
    return Image.fromarray(np.clip(np.concatenate((shaded, alpha), -1), 0, 255).astype(np.uint8))


def _shadow() -> Image.Image:
    size = round(UNIT * 1.3)
    y, x = (np.mgrid[:size, :size] + 0.5) / size * 2 - 1
    alpha = np.clip(1.25 - np.sqrt(x * x + y * y) * 1.4, 0, 1) * 110
    pixels = np.zeros((size, size, 4), np.uint8)
    pixels[..., 3] = np.clip(alpha, 0, 255)
    return Image.fromarray(pixels)
