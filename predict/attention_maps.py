"""What the attention maps of one clip show: where a class draws on, and how far the maps drifted.

Pure functions. Letters: T time (tubelets), S space (patches), D width, C classes seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from avcil.train.methods.losses import spatial_attention_distillation, temporal_attention_distillation
from avcil.train.network.attention import Attended
from avcil.train.network.model import AudioVisualNetwork, NetworkOutput

Reduction = Literal["class", "mean"]


@dataclass(frozen=True)
class ReducedMaps:
    """Attention with one weight per position and moment, instead of one per channel.

    Attributes:
        spatial: [T, S], sums to 1 over S.
        temporal: [T], sums to 1.
    """

    spatial: Tensor
    temporal: Tensor


@dataclass(frozen=True)
class Drift:
    """How far maps have moved from earlier ones, in nats; 0 where they are the same."""

    spatial: float
    temporal: float


@torch.no_grad()
def channel_contributions(network: AudioVisualNetwork, output: NetworkOutput, column: int) -> Tensor:
    """What each channel of the pooled tokens adds to the score of a class, [D]: gradient times input.

    score_c = sum_k w_ck relu(u_k) + (what sound adds), u = W pooled + b, so

        contribution_d = pooled_d * sum_k w_ck [u_k > 0] W_kd

    and their sum over d is the picture's part of the score, but for what the biases b add.

    Args:
        network: audio-visual with attention and a linear classifier.
        output: its output on one clip (B = 1).
        column: c.
    """
    assert isinstance(network.classifier, nn.Linear) and output.pooled is not None
    assert output.visual is not None
    open_gates = (output.visual[0] > 0).to(network.dtype)
    gradient = (network.classifier.weight[column] * open_gates) @ network.visual_projection.weight
    return output.pooled[0] * gradient


def channel_weights(network: AudioVisualNetwork, output: NetworkOutput, column: int | None) -> Tensor:
    """Weights of the channels, [D], positive or 0 with sum 1.

    Of a class (`column`): the positive part of its `channel_contributions`, the channels that speak for it.
    Where there are none, and for `column` None: all the same, the plain mean.
    """
    assert output.pooled is not None
    uniform = torch.ones_like(output.pooled[0]) / output.pooled.shape[1]
    if column is None:
        return uniform
    speaking = channel_contributions(network, output, column).clamp(min=0)
    total = speaking.sum()
    return speaking / total if total > 0 else uniform


def reduce_maps(maps: Attended, weights: Tensor) -> ReducedMaps:
    """The mean of the channels' maps under `weights` [D], of one clip (B = 1)."""
    return ReducedMaps(maps.spatial[0] @ weights, maps.temporal[0] @ weights)


def drift(old: Attended, new: Attended) -> Drift:
    """KL(old || new) of the maps of one clip, per channel, as AV-CIL's distillation measures it.

        spatial  = mean over T, D of sum over S of old_s * log(old_s / new_s)
        temporal = mean over D of sum over T of old_t * log(old_t / new_t)

    (AV-CIL, section 3.4, sums over T and D where this takes the mean.)
    """
    _, frames, _, width = old.spatial.shape
    spatial = spatial_attention_distillation(new.spatial.double(), old.spatial.double())
    temporal = temporal_attention_distillation(new.temporal.double(), old.temporal.double())
    return Drift(spatial.item() / (frames * width), temporal.item() / width)
