"""Owns the fixed position codes of the encoders; pure functions, computed in float64, given as float32."""

from __future__ import annotations

import torch
from torch import Tensor


def sine_cosine(n: int, width: int) -> Tensor:
    """Codes [n, width] of "Attention is all you need" (arXiv 1706.03762, 3.5), sines and cosines interleaved.

    code[p, 2i] = sin(p / 10000^(2i/width)), code[p, 2i+1] = cos of the same; VideoMAE numbers its tokens p in
    order (t, h, w).
    """
    angles = _angles(torch.arange(n), width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).float()


def sine_cosine_2d(grid: tuple[int, int], width: int) -> Tensor:
    """Codes [1 + rows * columns, width] of a grid in row-major order; the first, for the class token, is 0.

    The first half of the width codes the column, the second the row, each as all sines, then all cosines,
    with frequencies 10000^(-i / (width / 4)).
    """
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    halves = []
    for place in (columns, rows):
        angles = _angles(place.flatten(), width // 2)
        halves += [angles.sin(), angles.cos()]
    codes = torch.cat(halves, dim=1).float()
    return torch.cat([torch.zeros(1, width), codes])


def _angles(places: Tensor, width: int) -> Tensor:
    frequencies = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return places.double()[:, None] * frequencies
