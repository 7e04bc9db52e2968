"""Owns int8 tokens with a scale each: to them and back. Knows numbers only.

A token of width D is stored as D whole numbers from -127 to 127 and one float16 scale: value = number times
scale. The scale is the token's largest magnitude / 127, rounded up, so that no number is clipped and a value
is off by half a scale at most.
"""

import numpy as np

LIMIT = 127
SCALE_DTYPE = np.dtype("<f2")
LARGEST = LIMIT * float(np.finfo(SCALE_DTYPE).max)  # the largest magnitude that can be stored


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
