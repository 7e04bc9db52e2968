"""Owns random weights: for trying the plumbing, and for the small encoders of the demo."""

from __future__ import annotations

import torch
from torch import nn

RANDOM_SEED = 0


def fill_random(module: nn.Module, gain: float = 1.0, seed: int = RANDOM_SEED) -> str:
    """Draw every weight anew, always the same for a seed, and say so in words.

    Matrices are normal with deviation gain / sqrt(fan-in); a gain of 1 keeps a signal's size. Biases are 0,
    norms the identity, single vectors (the class token) normal with deviation 0.02.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        with torch.no_grad():
            if parameter.ndim == 2:
                parameter.normal_(0, gain * parameter.shape[1] ** -0.5, generator=generator)
            elif name == "class_token":
                parameter.normal_(0, 0.02, generator=generator)
            else:
                parameter.fill_(float("norm" in name and name.endswith("weight")))
    return f"random (seed {seed})"


STRENGTH = 3.0  # of random patch filters against the positions added to them


def see_contrast(embed: nn.Linear, channels: int) -> None:
    """Make random patch filters strong, and blind to a patch's mean colour.

    Else brightness and place, not form, fill random tokens: with this, on the demo's moving patterns, a
    linear probe of the mean token rises from 0.65 to 0.83.
    """
    with torch.no_grad():
        filters = embed.weight.view(len(embed.weight), channels, -1)
        embed.weight.copy_(STRENGTH * (filters - filters.mean(2, keepdim=True)).flatten(1))


def hear_loudly(embed: nn.Linear) -> None:
    """Make random patch filters strong; a patch's mean is its loudness and stays.

    Else place, the same in every clip, fills the mean token: with this, clips differ twice as much from each
    other on the demo's sounds.
    """
    with torch.no_grad():
        embed.weight.mul_(STRENGTH)
