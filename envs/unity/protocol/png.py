"""Images that players send: PNGs, one after another, whose channels are an observation's.

Shapes: H, W the observation's; C its channels, P those of all its PNGs.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from envs.spec import Array


def read_pngs(data: bytes, shape: Sequence[int], mapping: Sequence[int]) -> Array:
    """Returns the image (H, W, C) uint8 of `shape` that is in `data`.

    Args:
        data: PNGs, one after another.
        shape: what is expected. Nothing of another size is decompressed.
        mapping: (P,) for each PNG channel the channel that it belongs to, or -1 for none: a channel is the mean of
            what belongs to it. Where empty, one channel is the grey mean of the first PNG, and several are the first C.

    Raises:
        ValueError: in words that go on from "it sent …".
    """
    height, width, channels = shape
    mapping = list(mapping)
    if len(mapping) > _MOST_PNG_CHANNELS * channels:  # all that it is for would be decompressed
        raise ValueError(f"a channel mapping of {len(mapping)} entries, not at most {_MOST_PNG_CHANNELS * channels}")
    files = _split(data)
    for file in files:
        if (file.height, file.width) != (height, width):
            raise ValueError(f"a PNG of {file.height} x {file.width} pixels")
    total = sum(file.channels for file in files)
    if mapping and len(mapping) != total:
        raise ValueError(f"a channel mapping of {len(mapping)} entries for {total} PNG channels")
    if mapping and {target for target in mapping if target >= 0} != set(range(channels)):
        raise ValueError(f"the channel mapping {mapping}")
    if not mapping and channels == 1:
        files = files[:1]
        mapping = [0] * files[0].channels
    if not mapping and total < channels:
        raise ValueError(f"PNGs with {total} channels")
    if not mapping:
        files = files[: -(-channels // 3)]
    planes = np.concatenate([_decompress(file) for file in files], axis=2)
    return _map(planes, mapping, channels) if mapping else np.ascontiguousarray(planes[..., :channels])


_MOST_PNG_CHANNELS = 4
"""For each channel of an observation: an RGBA picture whose mean is one grey channel."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}
"""By the colour type that a PNG declares: RGB and RGBA."""


class _File(NamedTuple):
    """One PNG, and what its header declares."""

    data: bytes
    width: int
    height: int
    channels: int


def _split(data: bytes) -> list[_File]:
    """Returns the PNGs in `data`: at least one."""
    files = []
    start = data.find(_SIGNATURE)
    while start >= 0:
        end = _end(data, start + len(_SIGNATURE))
        try:
            kind, width, height, depth, colour = struct.unpack_from(">4sIIBB", data, start + 12)
        except struct.error:
            raise ValueError("a PNG that is cut off") from None
        if kind != b"IHDR" or depth != 8 or colour not in _CHANNELS:
            raise ValueError(f"a PNG of {depth} bits and colour type {colour}, where 8-bit RGB is read")
        files.append(_File(data[start:end], width, height, _CHANNELS[colour]))
        start = data.find(_SIGNATURE, end)
    if not files:
        raise ValueError(f"{len(data)} bytes that hold no PNG")
    return files


def _end(data: bytes, chunk: int) -> int:
    """Returns where the PNG ends whose first chunk is at `chunk`."""
    while chunk + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, chunk)
        chunk += 12 + length
        if kind == b"IEND":
            break
    return chunk


def _decompress(file: _File) -> Array:
    """Returns (H, W, 3 or 4) uint8."""
    try:
        with Image.open(io.BytesIO(file.data), formats=["PNG"]) as image:
            if image.size != (file.width, file.height):  # a second header
                raise ValueError("it declares two sizes")
            return np.array(image)
    except Exception as error:  # Pillow raises many kinds
        raise ValueError(f"a PNG that cannot be read ({error})") from None


def _map(planes: Array, mapping: Sequence[int], channels: int) -> Array:
    """Turns (H, W, P) into (H, W, C)."""
    targets = np.array(mapping)
    sources = [np.flatnonzero(targets == channel) for channel in range(channels)]
    if all(len(source) == 1 for source in sources):
        return np.ascontiguousarray(planes[..., np.concatenate(sources)])
    means = [planes[..., source].mean(axis=2, dtype=np.float32) for source in sources]
    mapped: Array = np.rint(np.stack(means, axis=2)).astype(np.uint8)
    return mapped
