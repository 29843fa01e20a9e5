"""The rules of the bubble shooter: a level, a game, a shot. Pure Python on ints, without Gymnasium.

`Level` says all there is to choose. Sets of cells are ints, see bubble_grid.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from typing import NamedTuple

from envs.config import check_ranges, setting
from envs.games.bubbles.grid import Hit, grid
from envs.spec import UserError

GROUP = 3
"""Bubbles of one colour that pop when a shot joins them."""


@dataclass(frozen=True)
class Level:
    """A level. The defaults learn: with 4 colours and no clump neither PPO nor SAC got far in 360,000 samples."""

    rows: int = 10
    """Rows of the grid. A bubble that comes to rest in the lowest one, and pops nothing, is lost."""
    columns: int = setting(8, at_least=2)
    """Bubbles of an even row; odd rows hold one fewer."""
    filled_rows: int = setting(6, at_least=1)
    """Rows that are full at the start."""
    colors: int = setting(3, at_least=1, at_most=8)
    clump: float = setting(0.3, at_least=0, at_most=1)
    """Probability that a bubble of the start board copies a neighbour's colour. Higher is easier."""
    limit: int = setting(60, at_least=1)
    """Bubbles that may be shot; with the last one the game is lost if the board is not empty."""
    angles: int = setting(31, at_least=2)
    """Directions that the cannon can shoot in."""
    widest_angle: float = setting(75.0, above=0, below=90)
    """Outermost direction, degrees from straight up."""
    shot_reward: float = -0.1
    """Earned by each shot."""
    clear_reward: float = 0.03
    """Earned for each bubble that pops or drops."""
    solved_reward: float = 1.0
    failed_reward: float = -0.5
    """Earned when the last bubble is spent and the board is not empty."""
    base_seconds: float = setting(0.525, at_least=0)
    """Shortest duration of a step, without flight, pops and drops (see `Game.duration`)."""
    noise_seconds: float = setting(0.65, at_least=0)
    """Each step takes up to this much longer, uniformly drawn."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, whole = getattr(self, field.name), isinstance(field.default, int)
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                kind = "a whole number" if whole else "a number"
                raise UserError(f"BubbleShooter.{field.name}={value!r} must be {kind}")
        check_ranges(self, "BubbleShooter")
        if self.rows <= self.filled_rows:
            raise UserError(f"BubbleShooter.rows={self.rows} must be above filled_rows={self.filled_rows}")


class Shot(NamedTuple):
    """What one shot does."""

    angle: int
    color: int
    hit: Hit
    group: int
    """The bubbles of its colour that it joins, itself among them."""
    popped: int
    """That group if it pops, else 0."""
    dropped: int
    """What then hangs on nothing."""


class Game:
    """One game of a level after another. All randomness comes from `rng`."""

    def __init__(self, level: Level, rng: random.Random) -> None:
        self.level = level
        self.grid = grid(level.rows, level.columns, level.angles, level.widest_angle)
        self.rng = rng
        self._start = [c for c in self.grid.cells if c < level.filled_rows * level.columns]
        self._earlier = {c: tuple(n for n in self.grid.neighbors[c] if n < c) for c in self._start}
        self._lowest = (level.rows - 1) * level.columns
        self.reset()

    def reset(self) -> None:
        """Starts a new game with a new board."""
        rng_random, clump, colors = self.rng.random, self.level.clump, self.level.colors
        color_of: dict[int, int] = {}
        self.board = [0] * colors
        """For each colour the cells that it fills."""
        for cell in self._start:
            earlier = self._earlier[cell]
            if earlier and rng_random() < clump:
                color = color_of[earlier[int(rng_random() * len(earlier))]]
            else:
                color = int(rng_random() * colors)
            color_of[cell] = color
            self.board[color] |= 1 << cell
        self.occupied = sum(self.board)
        self.hand = [self._draw(), self._draw()]
        """Colours of the current and the next bubble."""
        self.used = 0
        """Bubbles shot so far."""
        self.last: Shot | None = None
        self.before = tuple(self.board)
        """The board before the last shot."""

    @property
    def solved(self) -> bool:
        """Whether the board is empty."""
        return not self.occupied

    @property
    def over(self) -> bool:
        """Whether the game has ended, solved or not."""
        return not self.occupied or self.used >= self.level.limit

    def look(self, angle: int, color: int) -> Shot:
        """Returns what a bubble of this colour would do at this angle. Changes nothing."""
        occupied, tables = self.occupied, self.grid
        ray = tables.rays[angle]
        for hit in ray.hits:
            if occupied & hit[0]:
                break
        else:
            hit = ray.ceiling
        cell, same = hit[1], self.board[color]
        group = 1 << cell
        if not same & tables.neighbor_bits[cell]:
            return Shot(angle, color, hit, group, 0, 0)
        group = tables.connected(group, same | group)
        if group.bit_count() < GROUP:
            return Shot(angle, color, hit, group, 0, 0)
        rest = occupied & ~group
        return Shot(angle, color, hit, group, group, rest & ~tables.connected(rest & tables.top, rest))

    def shoot(self, angle: int, which: int) -> Shot:
        """Shoots the current (0) or the next (1) bubble in hand."""
        shot = self.look(angle, self.hand[which])
        board = self.board
        self.before = tuple(board)
        self.last = shot
        self.used += 1
        if shot.popped:
            keep = ~(shot.popped | shot.dropped)
            self.board = [cells & keep for cells in board]
            self.occupied &= keep
        elif shot.hit.cell < self._lowest:
            board[shot.color] |= shot.group & ~self.occupied
            self.occupied |= shot.group
        self._refill(which)
        return shot

    def duration(self, shot: Shot) -> float:
        """Seconds that the game takes to show the shot at time scale 1: flight, pops, drops, and a level's end.

        Draws its noise from `rng`. Flight is at 40 bubbles a second. What the reference's games need for this is not
        published; `benchmarks.calibrate_bubbles` fits `base_seconds` and `noise_seconds` to its samples per second.
        """
        dropped = shot.dropped.bit_count()
        seconds = self.level.base_seconds + self.level.noise_seconds * self.rng.random() + shot.hit.distance / 40
        seconds += 0.01 * min(shot.popped.bit_count(), 10)
        if dropped:
            seconds += 0.06 + 0.006 * min(dropped, 10)
        return seconds + 0.1 if self.over else seconds

    def reward(self, shot: Shot) -> float:
        """Returns what the last shot earned."""
        level = self.level
        reward = level.shot_reward + level.clear_reward * (shot.popped.bit_count() + shot.dropped.bit_count())
        if not self.occupied:
            return reward + level.solved_reward
        return reward + level.failed_reward if self.used >= level.limit else reward

    def _refill(self, which: int) -> None:
        hand = self.hand
        if not self.occupied:
            return
        if which == 0:
            hand[0] = hand[1]
        hand[1] = self._draw()
        if not self.board[hand[0]]:
            hand[0] = self._draw()

    def _draw(self) -> int:
        """Returns a colour that is on the board, each as likely."""
        present = [color for color, cells in enumerate(self.board) if cells]
        return present[int(self.rng.random() * len(present))]
