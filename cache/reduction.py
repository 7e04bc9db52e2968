"""The reduction of one clip's visual tokens: a coarser grid, or statistics over time and space.

Letters: T time, S space, D width, N side of a square grid, k number of statistics.
"""

import math

import numpy as np

from avcil.cache.row import quantise, widen
from avcil.cache.token_spec import DTYPES, Reduction


def reduced(visual: np.ndarray, reduction: Reduction) -> np.ndarray:
    """What `reduction` keeps of tokens [T, S, D] that a cache like `reduction.of` gives back, float32.

    Where statistics follow a grid, its means are rounded to the number type too: the result is that of a
    cache on this grid of which statistics are taken.
    """
    if reduction.grid is not None:
        visual = coarser(visual, reduction.grid)
        if reduction.statistics is not None:
            visual = rounded(visual, reduction.of.dtype)
    return visual if reduction.statistics is None else statistics(visual, reduction.names)


def coarser(visual: np.ndarray, grid: int) -> np.ndarray:
    """The means [T, N * N, D] of neighbouring places of float32 tokens [T, S, D], S a square row by row."""
    time, space, width = visual.shape
    block = math.isqrt(space) // grid
    blocks = visual.reshape(time, grid, block, grid, block, width)
    return blocks.mean(axis=(2, 4)).reshape(time, grid * grid, width)


def statistics(visual: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Statistics [1, k, D] float32 over T and S of float32 tokens [T, S, D], computed in float64.

    `names` are `mean`, `std` (of the population: the sum of squares divided by T S) and `max`.
    """
    wide = visual.reshape(-1, visual.shape[-1])
    mean = wide.mean(axis=0, dtype=np.float64)
    values = {"mean": mean}
    if "std" in names:
        values["std"] = np.sqrt(np.square(wide - mean).mean(axis=0))
    if "max" in names:
        values["max"] = wide.max(axis=0)
    return np.stack([values[name] for name in names])[None].astype(np.float32)


def rounded(tokens: np.ndarray, dtype: str) -> np.ndarray:
    """Tokens [..., D] as a cache of this number type gives them back, float32; infinity if too large."""
    if dtype == "int8":
        return widen(*quantise(tokens))
    with np.errstate(over="ignore"):
        return tokens.astype(DTYPES[dtype]).astype(np.float32)
