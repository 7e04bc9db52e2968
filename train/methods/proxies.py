"""Proxies: an output layer whose classes are a few points on the sphere each (PODNet; AFC).

Letters: B batch, D width, C classes seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from avcil.train.methods.head import NetworkHead
from avcil.train.network.layers import OutputLayer

PROXIES_PER_CLASS = 10  # PODNet (Douillard et al., ECCV 2020), which AFC builds on


class ProxyLayer(OutputLayer):
    """Local similarity classifier.

    The proxies of the classes of earlier steps are frozen. `scale` multiplies the scores in AFC's loss only
    and is learned with the rest.
    """

    def __init__(self, width: int, classes: int, old_classes: int = 0) -> None:
        super().__init__()
        self.in_features, self.out_features = width, classes
        self.old = nn.Parameter(torch.zeros(PROXIES_PER_CLASS * old_classes, width), requires_grad=False)
        self.new = nn.Parameter(torch.randn(PROXIES_PER_CLASS * (classes - old_classes), width) * width**-0.5)
        self.scale = nn.Parameter(torch.ones(()))

    @property
    def proxies(self) -> Tensor:
        """All proxies [10 C, D]; class c owns rows 10 c to 10 c + 9."""
        return torch.cat([self.old, self.new])

    def forward(self, fused: Tensor) -> Tensor:
        """Scores [B, C]: the negative squared distances on the sphere, softmax-weighted within a class."""
        feature, proxies = F.normalize(fused, dim=1), F.normalize(self.proxies, dim=1)
        lengths = feature.square().sum(dim=1, keepdim=True) + proxies.square().sum(dim=1)
        similarity = -(lengths - 2 * feature @ proxies.T).clamp(min=0)
        by_class = rearrange(similarity, "b (c p) -> b c p", p=PROXIES_PER_CLASS)
        return (by_class.softmax(dim=2) * by_class).sum(dim=2)

    @torch.no_grad()
    def grown(self, new: OutputLayer) -> ProxyLayer:
        """The proxies here are frozen; the scale begins at 1 again."""
        assert isinstance(new, ProxyLayer)
        layer = ProxyLayer(self.in_features, self.out_features + new.out_features, self.out_features)
        layer.to(self.new).old.copy_(self.proxies)
        layer.new.copy_(new.proxies)
        return layer


@dataclass(frozen=True)
class ProxyHead(NetworkHead):
    """The scores of proxies: distances, not probabilities."""

    log_probabilities: ClassVar[bool] = False
