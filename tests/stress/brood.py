"""The witness with games of its own: each env starts processes that heed no signal and that it never ends.

A child ignores SIGTERM, SIGINT and SIGHUP, and so does a grandchild, which has a session of its own besides. Pictures
are drawn slowly, so that the process that draws them can be found.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import time
from typing import Any

import gymnasium
import numpy as np

from envs.spec import Array
from tests.stress.witness import Witness

DEAF_GAMES = "trap '' TERM INT HUP; setsid sleep 77777 & exec sleep 77777"
"""A shell's command: the child, and before it the grandchild."""
_FRAME_SECONDS = 0.1


class Brood(Witness):
    """A witness whose games outlive it, unless whoever runs it ends them.

    Args:
        folder: where lives are kept.
        record: whether steps are recorded.
        hangs: the name of a process, such as `probe` or `pictures`, in which the first reset never returns.
        render_mode: None, or `rgb_array`.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - Gymnasium's own form

    def __init__(self, folder: str, record: bool = True, hangs: str = "", render_mode: str | None = None) -> None:
        super().__init__(folder, record)
        self.render_mode = render_mode
        self._hangs = multiprocessing.current_process().name == hangs
        subprocess.Popen(["/bin/sh", "-c", DEAF_GAMES], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Begins an episode, or never returns."""
        while self._hangs:
            time.sleep(1.0)
        return super().reset(seed=seed, options=options)

    def render(self) -> Any:
        """Returns a black frame (H, W, 3), after a while."""
        time.sleep(_FRAME_SECONDS)
        return np.zeros((32, 32, 3), np.uint8)


gymnasium.register("Brood-v0", entry_point="tests.stress.brood:Brood")
