"""Owns what one row of a shard is: its parts, in which datasets they lie, and its checksums. Touches no file.

The checksum `crc32` of a row covers its id, its visual tokens, their scales if there are any, and its audio
token. 0 says "not written"; a checksum that happens to be 0 is stored as 1. `audio_crc32` covers the id and
the audio token alone, so that sound can be read and checked without the 700 times larger picture.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from avcil.cache.checksum import crc32
from avcil.cache.quantise import SCALE_DTYPE
from avcil.cache.schema import CacheInfo

Layout = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]  # name -> shape, number type
CRC_DTYPE = np.dtype("<u4")


def parts(info: CacheInfo) -> Layout:
    """The parts of one clip's row, in the order of its checksum; named as in `Tokens`."""
    visual, audio = info.visual, info.audio
    scale: Layout = {} if visual.scale_shape is None else {"visual_scale": (visual.scale_shape, SCALE_DTYPE)}
    return {"visual": (visual.shape, visual.numpy_dtype), **scale, "audio": (audio.shape, audio.numpy_dtype)}


def datasets(n: int, info: CacheInfo) -> Layout:
    """The datasets that hold `n` rows in a shard, all but the ids; T and S are one axis."""
    time, space, _ = info.visual.shape
    stored: Layout = {
        "crc32": ((n,), CRC_DTYPE),  # first: there HDF5 aligns it, so that no checksum lies across two pages
        "audio_crc32": ((n,), CRC_DTYPE),
    }
    for name, (shape, dtype) in reversed(parts(info).items()):
        flat = (time * space, *shape[2:]) if name.startswith("visual") else shape
        stored[name] = (n, *flat), dtype
    return stored


def row_crc(clip_id: str, row: Mapping[str, np.ndarray]) -> int:
    """The checksum of a row; its arrays in the order of `parts`, contiguous, as on disk."""
    crc = crc32(clip_id.encode("utf-8"))
    for part in row.values():
        crc = crc32(part.data, crc)
    return crc or 1


def audio_crc(clip_id: str, audio: np.ndarray) -> int:
    """The checksum of a row's audio token."""
    return row_crc(clip_id, {"audio": audio})
