"""What a video holds, by one call of ffmpeg that ends when it is done; imageio-ffmpeg's reader waits for seconds."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from envs.spec import Array


class Decoded(NamedTuple):
    codec: str
    frames_per_second: float
    frames: Array
    """(T, H, W, 3) uint8."""


def decoded(file: Path) -> Decoded:
    """All frames of an MP4; skips the test where imageio-ffmpeg is missing."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    command = [ffmpeg, "-i", str(file), "-pix_fmt", "rgb24", "-vcodec", "rawvideo", "-f", "image2pipe", "-"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    said = re.search(r"Video: (\w+).*?, (\d+)x(\d+).*?, ([\d.]+) fps", done.stderr.decode())
    assert said, done.stderr
    codec, width, height, rate = said.groups()
    return Decoded(codec, float(rate), np.frombuffer(done.stdout, np.uint8).reshape(-1, int(height), int(width), 3))
