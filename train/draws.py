"""Random choices of training: weights, batch orders and a method's own.

Each draw has a generator of its own, derived from the seed and from what is drawn, so nothing depends on
what was drawn before: a run that was interrupted continues with the same numbers.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from avcil.train.network.layers import OutputLayer
from avcil.train.network.model import AudioVisualNetwork, NetworkShape

_NETWORK, _LAYER, _CURRENT, _EXEMPLARS, _METHOD = range(5)


class Draws:
    """Initial weights, output layers of new classes, batch orders and a generator for the method's own draws.

    Subclass it to inject what another program drew.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def network(self, step: int, shape: NetworkShape, layer: type[OutputLayer] | None) -> AudioVisualNetwork:
        """A freshly initialised network (torch's default initialisation of its layers), on the CPU."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._derive(_NETWORK, step))
            return AudioVisualNetwork(shape, layer)

    def new_layer(self, step: int, layer: type[OutputLayer], width: int, classes: int) -> OutputLayer:
        """A layer of the classes that arrive at `step`, to be appended to the one of the classes before."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._derive(_LAYER, step))
            return layer(width, classes)

    def order(self, step: int, epoch: int, size: int, which: Literal["current", "exemplars"]) -> Tensor:
        """A permutation [size] of the current clips or of the exemplars for one epoch."""
        generator = torch.Generator()
        generator.manual_seed(self._derive(_CURRENT if which == "current" else _EXEMPLARS, step, epoch))
        return torch.randperm(size, generator=generator)

    def generator(self, step: int) -> torch.Generator:
        """For what a method draws at a step's start, on the CPU."""
        return torch.Generator().manual_seed(self._derive(_METHOD, step))

    def _derive(self, *purpose: int) -> int:
        return int(np.random.SeedSequence([self._seed, *purpose]).generate_state(1, np.uint64)[0] >> 1)
