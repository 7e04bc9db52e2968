"""One row of a shard, the tokens of one clip: their number types, parts and checksums.

An int8 token of width D is D whole numbers from -127 to 127 and one float16 scale: value = number times
scale. The scale is the token's largest magnitude / 127, rounded up, so that no number is clipped and a value
is off by half a scale at most.

The checksum `crc32` of a row, a CRC-32 (ISO-HDLC, that of zlib), covers its id, its visual tokens, their
scales if there are any, and its audio token. 0 means "not written"; a checksum that happens to be 0 is stored
as 1. `audio_crc32` covers the id and the audio token alone, so that sound can be read and checked without the
700 times larger picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from avcil.cache.schema import CacheInfo
from avcil.cache.token_spec import SCALE_DTYPE, TokenSpec
from avcil.errors import CacheError

try:  # by carry-less multiplication; zlib's gives the same at 2 to 3 GB/s
    from zlib_ng.zlib_ng import crc32 as crc32
except ImportError:  # no wheel for this platform
    from zlib import crc32 as crc32

Layout = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]  # name -> shape, number type
Row = dict[str, np.ndarray]  # the parts of one clip's row by name, in the order of its checksum
LIMIT = 127
LARGEST = LIMIT * float(np.finfo(SCALE_DTYPE).max)  # the largest magnitude that int8 tokens can have


@dataclass(frozen=True)
class Tokens:
    """The tokens of n clips: `visual` [n, T, S, D] and `audio` [n, D], in the cache's number types.

    Where `visual` is int8, `visual_scale` [n, T, S] float16 goes with it: value = visual * visual_scale.
    """

    visual: np.ndarray
    audio: np.ndarray
    visual_scale: np.ndarray | None = None

    def clip(self, k: int) -> "Tokens":
        """Those of clip k alone, n = 1; views."""
        scale = None if self.visual_scale is None else self.visual_scale[k : k + 1]
        return Tokens(self.visual[k : k + 1], self.audio[k : k + 1], scale)

    def widened(self) -> np.ndarray:
        """The visual tokens in float32, [n, T, S, D], whatever they are stored in."""
        if self.visual_scale is None:
            return self.visual.astype(np.float32)
        return widen(self.visual, self.visual_scale)


def parts(info: CacheInfo) -> Layout:
    """The parts of one clip's row, in the order of its checksum; named as in `Tokens`."""
    visual, audio = info.visual, info.audio
    scale: Layout = {} if visual.scale_shape is None else {"visual_scale": (visual.scale_shape, SCALE_DTYPE)}
    return {"visual": (visual.shape, visual.numpy_dtype), **scale, "audio": (audio.shape, audio.numpy_dtype)}


def row_crc(clip_id: str, row: Mapping[str, np.ndarray]) -> int:
    """The checksum of a row, or of its audio token alone; contiguous arrays in the order of `parts`."""
    crc = crc32(clip_id.encode("utf-8"))
    for part in row.values():
        crc = crc32(part.data, crc)
    return crc or 1


def as_row(clip_id: str, visual: np.ndarray, audio: np.ndarray, info: CacheInfo) -> Row:
    """Tokens [T, S, D] and [D] of any floating-point type, cast to the types of a cache like `info`.

    Raises:
        CacheError: a number that is not finite or overflows the cache's type; names the clip.
    """
    row = _cast(visual, info.visual, clip_id, "visual") | _cast(audio, info.audio, clip_id, "audio")
    return {name: row[name] for name in parts(info)}


def as_stored(clip_id: str, visual: np.ndarray, audio: np.ndarray, info: CacheInfo) -> Tokens:
    """The tokens that a cache like `info` would give back of one clip, n = 1; otherwise as `as_row`."""
    return Tokens(**{name: part[None] for name, part in as_row(clip_id, visual, audio, info).items()})


def quantise(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [..., D] of any floating-point type as int8 [..., D] and float16 scales [...].

    A token of zeros has the scale 0. The scale is infinite or NaN where the token is, or where it exceeds
    `LARGEST`: who stores it must refuse that.
    """
    wide = tokens.astype(np.float32)  # a copy: worked on in place below
    largest = np.maximum(wide.max(-1), -wide.min(-1)) / LIMIT
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scale = largest.astype(SCALE_DTYPE)
        scale = np.where(scale < largest, np.nextafter(scale, SCALE_DTYPE.type(np.inf)), scale)
        divisor = scale.astype(np.float32)
        wide /= np.where(divisor > 0, divisor, 1)[..., None]
        return np.rint(wide, out=wide).astype(np.int8), scale


def widen(numbers: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The values [..., D] float32 of int8 tokens [..., D] with scales [...]."""
    return numbers * scale[..., None].astype(np.float32)


def _cast(tokens: np.ndarray, spec: TokenSpec, clip_id: str, name: str) -> Row:
    """Tokens [..., D] of one clip as they lie on the disk, by dataset."""
    if spec.scale_shape is not None:
        numbers, floats = quantise(tokens)
        row = {name: numbers, f"{name}_scale": floats}
    else:
        with np.errstate(over="ignore"):
            floats = np.ascontiguousarray(tokens, dtype=spec.numpy_dtype)
        row = {name: floats}
    if not _all_finite(floats):
        why = f"overflow {spec.dtype}" if np.isfinite(tokens).all() else "are not finite"
        raise CacheError(f"tokens of clip {clip_id!r} {why}")
    return row


def _all_finite(floats: np.ndarray) -> bool:
    # Without its sign bit, a float is finite if its bits stay below those of infinity: 20 times faster than
    # np.isfinite on float16.
    kind = np.dtype(f"<u{floats.itemsize}")
    infinity = np.array(np.inf, floats.dtype).view(kind)
    return bool((floats.view(kind) & (np.iinfo(kind).max >> 1)).max() < infinity)
