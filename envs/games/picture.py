"""What the games' pictures share. Needs Pillow, so it is imported only for rendering."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageFont

from envs.spec import Array

RGB = tuple[int, int, int]


def vertical_gradient(size: tuple[int, int], top: RGB, bottom: RGB) -> Image.Image:
    """Returns an image that fades from one colour into another."""
    share = np.linspace(0, 1, size[1])[:, None, None]
    column = np.asarray(top) * (1 - share) + np.asarray(bottom) * share
    return Image.fromarray(np.broadcast_to(column, (size[1], size[0], 3)).astype(np.uint8))


@cache
def font(size: int) -> Any:
    """Pillow's own font; in versions before 10.1 it has one size only."""
    try:
        return ImageFont.load_default(size)
    except TypeError:
        return ImageFont.load_default()


def finish(picture: Image.Image, fine: int) -> Array:
    """Returns the picture made `fine` times smaller, which smooths its edges: (H, W, 3) uint8."""
    small = picture.resize((picture.width // fine, picture.height // fine), Image.Resampling.BOX)
    pixels: Array = np.array(small.convert("RGB"), np.uint8)
    return pixels
