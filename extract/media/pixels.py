"""Decoded frames as they are meant to be shown: RGB, upright, unmirrored, with square pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

MAX_PIXEL_ASPECT = 8  # a wider or higher pixel is a mistake of the file


@dataclass(frozen=True)
class Picture:
    """Wanted frames uint8 [N, H, W, 3], upright, their times float64 [N], and where the track ends (s)."""

    frames: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    end_s: float


@dataclass(frozen=True)
class Orientation:
    """How to turn a coded frame: first transposed, then mirrored left to right, upside down, or both."""

    is_transposed: bool = False
    is_mirrored: bool = False
    is_inverted: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """Read a frame's display matrix a b u / c d v / x y w: x' = ax + cy, y' = bx + dy.

        ISO 14496-12 6.2.2. Other angles than quarter turns go to the nearest.
        """
        try:
            side_data: Any = frame.side_data  # PyAV's types call it a mapping of strings; it is one of `Type`
            matrix = side_data.get(SideDataType.DISPLAYMATRIX)
        except ValueError:  # PyAV before 19 stumbles over kinds of side data that it does not know
            turn_degrees = frame.rotation if abs(frame.rotation) <= 360 else 0
            return QUARTER_TURNS[round(turn_degrees / 90) % 4]
        if matrix is None:
            return cls()
        a, b, _, c, d, *_ = (int(value) for value in np.frombuffer(bytes(matrix), np.int32))
        if abs(a) + abs(d) >= abs(b) + abs(c):  # nearer to a half turn than to a quarter
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @property
    def is_reflection(self) -> bool:
        """Whether turning alone does not do."""
        return self.is_transposed ^ self.is_mirrored ^ self.is_inverted

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn uint8 [H, W, 3]."""
        turned = image.transpose(1, 0, 2) if self.is_transposed else image
        return turned[:: -1 if self.is_inverted else 1, :: -1 if self.is_mirrored else 1]


QUARTER_TURNS = (  # counter-clockwise
    Orientation(),
    Orientation(is_transposed=True, is_inverted=True),
    Orientation(is_mirrored=True, is_inverted=True),
    Orientation(is_transposed=True, is_mirrored=True),
)


def upright_rgb(frames: Sequence[VideoFrame], pixel_aspect: Fraction | None) -> NDArray[np.uint8]:
    """Convert frames to uint8 [N, H, W, 3] RGB, all in size and orientation of the first."""
    first, reformatter = frames[0], VideoReformatter()
    orientation = Orientation.of(first)
    images: dict[int, NDArray[np.uint8]] = {}
    for frame in frames:
        if id(frame) not in images:
            rgb = reformatter.reformat(frame, first.width, first.height, "rgb24").to_ndarray()
            images[id(frame)] = orientation.apply(np.asarray(rgb, np.uint8))
    return square_pixels(np.stack([images[id(frame)] for frame in frames]), pixel_aspect, orientation)


def square_pixels(
    images: NDArray[np.uint8], pixel_aspect: Fraction | None, orientation: Orientation
) -> NDArray[np.uint8]:
    """Stretch what was the coded width of uint8 [N, H, W, 3] so that pixels become square."""
    if not pixel_aspect or not 1 / MAX_PIXEL_ASPECT <= pixel_aspect <= MAX_PIXEL_ASPECT:
        return images
    height, width = images.shape[1:3]
    if orientation.is_transposed:
        size = (max(1, round(height * pixel_aspect)), width)
    else:
        size = (height, max(1, round(width * pixel_aspect)))
    if size == (height, width):
        return images
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    stretched = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)
    return stretched.permute(0, 2, 3, 1).contiguous().numpy()
