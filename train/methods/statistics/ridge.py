"""Ridge heads: one-hot classes by ridge regression on random ReLU features (RanPAC, ACIL, AIR).

Letters: n clips, C classes, P features of a stream, M random features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.train.config import require, require_weight
from avcil.train.methods.method import Method
from avcil.train.methods.statistics.features import Features, Fusion, blocks
from avcil.train.methods.statistics.head import StatisticsHead, by_settings, prepare
from avcil.train.methods.statistics.regression import (
    RidgeSums,
    Trial,
    best_ridge,
    held_out,
    random_features,
)

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class RidgeSettings:
    """Of ACIL (Zhuang et al., NeurIPS 2022) and AIR (Fang et al. 2024).

    `dimensions` is M; the sums keep 8 M^2 bytes a stream. `ridge` is that of features of about unit length: 1
    is what a clip adds to G along itself, so no clip is interpolated. 0: of 1e-8 to 1e8 the one of least
    squared error on a held-out fifth of every step's clips, the errors of all steps so far added up, after a
    fit of the other four fifths of at most 2000 clips of the step.
    """

    features: Features = "mean-std"
    fusion: Fusion = "joint"
    dimensions: int = 4096
    ridge: float = 1.0

    def __post_init__(self) -> None:
        require(self.dimensions >= 1, f"method.dimensions = {self.dimensions}; it must be at least 1")
        require_weight("method.ridge", self.ridge)


@dataclass(frozen=True)
class RanpacSettings(RidgeSettings):
    """Of RanPAC (McDonnell et al., NeurIPS 2023), in which the last step alone chooses the ridge."""

    dimensions: int = 10_000
    ridge: float = 0.0


@dataclass(frozen=True)
class RidgeHead(StatisticsHead):
    """Scores are the ridge regression of one-hot classes on random ReLU features: f (G + ridge I)^-1 Q.

    A step holds the sums before it, those after it and two matrices of the size of G at most.

    Attributes:
        balanced: a clip weighs 1 / n_c, n_c the clips of its class, which has to come whole with one step.
    """

    balanced: ClassVar[bool] = False

    def inputs(self, streams: list[Tensor]) -> list[Tensor]:
        """What is regressed on, apart; here the streams."""
        return streams

    def random(self, x: Tensor, index: int, activation: Activation = torch.relu) -> Tensor:
        """Random features [n, M] of x [n, P], the input `index`."""
        return random_features(x, activation, self.settings.dimensions, int(self.kept["seed"]) + index)

    def mapped(self, streams: list[Tensor]) -> list[Tensor]:
        """Random features [n, M] of every input."""
        return [self.random(x, index) for index, x in enumerate(self.inputs(streams))]

    def with_clips(self, streams: list[Tensor], labels: Tensor, classes: int) -> dict[str, Tensor]:
        """All that is kept, with clips in the sums."""
        kept, weights = dict(self.kept), self._class_weights(labels, classes)
        for index, x in enumerate(self.inputs(streams)):
            sums = RidgeSums.copied(kept, f"{index}", self.settings.dimensions, classes, x.device)
            for some, own in blocks([x, labels]):
                sums.add_(self.random(some, index), one_hot(own, classes), weights[own])
            kept |= sums.named(f"{index}")
        count = torch.bincount(labels, minlength=classes)
        before = kept.get("count", count[:0])
        return kept | {"count": count + F.pad(before, (0, classes - len(before)))}

    def solved(self, streams: list[Tensor], labels: Tensor, classes: int) -> dict[str, Tensor]:
        """All that is kept, with a map for every input."""
        kept = dict(self.kept)
        mean_weight = (kept["count"] > 0).sum() / kept["count"].sum() if self.balanced else 1.0
        for index, x in enumerate(self.inputs(streams)):
            ridge = x.new_tensor(self.settings.ridge)
            if not self.settings.ridge:
                errors = self._errors(x, labels, index, classes)
                kept[f"{index}.errors"] = errors + kept.get(f"{index}.errors", 0.0)
                ridge = best_ridge(kept[f"{index}.errors"])
            weight = RidgeSums.restored(kept, f"{index}").solved(ridge * mean_weight)
            kept |= {
                f"{index}.ridge": ridge,
                f"{index}.weight": weight,
                f"{index}.bias": x.new_zeros(classes),
            }
        return kept

    def _errors(self, x: Tensor, labels: Tensor, index: int, classes: int) -> Tensor:
        """Squared errors of every ridge on those clips of the step that are held out."""
        rows, held = held_out(x, labels)
        targets, weights = one_hot(labels, classes), self._class_weights(labels[rows], classes)
        weights = weights * len(rows) / weights[labels[rows]].sum()
        root = weights[labels[rows]].sqrt()[:, None]
        trial = Trial(self.random(x[rows], index) * root, self.random(x[held], index))
        return trial.errors(targets[rows] * root, targets[held], weights[labels[held]])

    def _class_weights(self, labels: Tensor, classes: int) -> Tensor:
        """What a clip of every class [C] weighs."""
        count = torch.bincount(labels, minlength=classes).double()
        return 1 / count.clamp(min=1) if self.balanced else torch.ones_like(count)


@dataclass(frozen=True)
class BalancedRidgeHead(RidgeHead):
    """All classes weigh the same."""

    balanced: ClassVar[bool] = True


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Targets [n, C]."""
    return F.one_hot(labels, classes).double()


RANPAC = Method(
    name="ranpac",
    title="RanPAC",
    prepare=prepare,
    settings=RanpacSettings,
    head=RidgeHead,
    by_settings=by_settings,
)
ACIL = Method(
    name="acil",
    title="ACIL",
    prepare=prepare,
    settings=RidgeSettings,
    head=RidgeHead,
    by_settings=by_settings,
)
AIR = Method(
    name="air",
    title="AIR",
    prepare=prepare,
    settings=RidgeSettings,
    head=BalancedRidgeHead,
    by_settings=by_settings,
)
