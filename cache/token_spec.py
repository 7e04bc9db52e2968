"""The shapes and number types of tokens, and what is kept of visual tokens that are reduced.

Letters: T time, S space, D width, N side of a square grid, k number of statistics.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from avcil.errors import CacheError

DTYPES: dict[str, np.dtype[Any]] = {  # little-endian on every machine
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
    "int8": np.dtype("i1"),  # visual tokens only, with a scale each: see `row.quantise`
}
SCALE_DTYPE = np.dtype("<f2")
MAX_AXIS, MAX_VALUES = 1 << 16, 1 << 27  # many times what encoders give of a clip
Statistics = Literal["mean", "mean-std", "mean-std-max"]


@dataclass(frozen=True)
class TokenSpec:
    """Shape and number type of one clip's tokens; an int8 token of width D has a float16 scale besides.

    Raises:
        CacheError: an empty shape, an axis below 1 or above `MAX_AXIS`, more than `MAX_VALUES` numbers, or a
            dtype other than those of `DTYPES`.
    """

    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        if not self.shape or any(type(n) is not int or n < 1 for n in self.shape):
            raise CacheError(f"token shape {self.shape!r}: expected positive whole numbers")
        if max(self.shape) > MAX_AXIS or math.prod(self.shape) > MAX_VALUES:
            raise CacheError(
                f"token shape {list(self.shape)}: expected {MAX_VALUES} numbers at most, and no axis above "
                f"{MAX_AXIS}"
            )
        if self.dtype not in DTYPES:
            raise CacheError(f"token dtype {self.dtype!r}: expected one of {', '.join(DTYPES)}")

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The number type on disk."""
        return DTYPES[self.dtype]

    @property
    def scale_shape(self) -> tuple[int, ...] | None:
        """Shape of one clip's scales, None where tokens have none."""
        return self.shape[:-1] if self.dtype == "int8" else None

    @property
    def row_bytes(self) -> int:
        """Bytes of one clip's tokens, with their scales."""
        scales = 0 if self.scale_shape is None else math.prod(self.scale_shape)
        return math.prod(self.shape) * self.numpy_dtype.itemsize + scales * SCALE_DTYPE.itemsize


@dataclass(frozen=True)
class Reduction:
    """What a cache keeps of an encoder's visual tokens; `spec` is what becomes of them.

    Attributes:
        of: the encoder's tokens [T, S, D] and the number type that they are rounded to first.
        grid: N, where the S places, a square grid row by row, are averaged to N x N; None: they stay.
        statistics: the numbers kept of every channel over time and space, as one token each: mean, standard
            deviation of the population, maximum. None: the tokens stay.

    Raises:
        CacheError: neither is given, the statistics are unknown, or N does not divide the side of the grid.
    """

    of: TokenSpec
    grid: int | None = None
    statistics: Statistics | None = None

    def __post_init__(self) -> None:
        if self.grid is None and self.statistics is None:
            raise CacheError("a reduction of visual tokens needs a grid or statistics")
        if self.statistics is not None and self.statistics not in get_args(Statistics):
            allowed = ", ".join(get_args(Statistics))
            raise CacheError(f"statistics {self.statistics!r} of visual tokens: expected one of {allowed}")
        if len(self.of.shape) != 3:
            raise CacheError(f"visual token shape {self.of.shape}: expected (T, S, D)")
        if self.grid is not None:
            places = self.of.shape[1]
            side = math.isqrt(places)
            if side * side != places:
                raise CacheError(f"grid {self.grid}: {places} places of visual tokens are no square grid")
            if type(self.grid) is not int or not 1 <= self.grid < side or side % self.grid:
                smaller = [n for n in range(1, side) if side % n == 0]
                raise CacheError(
                    f"grid {self.grid}: visual tokens are a grid of {side} x {side}; "
                    f"choose {' or '.join(map(str, smaller)) or 'no grid'}"
                )

    @property
    def spec(self) -> TokenSpec:
        """What a cache holds: [T, N * N, D] in the tokens' own number type, or statistics [1, k, D]."""
        time, space, width = self.of.shape
        if self.statistics is not None:
            return TokenSpec((1, len(self.names), width), "float32")
        return TokenSpec((time, space if self.grid is None else self.grid**2, width), self.of.dtype)

    @property
    def names(self) -> tuple[str, ...]:
        """The statistics in the order of their tokens; empty where tokens stay."""
        return () if self.statistics is None else tuple(self.statistics.split("-"))

    def __str__(self) -> str:
        """In words, for people."""
        words = [] if self.grid is None else [f"averaged to a grid of {self.grid} x {self.grid}"]
        if self.statistics is not None:
            words.append(f"{', '.join(self.names)} over time and space")
        return f"{'; '.join(words)} of {list(self.of.shape)} {self.of.dtype}"
