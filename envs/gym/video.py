"""Videos of episodes while they are played: a wrapper draws each step into a file, in the process that plays.

MP4 (H.264) where imageio-ffmpeg is installed, which is the extra `video`; else GIF, shrunk, long ones in time lapse.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from envs.gym.adapter import Env
from envs.gym.replay_gif import MAX_FRAMES, animated_gif, picture, shrunk
from envs.spec import Array, UserError

NUMBER = "video_number"
"""Key in the last step's `info`: the number of the episode's video, by which `video_file` finds it."""
WRAPPER = "envs.gym.video:Filmed"
SUFFIX = ".mp4" if find_spec("imageio_ffmpeg") else ".gif"


def video_file(folder: Path, number: float) -> Path:
    """Returns where `Filmed` writes the video with this number."""
    return folder / f"{number:.0f}{SUFFIX}"


class Filmed(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Writes a video of each episode into `folder`, whole by the end of its last step. Several may share a folder.

    Raises UserError if the env cannot draw `rgb_array`.
    """

    def __init__(self, env: Env, folder: str) -> None:
        modes = env.metadata.get("render_modes") or ()
        if "rgb_array" not in modes:
            name = env.spec.id if env.spec else type(env).__name__
            raise UserError(
                f"{name} cannot be filmed: that takes the render mode rgb_array, it has {', '.join(modes) or 'none'}"
            )
        super().__init__(env)
        self._folder = Path(folder)
        self._frames_per_second = float(env.metadata.get("render_fps") or 10)
        self._video: _MP4 | _GIF | None = None

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Begins a video."""
        self._end()
        result = self.env.reset(**kwargs)
        self._number = os.getpid() * 10**6 + next(_COUNT)
        file = video_file(self._folder, self._number)
        self._video = _MP4(file, self._frames_per_second) if SUFFIX == ".mp4" else _GIF(file, self._frames_per_second)
        self._video.add(picture(self.env.render()))
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Adds a frame; with the last one the file is there."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._video:
            self._video.add(picture(self.env.render()))
        if terminated or truncated:
            self._end()
            info = {**info, NUMBER: self._number}
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Ends the video that is open."""
        self._end()
        self.env.close()

    def _end(self) -> None:
        if self._video:
            self._video.close()
            self._video = None


class _MP4:
    """Hands each frame to ffmpeg at once, so that an episode's length takes no memory."""

    def __init__(self, file: Path, frames_per_second: float) -> None:
        self._file, self._frames_per_second = file, frames_per_second
        self._shape: tuple[int, ...] = ()
        self._ffmpeg: Generator[None, bytes | None, None] | None = None

    def add(self, frame: Array) -> None:
        if self._ffmpeg is None:
            from imageio_ffmpeg import write_frames

            self._shape = frame.shape
            size = tuple(side + side % 2 for side in frame.shape[1::-1])
            self._ffmpeg = write_frames(
                str(self._file),
                size,
                fps=self._frames_per_second,
                macro_block_size=2,
                ffmpeg_log_level="error",
                # One thread: more would take cores from those that play. What players need first stands first.
                output_params=["-threads", "1", "-movflags", "+faststart"],
            )
            self._ffmpeg.send(None)
        if frame.shape != self._shape:
            raise ValueError(f"render() returned a picture of shape {frame.shape} after one of {self._shape}")
        height, width, _ = frame.shape
        even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")  # H.264 halves its colours
        self._ffmpeg.send(np.ascontiguousarray(even).tobytes())

    def close(self) -> None:
        if self._ffmpeg is not None:
            self._ffmpeg.close()


class _GIF:
    """Keeps at most `MAX_FRAMES`: of longer episodes every second, every fourth, ... frame, and the last."""

    def __init__(self, file: Path, frames_per_second: float) -> None:
        self._file, self._frames_per_second = file, frames_per_second
        self._kept: list[Array] = []
        self._last: Array
        self._seen, self._every = 0, 1

    def add(self, frame: Array) -> None:
        self._last = shrunk(frame)
        if self._seen % self._every == 0:
            self._kept.append(self._last)
        self._seen += 1
        if len(self._kept) == MAX_FRAMES:
            self._kept, self._every = self._kept[::2], 2 * self._every

    def close(self) -> None:
        frames = self._kept if self._kept[-1] is self._last else [*self._kept, self._last]
        self._file.write_bytes(animated_gif(frames, self._frames_per_second))


_COUNT = itertools.count()
