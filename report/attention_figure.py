"""Pictures of attention: heat maps over the frames an encoder saw, one row a step, as PNG and GIF.

Letters: N frames, T time (tubelets), S space (patches).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from avcil.errors import RunError
from avcil.files import replacing
from avcil.predict.attention_maps import ReducedMaps

TILE = 112  # pixels
GAP, MARGIN, LINE, BARS = 4, 12, 20, 30
FRAME_MS = 250
PAPER, INK, BAR = (255, 255, 255), (32, 32, 32), (159, 42, 99)
# Inferno (matplotlib, CC0) at even distances, dark to light.
COLOURS = np.array(
    [(0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21), (250, 193, 39)]
)
OF_FRAME, OF_HEAT = 0.25, 0.6  # opacity of the colour where attention is least, and what the most adds


@dataclass(frozen=True)
class AttentionRow:
    """One row of the picture: a line of text, and the maps of one step."""

    caption: str
    maps: ReducedMaps


@dataclass(frozen=True)
class AttentionFigure:
    """Everything that is drawn.

    Attributes:
        title: lines above the rows.
        frames: uint8 [N, height, width, 3], as the encoder saw them.
        rows: one a step, all of the same T and S.
    """

    title: Sequence[str]
    frames: np.ndarray
    rows: Sequence[AttentionRow]

    def __post_init__(self) -> None:
        time, space = self.rows[0].maps.spatial.shape
        if math.isqrt(space) ** 2 != space:
            raise RunError(f"the tokens of a frame are {space}, not a square grid: they cannot be drawn")
        if len(self.frames) % time:
            raise RunError(f"{len(self.frames)} frames do not divide into {time} tubelets: cannot be drawn")

    def write_png(self, path: Path) -> None:
        """A grid: the frames above, then a row of heat maps for each step with its temporal weights."""
        time, _ = self._spatial[0].shape
        per_tubelet = len(self.frames) // time
        page = _Page(2 * MARGIN + time * (TILE + GAP) - GAP, self.title, len(self.rows) + 1)
        middle = range(per_tubelet // 2, len(self.frames), per_tubelet)
        page.caption("what the encoder saw, one frame of each tubelet")
        page.tiles([_tile(self.frames[i]) for i in middle])
        page.skip(BARS)
        for row, spatial, temporal in zip(self.rows, self._spatial, self._temporal, strict=True):
            page.caption(row.caption)
            page.tiles([self._heat(self.frames[i], spatial[t]) for t, i in enumerate(middle)])
            page.bars((temporal - 1) / self._furthest)
        page.legend(*self._range, self._furthest)
        with replacing(path) as built:
            page.whole().save(built, format="PNG", optimize=True)

    def write_gif(self, path: Path) -> None:
        """The frames in turn: the picture and beside it the heat map of every step."""
        time, _ = self._spatial[0].shape
        images = []
        for number, frame in enumerate(self.frames):
            t = number * time // len(self.frames)
            page = _Page(2 * MARGIN + (len(self.rows) + 1) * (TILE + GAP) - GAP, (), 1)
            page.caption("picture", *(f"step {step}" for step in range(1, len(self.rows) + 1)))
            page.tiles([_tile(frame), *(self._heat(frame, spatial[t]) for spatial in self._spatial)])
            page.bars([None, *((temporal[t] - 1) / self._furthest for temporal in self._temporal)])
            images.append(page.whole())
        with replacing(path) as built:
            images[0].save(
                built, format="GIF", save_all=True, append_images=images[1:], duration=FRAME_MS, loop=0
            )

    @property
    def _spatial(self) -> list[np.ndarray]:
        """Weights as multiples of an even share, [T, S] a row."""
        return [row.maps.spatial.cpu().numpy() * row.maps.spatial.shape[1] for row in self.rows]

    @property
    def _temporal(self) -> list[np.ndarray]:
        """Weights as multiples of an even share, [T] a row."""
        return [row.maps.temporal.cpu().numpy() * len(row.maps.temporal) for row in self.rows]

    @property
    def _furthest(self) -> float:
        """How far the weights over time lie from an even share, at most."""
        return max(float(np.abs(one - 1).max()) for one in self._temporal) or 1.0

    @property
    def _range(self) -> tuple[float, float]:
        """The least and the largest weight of all rows: one scale for all, so that rows compare."""
        least, most = (float(pick([pick(one) for one in self._spatial])) for pick in (np.min, np.max))
        return least, max(most, least + 1e-6)

    def _heat(self, frame: np.ndarray, weights: np.ndarray) -> Image.Image:
        """One frame in grey under the colours of its weights [S]."""
        least, most = self._range
        side = math.isqrt(len(weights))
        scaled = ((weights - least) / (most - least)).reshape(side, side).astype(np.float32)
        heat = np.asarray(Image.fromarray(scaled).resize((TILE, TILE), Image.Resampling.BICUBIC)).clip(0, 1)
        grey = np.asarray(_tile(frame).convert("L"), dtype=float)[..., None]
        opacity = OF_FRAME + OF_HEAT * heat[..., None]
        return Image.fromarray((grey * (1 - opacity) + _coloured(heat) * opacity).astype(np.uint8))


class _Page:
    """A picture that is filled from top to bottom."""

    def __init__(self, width: int, title: Sequence[str], rows: int) -> None:
        height = 2 * MARGIN + LINE * (len(title) + 3) + rows * (LINE + TILE + BARS + GAP)
        self.image = Image.new("RGB", (width, height), PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self.font = ImageFont.load_default(13)
        self.y = MARGIN
        for line in title:
            self.caption(line)

    def caption(self, *words: str) -> None:
        """One line of text; several are one for each tile."""
        for number, text in enumerate(words):
            self.draw.text((MARGIN + number * (TILE + GAP), self.y), text, INK, self.font)
        self.y += LINE

    def tiles(self, images: Sequence[Image.Image]) -> None:
        for number, image in enumerate(images):
            self.image.paste(image, (MARGIN + number * (TILE + GAP), self.y))
        self.y += TILE

    def bars(self, shares: Iterable[float | None]) -> None:
        """A bar under each tile, up or down from the line of an even share; -1 to 1 is the full height."""
        middle, full = self.y + BARS // 2, BARS // 2 - GAP
        for number, share in enumerate(shares):
            left = MARGIN + number * (TILE + GAP)
            if share is not None:
                ends = sorted((middle, middle - full * share))
                self.draw.rectangle((left, ends[0], left + TILE - 1, ends[1]), BAR)
                self.draw.line((left, middle, left + TILE - 1, middle), INK)
        self.y += BARS + GAP

    def skip(self, pixels: int) -> None:
        self.y += pixels - LINE

    def legend(self, least: float, most: float, furthest: float) -> None:
        """The scales of colours and bars."""
        ramp = _coloured(np.linspace(0, 1, 2 * TILE)[None].repeat(LINE - 6, 0)).astype(np.uint8)
        self.image.paste(Image.fromarray(ramp), (MARGIN, self.y))
        space = f"in space: {least:.2f} to {most:.2f} times an even share of the frame"
        words = f"{space}; bars, in time: an even share, give or take {furthest:.1%} of it"
        self.draw.text((MARGIN + 2 * TILE + 8, self.y - 2), words, INK, self.font)
        self.y += LINE

    def whole(self) -> Image.Image:
        """What was filled."""
        return self.image.crop((0, 0, self.image.width, self.y + MARGIN))


def _tile(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(frame).resize((TILE, TILE), Image.Resampling.BICUBIC)


def _coloured(values: np.ndarray) -> np.ndarray:
    """Values 0 to 1 [...] as colours [..., 3]."""
    at = np.linspace(0, 1, len(COLOURS))
    return np.stack([np.interp(values, at, COLOURS[:, channel]) for channel in range(3)], axis=-1)
