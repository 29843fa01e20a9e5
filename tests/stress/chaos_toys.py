"""A game that was played and what a buffer holds of it, in one process: rows, records, and ways to spoil either."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from buffers.rows import Layout, Rows, Writer
from envs.gym.adapter import behavior_spec
from envs.spec import Array
from tests.stress.witness import Life, Witness


class Played:
    """`lives` games of `steps` steps each, appended to a buffer in turns."""

    def __init__(self, folder: Path, lives: int = 2, steps: int = 60) -> None:
        self.games = [Witness(str(folder)) for _ in range(lives)]
        layout = Layout(behavior_spec(self.games[0], "witness"))
        self.rows = Rows(layout, bytearray(layout.memory_bytes(1000)), 1000)
        self.writer = Writer(self.rows)
        self.seen = [game.reset(seed=0)[0] for game in self.games]
        for _ in range(steps):
            for place in range(lives):
                self.step(place)
        self._folder = folder

    def step(self, place: int, keep: bool = True) -> None:
        """One step of a game, and its row; without `keep` the row is lost."""
        game, before = self.games[place], self.seen[place]
        after, reward, terminated, truncated, _ = game.step(1)
        self.seen[place] = game.reset()[0] if terminated or truncated else after
        if keep:
            self.append(place, before, reward, terminated, truncated, after)

    def append(self, place: int, before: Array, reward: float, terminated: bool, truncated: bool, after: Array) -> None:
        """The row of a step."""
        kept = slice(0, int(truncated))
        self.writer.append(
            np.array([place]),
            (before[None],),
            np.zeros((1, self.rows.layout.spec.mask_size), bool),
            np.zeros((1, 0), np.float32),
            np.ones((1, 1), np.int32),
            np.zeros(1, np.float32),
            1,
            np.array([reward], np.float32),
            np.array([terminated]),
            np.array([truncated]),
            (after[None][kept],),
            np.zeros((1, self.rows.layout.spec.mask_size), bool)[kept],
        )

    def records(self) -> dict[int, Array]:
        """By life, what the games have recorded."""
        return {life: Life(self._folder, life).records() for life in range(1, len(self.games) + 1)}

    def inner_row(self) -> int:
        """Number of a row in the midst of an episode, whose follower is there too."""
        fields = self.rows.fields
        ends = fields["terminated"] | fields["truncated"] | fields["final"]
        slots = np.flatnonzero((fields["next"] > 0) & ~ends)
        return int(fields["number"][slots[len(slots) // 2]])
