"""Statistics heads: what they share. The clips of a step enter sums; scores are linear in features.

Letters: n clips, C classes, P features.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.train.methods.head import Head, NetworkHead
from avcil.train.methods.method import Objective, StepContext, cross_entropy_objective
from avcil.train.methods.statistics.features import blocks, standardiser, stream_features
from avcil.train.network.layers import LinearLayer
from avcil.train.network.model import AudioVisualNetwork
from avcil.train.tokens.batches import StepTokens


@dataclass(frozen=True)
class StatisticsHead(Head):
    """A head whose tensors are sums over the clips so far and the linear maps that follow from them.

    Its settings have at least `features` and `fusion`. Streams are the modalities under `late` fusion, or all
    of them as one under `joint`; the scores of all maps are added. While a step is added, its clips' features
    are in memory (8 P bytes a clip), and what they are mapped to for some clips at a time.

    Attributes:
        kept: the sums, what standardises features (`STREAM.shift`, `STREAM.scale`, from the clips of the
            first step), the seed of random maps and the solved maps (`MAP.weight` [C, P], `MAP.bias` [C]).
    """

    kept: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def restored(cls, settings: Any, kept: Mapping[str, Tensor]) -> StatisticsHead:
        """The head that kept these tensors with a step."""
        return cls(settings=settings, kept=kept)

    def state(self) -> dict[str, Tensor]:
        """All that is kept, by name."""
        return dict(self.kept)

    def while_training(self, context: StepContext) -> Head:
        """A network is chosen by its own scores; statistics are taken once it is frozen."""
        return NetworkHead()

    @torch.no_grad()
    def grow(self, context: StepContext) -> StatisticsHead:
        """This head with the current clips of a step added."""
        streams = self._streams(context.student, context.current.tokens)
        seed = context.config.training.seed
        return self.learned(streams, context.current.labels, context.classes, seed)

    @torch.no_grad()
    def scores(self, network: AudioVisualNetwork, tokens: StepTokens) -> Tensor:
        """Scores [n, C], in float64."""
        return self.scores_of(self._streams(network, tokens))

    def learned(self, streams: list[Tensor], labels: Tensor, classes: int, seed: int) -> StatisticsHead:
        """This head with the clips of a step added.

        Args:
            streams: [n, P] features of every stream, float64, not standardised.
            labels: [n] columns.
            classes: C, all classes seen, those of this step too.
            seed: of random maps, used with the first clips.
        """
        head = self if self.kept else self.begun(streams, labels, classes, seed)
        standardised = head.standardised(streams)
        kept = head.with_clips(standardised, labels, classes)
        return replace(head, kept=replace(head, kept=kept).solved(standardised, labels, classes))

    def scores_of(self, streams: list[Tensor]) -> Tensor:
        """Scores [n, C] of clips with these streams [n, P], not standardised."""
        return torch.cat([self.of_mapped(self.mapped(block)) for block in blocks(self.standardised(streams))])

    def begun(self, streams: list[Tensor], labels: Tensor, classes: int, seed: int) -> StatisticsHead:
        """The head before its first clip, which these are: what standardises each stream, and the seed."""
        kept = {"seed": torch.tensor(seed)}
        for index, x in enumerate(streams):
            kept[f"{index}.shift"], kept[f"{index}.scale"] = standardiser(x)
        return replace(self, kept=kept)

    def standardised(self, streams: list[Tensor]) -> list[Tensor]:
        """Streams [n, P] with mean 0 and deviation 1 over the clips of the first step."""
        return [
            (x - self.kept[f"{index}.shift"]) * self.kept[f"{index}.scale"] for index, x in enumerate(streams)
        ]

    @abstractmethod
    def with_clips(self, streams: list[Tensor], labels: Tensor, classes: int) -> dict[str, Tensor]:
        """All that is kept, with clips of these standardised streams [n, P] in the sums."""

    @abstractmethod
    def solved(self, streams: list[Tensor], labels: Tensor, classes: int) -> dict[str, Tensor]:
        """All that is kept, with the maps that follow from the sums; the step's clips are at hand."""

    def mapped(self, streams: list[Tensor]) -> list[Tensor]:
        """What each solved map acts on, of standardised streams; here the streams."""
        return streams

    def of_mapped(self, inputs: list[Tensor]) -> Tensor:
        """Scores [n, C] of clips from what `mapped` gives of them; here the solved maps' sum."""
        maps = [F.linear(x, self.kept[f"{k}.weight"], self.kept[f"{k}.bias"]) for k, x in enumerate(inputs)]
        return torch.stack(maps).sum(dim=0)

    def _streams(self, network: AudioVisualNetwork, tokens: StepTokens) -> list[Tensor]:
        return stream_features(network, tokens, self.settings.features, self.settings.fusion)


def prepare(context: StepContext) -> Objective | None:
    """Only features of a network are trained, and those at step 0 alone."""
    wanted = context.settings.features == "network" and context.step == 0
    return cross_entropy_objective(context) if wanted else None


def by_settings(settings: Any) -> Mapping[str, Any]:
    """The layer and the tokens that a statistics head's features need."""
    if settings.features == "network":
        return {"layer": LinearLayer, "visual": None}
    return {"layer": None, "visual": settings.features}
