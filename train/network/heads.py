"""Owns the heads that turn a fused feature into one score per class, and how they grow; knows no loss.

Letters: B batch, D width, C classes seen.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

HeadKind = Literal["linear", "proxies"]

PROXIES_PER_CLASS = 10  # PODNet (Douillard et al., ECCV 2020), which AFC builds on


class ProxyHead(nn.Module):
    """Local similarity classifier: every class is a few points on the sphere (PODNet; AFC).

    The proxies of the classes of earlier steps are frozen. `scale` multiplies the scores in AFC's loss only
    and is learned with the rest.
    """

    def __init__(self, width: int, classes: int, frozen: int = 0) -> None:
        super().__init__()
        self.in_features, self.out_features = width, classes
        self.old = nn.Parameter(torch.zeros(PROXIES_PER_CLASS * frozen, width), requires_grad=False)
        self.new = nn.Parameter(torch.randn(PROXIES_PER_CLASS * (classes - frozen), width) * width**-0.5)
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


Head = nn.Linear | ProxyHead


def make_head(kind: HeadKind, width: int, classes: int, frozen: int = 0) -> Head:
    """A head with its default initialisation; `frozen` of its classes have frozen proxies."""
    return ProxyHead(width, classes, frozen) if kind == "proxies" else nn.Linear(width, classes)


@torch.no_grad()
def grown(old: Head, new: Head) -> Head:
    """One head for the classes of `old` and then those of `new`, where and in the precision `old` is.

    Linear rows and biases are kept as they are. Proxies of `old` are frozen, and the scale begins at 1 again.
    """
    classes = old.out_features + new.out_features
    if isinstance(old, ProxyHead):
        assert isinstance(new, ProxyHead)
        proxies = ProxyHead(old.in_features, classes, frozen=old.out_features).to(old.new)
        proxies.old.copy_(old.proxies)
        proxies.new.copy_(new.proxies)
        return proxies
    assert isinstance(new, nn.Linear)
    linear = nn.Linear(old.in_features, classes).to(old.weight)
    linear.weight.copy_(torch.cat([old.weight, new.weight.to(old.weight)]))
    linear.bias.copy_(torch.cat([old.bias, new.bias.to(old.bias)]))
    return linear
