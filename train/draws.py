"""Owns the random choices of training, weights and batch orders; knows shapes and sizes only.

Each draw has a generator of its own, derived from the seed and from what is drawn, so nothing depends on
what was drawn before: a run that was interrupted continues with the same numbers.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from avcil.train.model import AudioVisualNetwork, NetworkShape

_NETWORK, _ROWS, _CURRENT, _EXEMPLARS = range(4)


class Draws:
    """Initial weights, new classifier rows and batch orders.

    Subclass it to inject what another program drew.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def network(self, step: int, shape: NetworkShape) -> AudioVisualNetwork:
        """A freshly initialised network (torch's default initialisation of its layers), on the CPU."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._derive(_NETWORK, step))
            return AudioVisualNetwork(shape)

    def new_rows(self, step: int, width: int, classes: int) -> nn.Linear:
        """Weights [classes, width] and biases for the classes that arrive at `step`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._derive(_ROWS, step))
            return nn.Linear(width, classes)

    def order(self, step: int, epoch: int, size: int, which: Literal["current", "exemplars"]) -> Tensor:
        """A permutation [size] of the current clips or of the exemplars for one epoch."""
        generator = torch.Generator()
        generator.manual_seed(self._derive(_CURRENT if which == "current" else _EXEMPLARS, step, epoch))
        return torch.randperm(size, generator=generator)

    def _derive(self, *purpose: int) -> int:
        return int(np.random.SeedSequence([self._seed, *purpose]).generate_state(1, np.uint64)[0] >> 1)
