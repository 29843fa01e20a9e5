"""Pictures of play: an episode's actions, played again in a process of its own, so that drawing holds up no instance.

An env that does not do the same again from the same seed and actions shows another play than the one that was recorded.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from envs.gym.adapter import GymAdapter, GymEnv, begin, draw_unseen
from envs.gym.values import step_result
from envs.gym.worker import Actions
from envs.imports import described
from envs.process.lifetime import described_end, end_process, start_following
from envs.process.messages import Inbox, send_object, socket_pair
from envs.spec import Array, BehaviorSpec

MAX_FRAMES = 200
_PIXELS = 320
_FRAMES_PER_SECOND = 10.0
_NO_ANSWER = ""


class Play(Protocol):
    """An episode that can be played again; picklable."""

    def frames(self) -> Iterator[Array]:
        """Plays it and yields its pictures, (H, W, 3) uint8."""


class Filming:
    """One episode on its way to becoming a moving picture, the GIF `file`."""

    def __init__(self, play: Play, file: Path) -> None:
        ours, theirs = socket_pair()
        self.inbox = Inbox(ours)
        self.file = file
        self.error: str | None = _NO_ANSWER
        """What went wrong, and where in the user's code; None once the file is there."""
        self._process = start_following("pictures", _run_filming, play, file, theirs)
        theirs.close()

    def take(self) -> bool:
        """Receives what the process has sent; returns whether it has ended."""
        for error in self.inbox.take():
            self.error = error
        if self.inbox.closed and self.error == _NO_ANSWER:
            self._process.join(0.1)  # its socket closes a moment before its exit status is there
            self.error = described_end(self._process.exitcode)
        return self.inbox.closed

    def close(self) -> None:
        """Ends the process."""
        self.inbox.socket.close()
        end_process(self._process)


def animated_gif(frames: Sequence[Array], frames_per_second: float) -> bytes:
    """Returns a GIF of `frames`, each (H, W, 3) uint8, that repeats; larger ones are shrunk to 320 pixels."""
    from PIL import Image

    images = [Image.fromarray(shrunk(frame)) for frame in frames]
    stream = io.BytesIO()
    # GIFs count in hundredths of a second, and viewers slow down what is faster than two of them.
    milliseconds = max(20, round(1000 / frames_per_second))
    images[0].save(
        stream, format="GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0, optimize=False
    )
    return stream.getvalue()


def shrunk(frame: Array) -> Array:
    """Returns a frame (H, W, 3) uint8, made smaller if a side has more than 320 pixels."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(frame))
    image.thumbnail((_PIXELS, _PIXELS))
    return np.asarray(image)


def picture(rendered: Any) -> Array:
    """Returns what `render()` returned, as a frame (H, W, 3) uint8; ValueError if it is none."""
    frame = np.asarray(rendered)
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"render() returned {type(rendered).__name__} of shape {frame.shape}, not (H, W, 3)")
    return frame.astype(np.uint8, copy=False)


@dataclass(frozen=True)
class GymPlay:
    """An episode of a Gymnasium env."""

    env: GymEnv
    spec: BehaviorSpec
    seed: int
    actions: Actions

    def frames(self) -> Iterator[Array]:
        """Plays it and yields its pictures."""
        env, actions = self.env.make(render=True), self.actions
        with contextlib.closing(env):
            adapter = GymAdapter(env, self.spec)
            begin(env, self.seed, actions.begun.values if actions.begun else {})
            yield picture(env.render())
            for continuous, discrete in zip(actions.continuous, actions.discrete):
                action = adapter.action(np.asarray(continuous, np.float32), np.asarray(discrete, np.int32))
                _, _, terminated, truncated, _ = step_result(env.step(action))
                yield picture(env.render())
                if terminated or truncated:
                    break


def _run_filming(play: Play, file: Path, control: socket.socket) -> None:
    if hasattr(os, "nice"):
        os.nice(10)
    error = None
    try:
        draw_unseen()
        gif = animated_gif(list(play.frames()), _FRAMES_PER_SECOND)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gif)
    except BaseException as raised:  # also sys.exit
        error = described(raised)
    with contextlib.suppress(ConnectionError):
        send_object(control, error)
