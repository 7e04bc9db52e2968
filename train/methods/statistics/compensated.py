"""Compensated ridge heads: what a regression leaves over of the new classes is regressed again (DS-AL, MMAL).

Letters: n clips, C classes, P features of a stream, K streams, M random features.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from avcil.train.config import require_weight
from avcil.train.methods.method import Method
from avcil.train.methods.statistics.features import blocks
from avcil.train.methods.statistics.head import by_settings, prepare
from avcil.train.methods.statistics.regression import RidgeSums, Trial, held_out
from avcil.train.methods.statistics.ridge import RidgeHead, RidgeSettings, one_hot

WEIGHTS = tuple(k / 10 for k in range(11))  # of a compensation that is chosen


@dataclass(frozen=True)
class CompensatedSettings(RidgeSettings):
    """Of both; the sums keep 8 M^2 bytes for the regression on all features and as many for every stream.

    `compensation` is what the second regressions weigh. None: the weights of least squared error, from 0 to 1
    in tenths, on the clips that choose the ridge, one for every stream.
    """

    compensation: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compensation is not None:
            require_weight("method.compensation", self.compensation)


@dataclass(frozen=True)
class DsalSettings(CompensatedSettings):
    """Of DS-AL (Zhuang et al., AAAI 2024), which weighs the compensation by 0.6 on CIFAR-100."""

    fusion: Literal["joint"] = "joint"
    compensation: float | None = 0.6


@dataclass(frozen=True)
class MmalSettings(CompensatedSettings):
    """Of MMAL (Yue et al., ACM MM 2024): each modality compensates the regression on both."""

    fusion: Literal["late"] = "late"


@dataclass(frozen=True)
class CompensatedHead(RidgeHead):
    """ReLU features of all streams side by side are regressed on, tanh features of each on what is left over.

    What is left over of a step's clips is taken when they come, in the columns of their classes; those of
    older classes are zero.
    """

    def inputs(self, streams: list[Tensor]) -> list[Tensor]:
        """All streams as one [n, P]."""
        return [torch.cat(streams, dim=1)]

    def compensating(self, streams: list[Tensor]) -> list[Tensor]:
        """Random features [n, M] of every stream for the second regressions."""
        return [self.random(x, index, torch.tanh) for index, x in enumerate(streams)]

    def mapped(self, streams: list[Tensor]) -> list[Tensor]:
        """Random features [n, M] of all streams, and of every one."""
        return super().mapped(streams) + self.compensating(streams)

    def solved(self, streams: list[Tensor], labels: Tensor, classes: int) -> dict[str, Tensor]:
        """All that is kept, with the maps of all regressions."""
        kept = super().solved(streams, labels, classes)
        ridge, bias = kept["0.ridge"], kept["0.bias"]
        new = torch.bincount(labels, minlength=classes) > 0
        size, device = self.settings.dimensions, labels.device
        sums = [RidgeSums.copied(kept, f"{k}", size, classes, device) for k in range(1, len(streams) + 1)]
        for *block, own in blocks([*streams, labels]):
            left = (one_hot(own, classes) - super().mapped(block)[0] @ kept["0.weight"].T) * new
            for one, f in zip(sums, self.compensating(block), strict=True):
                one.add_(f, left, torch.ones_like(f[:, 0]))
        if self.settings.compensation is None:
            kept["trials"] = self._trials(streams, labels, classes, ridge) + kept.get("trials", 0.0)
            shares = _least_squares(kept["trials"])
        else:
            shares = bias.new_full((len(streams),), self.settings.compensation)
        for k, (one, share) in enumerate(zip(sums, shares, strict=True), start=1):
            kept |= one.named(f"{k}") | {f"{k}.weight": share * one.solved(ridge), f"{k}.bias": bias}
        return kept

    def _trials(self, streams: list[Tensor], labels: Tensor, classes: int, ridge: Tensor) -> Tensor:
        """Products [K, K + 1] of compensations on clips held out: with each other, and with what is left."""
        (x,) = self.inputs(streams)
        rows, held = held_out(x, labels)
        targets = one_hot(labels, classes)
        left, said = Trial(self.random(x[rows], 0), self.random(x[held], 0)).fit(targets[rows], ridge)
        pairs = zip(
            self.compensating([one[rows] for one in streams]),
            self.compensating([one[held] for one in streams]),
            strict=True,
        )
        found = torch.stack([Trial(*pair).fit(left, ridge)[1].flatten() for pair in pairs])
        return found @ torch.cat([found, (targets[held] - said).flatten()[None]]).T


def _least_squares(trials: Tensor) -> Tensor:
    """The weights [K] of least squared error, by what `_trials` gives; zero where nothing was held out."""
    products, gains = trials[:, :-1], trials[:, -1]
    grid = trials.new_tensor(list(itertools.product(WEIGHTS, repeat=len(trials))))
    return grid[((grid @ products * grid).sum(dim=1) - 2 * grid @ gains).argmin()]


DSAL = Method(
    name="dsal",
    title="DS-AL",
    prepare=prepare,
    settings=DsalSettings,
    head=CompensatedHead,
    by_settings=by_settings,
)
MMAL = Method(
    name="mmal",
    title="MMAL",
    prepare=prepare,
    settings=MmalSettings,
    head=CompensatedHead,
    by_settings=by_settings,
)
