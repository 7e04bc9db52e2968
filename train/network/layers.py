"""Output layers: from a fused feature to one score per class, growing with the steps.

Letters: B batch, D width, C classes seen.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn


class OutputLayer(nn.Module):
    """The last layer of a network, trained with it. Its constructor takes width, classes and old classes.

    Attributes:
        in_features: D.
        out_features: C.
    """

    in_features: int
    out_features: int

    @abstractmethod
    def grown(self, new: OutputLayer) -> OutputLayer:
        """One layer for the classes here and then those of `new`, where and in the precision this one is."""


class LinearLayer(nn.Linear, OutputLayer):
    """A weight row and a bias for each class; those of old classes go on learning."""

    def __init__(self, width: int, classes: int, old_classes: int = 0) -> None:
        super().__init__(width, classes)

    @torch.no_grad()
    def grown(self, new: OutputLayer) -> LinearLayer:
        """Rows and biases are kept as they are."""
        assert isinstance(new, LinearLayer)
        layer = LinearLayer(self.in_features, self.out_features + new.out_features).to(self.weight)
        layer.weight.copy_(torch.cat([self.weight, new.weight.to(self.weight)]))
        layer.bias.copy_(torch.cat([self.bias, new.bias.to(self.bias)]))
        return layer
