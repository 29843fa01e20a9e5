"""A PettingZoo game in our player: its agents as a Unity scene has them, with teams and groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.gym.values import duration_seconds
from envs.pettingzoo.game import Heard
from envs.pettingzoo.players import Players, cast_of, write_mask
from envs.seeding import episode_seed
from envs.unity.python_player.agent import Line, World, action_rows, finite
from envs.unity.python_player.encoding import Encoder


class Party:
    """One game, driven by the protocol's actions; agents of one team have one behavior id, `Name?team=N`.

    Args:
        world: what it shares with the player's other games.
        index: among the player's games; goes into the seeds of its episodes.
    """

    def __init__(self, world: World, index: int) -> None:
        self.index = index
        self._world = world
        game = world.env.make()
        game.begin(self._seed(0), world.settings.parameters())
        cast = cast_of(game, world.env)
        self._players = Players(game, cast)
        self._seats, self._specs = cast.seats, [cast.specs[b] for b, _ in cast.places]
        self._encoders = [Encoder(spec, world.layout, world.mapping) for spec in self._specs]
        self._rows = [tuple(np.zeros(o.shape, o.dtype) for o in spec.observations) for spec in self._specs]
        self._masks = [np.ones(spec.mask_size, bool) for spec in self._specs]
        apart = index * (1 + max(seat.group for seat in cast.seats))
        self._groups = [seat.group and seat.group + apart for seat in cast.seats]
        self._ids: dict[int, int] = {}
        """By seat: the number of its agent, as long as that lives."""
        self._episode = 0
        self.lines: list[Line] = []
        self.metrics: list[dict[str, float]] = []
        self.duration: float | None = None
        self._asked: dict[int, int] = {}
        """By place in `lines`, the seats that ask."""
        self.restart()

    def restart(self) -> None:
        """Begins its episode again because the trainer resets all. As in Unity, ids stay and nothing is closed."""
        self.lines, self.metrics, self._asked, self.duration = [], [], {}, None
        self._begin()

    def act(self, actions: Mapping[int, Any]) -> None:
        """Takes a step, and the next reset if nobody is left.

        Raises:
            UserError: an action of another size than the spec's, or outside its branches.
        """
        taken = {self._asked[place]: action for place, action in actions.items()}
        rows = {seat: action_rows(action, self._specs[seat], self._id(seat)) for seat, action in taken.items()}
        self.lines, self.metrics, self._asked, self.duration = [], [], {}, None
        for one in self._players.act(list(rows), rows):
            self._say(one)
        if not self._asked:
            self._ids.clear()
            self._begin()

    def _begin(self) -> None:
        self._episode += 1
        for one in self._players.begin(self._seed(self._episode), self._world.settings.parameters()):
            self._say(one)

    def _say(self, one: Heard) -> None:
        seat = one.seat
        if one.over and seat not in self._ids:  # it never asked
            return
        spec, adapter = self._specs[seat], self._players.adapters[seat]
        adapter.observe(one.observation, self._rows[seat])
        info = self._encoders[seat].info(self._rows[seat])
        if seat not in self._ids:
            self._ids[seat] = next(self._world.ids)
        info.id, info.group_id, info.group_reward = self._ids[seat], self._groups[seat], one.group_reward
        info.reward, info.done = float(one.reward) - one.group_reward, one.over
        info.max_step_reached = one.over and not one.terminated
        if spec.masked:
            write_mask(adapter, one, self._masks[seat])
            info.action_mask[:] = (~self._masks[seat]).tolist()
        if one.over:
            del self._ids[seat]
            if metrics := finite(one.metrics):
                self.metrics.append(metrics)
        else:
            self._asked[len(self.lines)] = seat
        self.lines.append(Line(self._id(seat), spec, info, asks=not one.over))
        if (duration := one.info.get("duration")) is not None:
            self.duration = max(self.duration or 0.0, duration_seconds(duration))

    def _id(self, seat: int) -> str:
        return f"{self._seats[seat].behavior}?team={self._seats[seat].team}"

    def _seed(self, episode: int) -> int:
        return episode_seed(self._world.seed & 0xFFFFFFFF, self.index, episode)
