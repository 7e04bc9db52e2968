"""The default statistics head: LDA of least expected error, or kernel LDA where that is clearly better.

Everything is chosen on training clips of the first step, nothing on clips that were held out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from avcil.train.config import require_weight
from avcil.train.methods.method import Method
from avcil.train.methods.statistics.discriminant import LeastError
from avcil.train.methods.statistics.features import Features
from avcil.train.methods.statistics.gaussian import (
    GaussianHead,
    KernelLda,
    KldaSettings,
    SldaSettings,
    StreamingLda,
)
from avcil.train.methods.statistics.head import StatisticsHead, by_settings, prepare

SQUASH = 0.5  # tanh(x / 2) is straight within two deviations and tames what lies beyond
FOLDS = 5
KERNEL_DIMENSIONS = 1000


@dataclass(frozen=True)
class BestSettings:
    """Sound and picture apart (`late`), their log-posteriors added.

    Features are squashed where that lowers the expected error on the first step's clips, and where these are
    too few to tell. Kernel LDA on both together takes over if, in five-fold cross-validation of the same
    clips, it is right more often by `margin` standard errors: it alone sees classes that are pairs of a sound
    and a picture of which neither says anything by itself.
    """

    features: Features = "mean-std"
    fusion: Literal["late"] = "late"
    margin: float = 2.0

    def __post_init__(self) -> None:
        require_weight("method.margin", self.margin)


@dataclass(frozen=True)
class BestHead(GaussianHead):
    """One of two heads, chosen with the first clips: `kept["is_kernel"]`, `kept["squash"]`."""

    def begun(self, streams: list[Tensor], labels: Tensor, classes: int, seed: int) -> StatisticsHead:
        """The head before its first clips, which choose it."""
        lda = self._lda(self._squash(streams, labels, classes, seed))
        joint = [torch.cat(streams, dim=1)]
        is_kernel = _is_better(
            (self._kernel(), joint), (lda, streams), labels, classes, seed, self.settings.margin
        )
        chosen = self._kernel() if is_kernel else lda
        begun = chosen.begun(joint if is_kernel else streams, labels, classes, seed)
        choice = {
            "is_kernel": torch.tensor(is_kernel),
            "squash": torch.tensor(lda.settings.squash, dtype=torch.float64),
        }
        return replace(self, kept=dict(begun.kept) | choice)

    def standardised(self, streams: list[Tensor]) -> list[Tensor]:
        """The streams, side by side as one for the kernel."""
        return self._chosen().standardised([torch.cat(streams, dim=1)] if self.kept["is_kernel"] else streams)

    def mapped(self, streams: list[Tensor]) -> list[Tensor]:
        """What the chosen head maps them to."""
        return self._chosen().mapped(streams)

    def solved(self, streams: list[Tensor], labels: Tensor, classes: int) -> dict[str, Tensor]:
        """All that is kept, with the chosen head's discriminants."""
        return self._chosen().solved(streams, labels, classes)

    def _chosen(self) -> GaussianHead:
        head = self._kernel() if self.kept["is_kernel"] else self._lda(float(self.kept["squash"]))
        return replace(head, kept=self.kept)

    def _kernel(self) -> KernelLda:
        return KernelLda(settings=KldaSettings(features=self.settings.features, dimensions=KERNEL_DIMENSIONS))

    def _lda(self, squash: float) -> StreamingLda:
        settings = SldaSettings(
            features=self.settings.features,
            fusion="late",
            shrinkage="least-error",
            shrink_means=True,
            squash=squash,
        )
        return StreamingLda(settings=settings)

    def _squash(self, streams: list[Tensor], labels: Tensor, classes: int, seed: int) -> float:
        errors = {}
        for squash in (SQUASH, 0.0):
            learned = self._lda(squash).learned(streams, labels, classes, seed)
            assert isinstance(learned, StreamingLda)
            moments = learned.moments()
            if moments[0].degrees < 2:
                return SQUASH
            errors[squash] = LeastError(moments, shrink_means=True).chosen[1]
        return min(errors, key=lambda squash: errors[squash])


def _is_better(
    one: tuple[StatisticsHead, list[Tensor]],
    other: tuple[StatisticsHead, list[Tensor]],
    labels: Tensor,
    classes: int,
    seed: int,
    margin: float,
) -> bool:
    """Whether one head on its streams is right more often than another, by `margin` standard errors."""
    folds = _folds(labels, classes, seed)
    if folds is None:
        return False
    only_one = only_other = 0
    for fold in range(FOLDS):
        fitted, held_out = folds != fold, folds == fold
        right = [
            head.learned([x[fitted] for x in own], labels[fitted], classes, seed)
            .scores_of([x[held_out] for x in own])
            .argmax(dim=1)
            == labels[held_out]
            for head, own in (one, other)
        ]
        only_one += int((right[0] & ~right[1]).sum())
        only_other += int((right[1] & ~right[0]).sum())
    return only_one - only_other > margin * max(1, only_one + only_other) ** 0.5


def _folds(labels: Tensor, classes: int, seed: int) -> Tensor | None:
    """The fold [n] of every clip, each class spread over all; None where a class has a single clip."""
    generator = torch.Generator().manual_seed(seed)
    folds = torch.empty_like(labels)
    for column in range(classes):
        rows = (labels == column).nonzero().squeeze(1)
        if len(rows) < 2:
            return None
        order = torch.randperm(len(rows), generator=generator).to(rows.device)
        folds[rows[order]] = torch.arange(len(rows), device=rows.device) % FOLDS
    return folds


BEST = Method(
    name="best",
    title="best statistics head",
    prepare=prepare,
    settings=BestSettings,
    head=BestHead,
    by_settings=by_settings,
)
