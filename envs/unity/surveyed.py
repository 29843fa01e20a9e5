"""A manager of Unity players that keeps account of what they send, for `outstep check`."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from envs.spec import BehaviorSpec
from envs.unity.manager import UnityManager
from envs.unity.player_pool import Player
from envs.unity.protocol.server import Arrived


class SurveyedManager(UnityManager):
    """Notes teams, groups, and how many agents there are."""

    _groups: dict[str, set[int]]

    def start(self) -> dict[str, BehaviorSpec]:  # noqa: D102
        self._most: dict[str, int] = defaultdict(int)
        """By behavior id, agents in one message."""
        self._groups = defaultdict(set)
        self._group_rewards: set[str] = set()
        return super().start()

    def about(self) -> list[str]:
        """Returns lines about what players have sent besides."""
        lines = [f"agents of {each!r}: up to {most} at once" for each, most in self._most.items()]
        names = [each.partition("?")[0] for each in self._most]
        if teams := sorted({name for name in names if names.count(name) > 1}):
            lines.append(
                f"teams of {', '.join(map(repr, teams))}: one policy learns as all of them, or with "
                "self_play.save_samples= as one at a time"
            )
        for name, groups in self._groups.items():
            paid = ", paid together: algorithm=poca learns as a group" if name in self._group_rewards else ""
            lines += [f"groups of {name!r}: {len(groups)} seen{paid}"] if groups else []
        lines.append("environment parameters: a game does not tell which it reads; env.parameters.<name>=... sets them")
        return lines

    def _take_message(self, player: Player, message: Arrived, *given: Any) -> None:
        for behavior_id, agents in message.agents.items():
            self._most[behavior_id] = max(self._most[behavior_id], len(agents.id))
            self._groups[behavior_id].update(agents.group[agents.group != 0].tolist())
            if np.count_nonzero(agents.group_reward):
                self._group_rewards.add(behavior_id)
        super()._take_message(player, message, *given)
