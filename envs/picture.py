"""Pictures of play: an episode's actions, played again in a process of its own, so that rendering holds up no instance.

An env that does not do the same again from the same seed and actions shows another play than the one that was recorded.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import traceback
from multiprocessing import get_context
from typing import Any

import numpy as np

from envs.framing import Inbox, send_object, socket_pair
from envs.gymnasium import GymAdapter, GymEnv
from envs.spec import Array, BehaviorSpec
from envs.worker import Actions, follow_parent

MAX_FRAMES = 200


class Filming:
    """One episode on its way to becoming a list of frames."""

    def __init__(self, env: GymEnv, spec: BehaviorSpec, seed: int, actions: Actions) -> None:
        ours, theirs = socket_pair()
        self.inbox = Inbox(ours)
        self.frames: list[Array] = []
        """(H, W, 3) uint8 each."""
        self.error: str | None = None
        """The traceback, if rendering failed."""
        tie = threading.current_thread() is threading.main_thread()
        self._process = get_context("spawn").Process(
            target=_run_filming, args=(env, spec, seed, actions, theirs, tie), name="pictures", daemon=True
        )
        self._process.start()
        theirs.close()

    def take(self) -> bool:
        """Takes the frames that have come; True once there are no more to come."""
        for content in self.inbox.take():
            if isinstance(content, str):
                self.error = content
            else:
                self.frames.append(content)
        if self.inbox.closed and not self.frames and self.error is None:
            self.error = "the process that draws pictures ended without one"
        return self.inbox.closed

    def close(self) -> None:
        """Ends the process."""
        self.inbox.socket.close()
        self._process.kill()
        self._process.join()


def _run_filming(
    recipe: GymEnv, spec: BehaviorSpec, seed: int, actions: Actions, frames: socket.socket, tie: bool
) -> None:
    follow_parent(tie)
    if hasattr(os, "nice"):
        os.nice(10)
    with contextlib.suppress(ConnectionError):
        try:
            env = recipe.make(render=True)
            adapter = GymAdapter(env, spec)
            env.reset(seed=seed)
            send_object(frames, _picture(env.render()))
            for continuous, discrete in zip(*actions):
                action = adapter.action(np.asarray(continuous, np.float32), np.asarray(discrete, np.int32))
                _, _, terminated, truncated, _ = env.step(action)
                send_object(frames, _picture(env.render()))
                if terminated or truncated:
                    break
            env.close()
        except ConnectionError:
            raise
        except Exception:
            send_object(frames, traceback.format_exc())


def _picture(rendered: Any) -> Array:
    picture = np.asarray(rendered)
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"render() returned {type(rendered).__name__} of shape {picture.shape}, not (H, W, 3)")
    return picture.astype(np.uint8, copy=False)
