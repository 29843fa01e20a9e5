"""The staggered grid of a bubble shooter, and where each shot would go: tables, computed once.

Lengths are in bubble diameters; x runs right from the left wall, y down from the ceiling. Even rows hold `columns`
bubbles, odd rows one fewer, half a diameter to the right. A set of cells is an int: bit `row * columns + column`.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from typing import NamedTuple

ROW_HEIGHT = math.sqrt(3) / 2
CONTACT = 0.85
"""Centres this near touch: less than one diameter, so that a shot slips through a gap of one bubble."""

Point = tuple[float, float]


class Hit(NamedTuple):
    """What happens if a shot's first touch is this cell's bubble."""

    bit: int
    """The touched cell, as a set of one."""
    cell: int
    """Where the shot comes to rest."""
    distance: float
    """Length of the flight."""


class Ray(NamedTuple):
    """The flight of a shot at one angle over an empty board."""

    hits: tuple[Hit, ...]
    """Every cell that the shot would touch, the first touched first."""
    ceiling: Hit
    """Where it comes to rest if it touches none of them; its `bit` is 0."""
    points: tuple[Point, ...]
    """Cannon, each bounce, and the point at the ceiling."""


class Grid:
    """Cells, neighbours and rays. Get one from `grid`, which shares them."""

    def __init__(self, rows: int, columns: int, angles: int, widest_angle: float) -> None:
        self.rows, self.columns = rows, columns
        self.cannon: Point = (columns / 2, 0.5 + ROW_HEIGHT * (rows + 0.25))
        self.cells = tuple(r * columns + c for r in range(rows) for c in range(columns - r % 2))
        self.top = sum(1 << cell for cell in self.cells if cell < columns)
        self._even = sum(1 << cell for cell in self.cells if cell // columns % 2 == 0)
        self._not_first = sum(1 << cell for cell in self.cells if cell % columns)
        self.neighbors = {
            cell: tuple(c for c in self.cells if 0.9 < _distance(self.position(cell), self.position(c)) < 1.1)
            for cell in self.cells
        }
        self.neighbor_bits = {cell: sum(1 << c for c in cells) for cell, cells in self.neighbors.items()}
        turn = 2 * widest_angle / (angles - 1)
        self.angles = tuple(math.radians(turn * (i - (angles - 1) / 2)) for i in range(angles))
        """Radians from straight up, the leftmost first."""
        self.rays = tuple(self._ray(angle) for angle in self.angles)

    def position(self, cell: int) -> Point:
        """Returns the centre of a cell."""
        row, column = divmod(cell, self.columns)
        return column + 0.5 + 0.5 * (row % 2), 0.5 + ROW_HEIGHT * row

    def connected(self, seed: int, within: int) -> int:
        """Returns the cells of the set `within` that chains of neighbours in it join to its subset `seed`."""
        width, not_first, even = self.columns, self._not_first, self._even
        # All cells grow at once, by shifts: 0.5 us a round, where walking from cell to cell costs 0.2 us a cell.
        while True:
            inner = seed & not_first
            left = inner & even
            odd = seed & ~even
            beside = (seed << 1) & not_first | inner >> 1
            across = left << (width - 1) | left >> (width + 1) | odd << (width + 1) | odd >> (width - 1)
            grown = within & (seed | beside | across | seed << width | seed >> width)
            if grown == seed:
                return seed
            seed = grown

    def flight(self, angle: int, hit: Hit) -> list[Point]:
        """Returns a shot's way from the cannon over its bounces to its first touch, and the cell where it rests."""
        way, left = [self.cannon], hit.distance
        for (ax, ay), (bx, by) in pairwise(self.rays[angle].points):
            share = min(left / _distance((ax, ay), (bx, by)), 1.0)
            way.append((ax + (bx - ax) * share, ay + (by - ay) * share))
            if share < 1:
                break
            left -= _distance((ax, ay), (bx, by))
        return [*way, self.position(hit.cell)]

    def _ray(self, angle: float) -> Ray:
        points = [self.cannon]
        touched: dict[int, Hit] = {}
        flown = 0.0
        dx, dy = math.sin(angle), -math.cos(angle)
        while points[-1][1] > 0.5:
            x, y = points[-1]
            to_ceiling = (0.5 - y) / dy
            wall = self.columns - 0.5 if dx > 0 else 0.5
            to_wall = (wall - x) / dx if abs(dx) > 1e-9 else math.inf
            length = min(to_ceiling, to_wall)
            for cell in self.cells:
                contact = _contact((x, y), (dx, dy), length, self.position(cell))
                if contact is not None and 1 << cell not in touched:
                    at = (x + dx * contact, y + dy * contact)
                    touched[1 << cell] = Hit(1 << cell, self._nearest(at), flown + contact)
            flown += length
            points.append((x + dx * length, 0.5) if to_ceiling <= to_wall else (wall, y + dy * length))
            dx = -dx
        # The lowest row never holds a bubble, so nothing is ever touched there.
        hits = [hit for bit, hit in touched.items() if bit.bit_length() <= (self.rows - 1) * self.columns]
        hits.sort(key=lambda hit: (round(hit.distance, 9), hit.bit))
        return Ray(tuple(hits), Hit(0, self._nearest(points[-1]), flown), tuple(points))

    def _nearest(self, point: Point) -> int:
        # Within 0.58 of any point, so nearer than the touched bubble, and free: its bubble would have been touched.
        # Rounded, so that a tie goes the same way on every machine.
        return min(self.cells, key=lambda cell: (round(_distance(point, self.position(cell)), 9), cell))


@cache
def grid(rows: int, columns: int, angles: int, widest_angle: float) -> Grid:
    """Returns the shared grid with a fan of `angles` shots from `-widest_angle` to `widest_angle` degrees."""
    return Grid(rows, columns, angles, widest_angle)


def _contact(start: Point, direction: Point, length: float, center: Point) -> float | None:
    """Returns how far along a segment a bubble first touches the one at `center`, or None."""
    x, y = center[0] - start[0], center[1] - start[1]
    along = x * direction[0] + y * direction[1]
    off_square = x * x + y * y - along * along
    if off_square >= CONTACT**2:
        return None
    distance = along - math.sqrt(CONTACT**2 - off_square)
    return distance if 0 <= distance <= length else None


def _distance(a: Point, b: Point) -> float:
    return math.hypot(a[0] - b[0], a[1] - b[1])
